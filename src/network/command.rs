//! What a handle asks of the event loop.

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::oneshot;

use super::{
    DialTarget,
    dht::{FindReply, ProvideReply, Providers},
    error::NetworkError,
    status::PeerInfo,
    streams::{IncomingStreams, OpenReply},
    topics,
    wanted::DialReply,
};

#[derive(Debug)]
pub enum Command {
    Dial {
        target: DialTarget,
        reply: DialReply,
    },
    OpenStream {
        peer: PeerId,
        protocol: StreamProtocol,
        reply: OpenReply,
    },
    Accept {
        protocol: StreamProtocol,
        reply: oneshot::Sender<Result<IncomingStreams, NetworkError>>,
    },
    FindProviders {
        key: Vec<u8>,
        limit: usize,
        reply: oneshot::Sender<Result<Providers, NetworkError>>,
    },
    Provide {
        key: Vec<u8>,
        reply: ProvideReply,
    },
    FindPeer {
        peer: PeerId,
        reply: FindReply,
    },
    ConnectedPeers {
        reply: oneshot::Sender<Vec<PeerInfo>>,
    },
    Supports {
        peer: PeerId,
        protocol: StreamProtocol,
        reply: oneshot::Sender<Option<bool>>,
    },
    Topics(topics::Request),
    Protect {
        peers: Vec<PeerId>,
        /// Or no longer.
        protect: bool,
        reply: oneshot::Sender<Result<(), NetworkError>>,
    },
    Nudge,
    Close {
        reply: oneshot::Sender<()>,
    },
}
