//! Why a call fails.

use libp2p::PeerId;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectError {
    /// Here: one cannot start a protocol twice, or one that this peer itself speaks.
    #[error("the protocol {protocol} is started already")]
    AlreadyStarted { protocol: String },
    #[error("{name:?} cannot be a protocol's name: {reason}")]
    BadProtocol { name: String, reason: &'static str },
    /// More waits to be sent, or is started, than this peer holds.
    #[error("too many {what} at once, at most {limit}")]
    Busy { what: &'static str, limit: usize },
    #[error("the network was closed")]
    Closed,
    #[error("the message is not JSON: {reason}")]
    NotJson { reason: String },
    #[error("the message has {len} bytes, at most {max}")]
    TooLarge { len: usize, max: usize },
    /// The other side took the message's bytes, but nobody there took the message.
    #[error("peer {peer} did not acknowledge the message for {protocol} in {attempts} attempts")]
    Unacknowledged { peer: PeerId, protocol: String, attempts: u32 },
    #[error("peer {peer} could not be reached for {protocol} in {attempts} attempts: {reason}")]
    Unreachable { peer: PeerId, protocol: String, attempts: u32, reason: String },
    /// There: the other side has not started it.
    #[error("peer {peer} does not speak {protocol}")]
    Unsupported { peer: PeerId, protocol: String },
}
