//! What can go wrong with an HTTP request.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Failed(String),
}
