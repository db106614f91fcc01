//! Writing to one peer: over one stream, opened on demand and closed when idle.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::AsyncWriteExt as _;
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::mpsc;

use super::{Event, STALL_TIMEOUT};
use crate::{
    exchange::bitswap::message::PROTOCOL,
    network::{NetworkError, PeerStreams, Stream},
    platform::time::{self, Duration},
};

/// A stream on which nothing was sent for this long is closed: Helia aborts one after 10 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that must have been taken within [`STALL_TIMEOUT`].
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
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    #[error("nothing was taken for {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
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
                Err(WriteError::Stalled) => return Err(WriteError::Stalled),
                // The other side may have had enough of an old stream. It sorts out what it gets
                // twice.
                Err(_) => self.stream = None,
            }
        }
        let stream = self.streams.open_stream(self.peer, StreamProtocol::new(PROTOCOL)).await?;
        write(self.stream.insert(stream), pieces).await
    }

    async fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = time::timeout(CLOSE_TIMEOUT, stream.close()).await;
        }
    }
}

async fn write(stream: &mut Stream, pieces: &[Bytes]) -> Result<(), WriteError> {
    let parts = pieces.iter().flat_map(|piece| piece.chunks(PIECE));
    for part in parts {
        timed(stream.write_all(part)).await?;
    }
    timed(stream.flush()).await
}

async fn timed(work: impl Future<Output = io::Result<()>>) -> Result<(), WriteError> {
    time::timeout(STALL_TIMEOUT, work).await.map_err(|_| WriteError::Stalled)?.map_err(Into::into)
}
