//! Writing to one peer: over one stream, opened on demand and closed when idle.

use std::sync::Arc;

use bytes::Bytes;
use futures::AsyncWriteExt as _;
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::mpsc;

use super::Event;
use crate::{
    exchange::{
        answers::{Pace, SendError},
        bitswap::message::PROTOCOL,
    },
    network::{NetworkError, PeerStreams, Stream},
    platform::time::{self, Duration},
};

/// A stream on which nothing was sent for this long is closed: Helia aborts one after 10 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that must have been taken before the peer counts as stalled.
const PIECE: usize = 64 << 10;
/// Messages handed to a writer: one on its way, one behind it.
pub(super) const WRITE_QUEUE: usize = 2;

/// An encoded message.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub pieces: Vec<Bytes>,
    /// What the server counts of it.
    pub served: usize,
}

/// Why a message was not sent, and no other will be by this writer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Open(#[from] NetworkError),
    #[error(transparent)]
    Send(#[from] SendError),
}

pub(super) struct Writer {
    streams: Arc<dyn PeerStreams>,
    peer: PeerId,
    stream: Option<Stream>,
}

impl Writer {
    /// `stream`: one that is open already.
    pub(super) fn new(streams: Arc<dyn PeerStreams>, peer: PeerId, stream: Option<Stream>) -> Self {
        Self { streams, peer, stream }
    }

    /// Writes what comes until the driver lets go, or the first failure.
    pub(super) async fn run(
        mut self,
        number: u64,
        mut queue: mpsc::Receiver<Outgoing>,
        events: mpsc::Sender<Event>,
    ) {
        let peer = self.peer;
        while let Some(outgoing) = self.next(&mut queue).await {
            let event = match self.send(&outgoing.pieces).await {
                Ok(()) => Event::Written { peer, number, message: outgoing },
                Err(error) => Event::WriteFailed { peer, number, error },
            };
            let failed = matches!(event, Event::WriteFailed { .. });
            if events.send(event).await.is_err() || failed {
                return;
            }
        }
        self.close().await;
    }

    async fn next(&mut self, queue: &mut mpsc::Receiver<Outgoing>) -> Option<Outgoing> {
        if self.stream.is_some() {
            match time::timeout(IDLE_TIMEOUT, queue.recv()).await {
                Ok(next) => return next,
                Err(_) => self.close().await,
            }
        }
        queue.recv().await
    }

    async fn send(&mut self, pieces: &[Bytes]) -> Result<(), WriteError> {
        if let Some(stream) = &mut self.stream {
            match write(stream, pieces).await {
                Ok(()) => return Ok(()),
                // The other side may have had enough of an old stream. It sorts out what it gets
                // twice.
                Err(SendError::Io(_)) => self.stream = None,
                Err(error) => return Err(error.into()),
            }
        }
        let stream = self.streams.open_stream(self.peer, StreamProtocol::new(PROTOCOL)).await?;
        Ok(write(self.stream.insert(stream), pieces).await?)
    }

    async fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = time::timeout(CLOSE_TIMEOUT, stream.close()).await;
        }
    }
}

/// Each message at a pace of its own: it holds memory until it is taken.
async fn write(stream: &mut Stream, pieces: &[Bytes]) -> Result<(), SendError> {
    let mut pace = Pace::default();
    for part in pieces.iter().flat_map(|piece| piece.chunks(PIECE)) {
        pace.keep(part.len(), stream.write_all(part)).await?;
    }
    pace.keep(0, stream.flush()).await
}
