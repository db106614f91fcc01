//! What the exchange protocols see of the relay's swarm: [`PeerStreams`] by commands to the event loop. It opens streams
//! with those who are connected and dials nobody.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::{PeerId, StreamProtocol};
use tabpeer::network::peers::{PeerStreams, Peers, PeersWatch};
use tabpeer::network::streams::OpenReply;
use tabpeer::network::{IncomingStreams, NetworkError, Stream};
use tabpeer::platform::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that wait for the event loop; a caller beyond that waits in turn.
const COMMAND_QUEUE: usize = 64;

/// A handle to the event loop.
#[derive(Clone)]
pub struct RelayStreams {
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    peers: watch::Receiver<Arc<Peers>>,
}

/// What is asked of the event loop.
pub enum Command {
    Open {
        peer: PeerId,
        protocol: StreamProtocol,
        reply: OpenReply,
    },
    Accept {
        protocol: StreamProtocol,
        reply: oneshot::Sender<Result<IncomingStreams, NetworkError>>,
    },
    /// A client reads who is on its topics.
    Listen {
        client: PeerId,
        frames: mpsc::Sender<Bytes>,
    },
}

impl RelayStreams {
    pub fn new(
        peer: PeerId,
        peers: watch::Receiver<Arc<Peers>>,
    ) -> (Self, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(COMMAND_QUEUE);
        (Self { peer, commands, peers }, received)
    }

    pub fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }
}

impl PeerStreams for RelayStreams {
    fn open_stream(
        &self,
        peer: PeerId,
        protocol: StreamProtocol,
    ) -> BoxFuture<Result<Stream, NetworkError>> {
        let commands = self.commands.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let name = protocol.to_string();
            let command = Command::Open { peer, protocol, reply };
            commands.send(command).await.map_err(|_| NetworkError::Closed)?;
            answer.await.unwrap_or_else(|_| {
                let reason = "it was closed".to_owned();
                Err(NetworkError::ConnectionLost { peer, protocol: name, reason })
            })
        })
    }

    fn accept(&self, protocol: StreamProtocol) -> BoxFuture<Result<IncomingStreams, NetworkError>> {
        let commands = self.commands.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let command = Command::Accept { protocol, reply };
            commands.send(command).await.map_err(|_| NetworkError::Closed)?;
            answer.await.map_err(|_| NetworkError::Closed)?
        })
    }

    fn peers(&self) -> PeersWatch {
        PeersWatch::new(self.peers.clone())
    }

    fn peer_id(&self) -> PeerId {
        self.peer
    }
}
