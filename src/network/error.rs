//! What can go wrong between two peers.

use libp2p::{Multiaddr, PeerId};

use crate::platform::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The network was closed, before or during the call.
    #[error("the network was closed")]
    Closed,
    #[error("the peer {peer} could not be reached at {} ({reason})", tried_text(.tried))]
    PeerUnreachable { peer: PeerId, tried: Vec<Multiaddr>, reason: String },
    #[error("nobody could be reached at {address} ({reason})")]
    AddressUnreachable { address: Multiaddr, reason: String },
    #[error("{0} is this peer itself")]
    DialSelf(PeerId),
    #[error("the peer {peer} does not speak {protocol}")]
    UnsupportedProtocol { peer: PeerId, protocol: String },
    #[error("the peer {peer} did not answer for {protocol} within {after:?}")]
    StreamTimeout { peer: PeerId, protocol: String, after: Duration },
    #[error("the connection with {peer} broke while a stream for {protocol} was opened: {reason}")]
    ConnectionLost { peer: PeerId, protocol: String, reason: String },
    #[error("{protocol} is accepted already")]
    AlreadyAccepted { protocol: String },
    /// Neither here nor in the DHT.
    #[error("nobody knows where the peer {peer} is")]
    PeerNotFound { peer: PeerId },
    #[error("the DHT was not told: {reason}")]
    NotAnnounced { reason: String },
    /// A bound of this peer, not of the other.
    #[error("too many {what} at once, at most {limit}")]
    TooMany { what: &'static str, limit: usize },
    #[error("{spec:?} is not a relay's address or URL: {reason}")]
    InvalidRelay { spec: String, reason: String },
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: Multiaddr, reason: String },
    #[error("the network cannot be set up: {0}")]
    Setup(String),
}

fn tried_text(tried: &[Multiaddr]) -> String {
    if tried.is_empty() {
        return "no address, none is known".to_owned();
    }
    tried.iter().map(Multiaddr::to_string).collect::<Vec<_>>().join(", ")
}
