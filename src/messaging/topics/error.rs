//! Why a call fails.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    #[error("{name:?} cannot be a topic: {reason}")]
    BadTopic { name: String, reason: &'static str },
    #[error("the network was closed")]
    Closed,
    #[error("the message is not JSON: {reason}")]
    NotJson { reason: String },
    #[error("the message has {len} bytes, at most {max}")]
    TooLarge { len: usize, max: usize },
    /// A bound of this peer.
    #[error("too many {what} at once, at most {limit}")]
    TooMany { what: &'static str, limit: usize },
    #[error("the message was not published: {reason}")]
    NotPublished { reason: String },
}
