//! The task that tells and listens. All decisions are made in [`board`](super::board); here are the streams.

use std::{io, sync::Arc};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _, stream::FuturesUnordered,
};
use libp2p::{PeerId, StreamProtocol};

use super::{
    ContentAvailable, Heard, Shared,
    message::{MAX_BATCH_BYTES, Notice, PROTOCOL, decode_batch, encode_batch},
};
use crate::{
    network::{
        IncomingStreams, Stream,
        peers::{PeerStreams, Peers},
    },
    platform::{
        BoxFuture, task,
        time::{Duration, sleep, timeout},
    },
};

/// How long one batch may take, either way.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Batches read at a time, one of each peer; a stream that comes then is reset.
const MAX_READING: usize = 32;
/// How long to wait when there is nothing to do: nothing happens without an event.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) fn spawn(streams: Arc<dyn PeerStreams>, incoming: IncomingStreams, shared: Arc<Shared>) {
    drop(task::spawn(run(streams, incoming, shared)));
}

type Telling = FuturesUnordered<BoxFuture<(PeerId, bool)>>;
type Reading = FuturesUnordered<BoxFuture<(PeerId, Vec<Notice>)>>;

async fn run(streams: Arc<dyn PeerStreams>, mut incoming: IncomingStreams, shared: Arc<Shared>) {
    let (mut telling, mut reading) = (Telling::new(), Reading::new());
    let mut watch = streams.peers();
    let mut reading_from: Vec<PeerId> = Vec::new();
    see(&shared, &watch.look());
    loop {
        let wait = {
            let mut state = shared.state();
            if state.news.is_none() {
                return;
            }
            let now = shared.now();
            for (peer, batch) in state.board.due(now) {
                let batch = encode_batch(batch.iter().map(|notice| &**notice));
                telling.push(tell(&streams, peer, batch));
            }
            state.board.deadline().map_or(IDLE, |at| at.saturating_sub(now))
        };
        tokio::select! {
            changed = watch.changed() => match changed {
                Some(peers) => see(&shared, &peers),
                None => break,
            },
            stream = incoming.next() => {
                let Some((peer, stream)) = stream else { break };
                let room = reading.len() < MAX_READING && !reading_from.contains(&peer);
                if room && shared.state().board.admit(peer, shared.now()) {
                    reading_from.push(peer);
                    reading.push(read(peer, stream));
                } else {
                    tracing::debug!(%peer, "notices that come too often are not read");
                }
            }
            Some((peer, succeeded)) = telling.next(), if !telling.is_empty() => {
                shared.state().board.told(&peer, succeeded, shared.now());
            }
            Some((peer, notices)) = reading.next(), if !reading.is_empty() => {
                reading_from.retain(|other| *other != peer);
                hear(&shared, peer, streams.peer_id(), notices);
            }
            () = shared.wake.notified() => {}
            () = sleep(wait) => {}
        }
    }
    shared.state().news = None;
}

/// Takes note of who is connected.
fn see(shared: &Shared, peers: &Peers) {
    let mut state = shared.state();
    state.board.retain(&|peer| peers.contains_key(peer));
    for (peer, info) in peers {
        if info.protocols.iter().any(|protocol| protocol == PROTOCOL) {
            state.board.connected(*peer);
        }
    }
}

/// What `own` has announced itself it need not hear.
fn hear(shared: &Shared, peer: PeerId, own: PeerId, mut notices: Vec<Notice>) {
    notices.retain(|notice| notice.source != own);
    let mut state = shared.state();
    for Notice { hash, source } in state.board.told_by(peer, notices, shared.now()) {
        state.tell_app(ContentAvailable { hash, source, heard: Heard::Peer(peer) });
    }
}

fn tell(streams: &Arc<dyn PeerStreams>, peer: PeerId, batch: Vec<u8>) -> BoxFuture<(PeerId, bool)> {
    let opening = streams.open_stream(peer, StreamProtocol::new(PROTOCOL));
    let telling = async move {
        let mut stream = opening.await.map_err(io::Error::other)?;
        stream.write_all(&batch).await?;
        stream.close().await?;
        // The other side closes when it has read all: a stream dropped earlier may lose its end.
        stream.read(&mut [0]).await.map(drop)
    };
    Box::pin(timeout(BATCH_TIMEOUT, telling).map(move |outcome| {
        let outcome = outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = &outcome {
            tracing::debug!(%peer, %error, "notices could not be told");
        }
        (peer, outcome.is_ok())
    }))
}

fn read(peer: PeerId, mut stream: Stream) -> BoxFuture<(PeerId, Vec<Notice>)> {
    Box::pin(async move {
        let said = timeout(BATCH_TIMEOUT, receive(&mut stream)).await;
        match said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(notices) => (peer, notices),
            Err(error) => {
                tracing::debug!(%peer, %error, "notices could not be read");
                (peer, Vec::new())
            }
        }
    })
}

async fn receive(stream: &mut Stream) -> io::Result<Vec<Notice>> {
    let (mut batch, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        if batch.len() + read > MAX_BATCH_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        batch.extend_from_slice(&piece[..read]);
    }
    let notices =
        decode_batch(&batch).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    // What was said counts even if the other is gone by now.
    let _ = stream.close().await;
    Ok(notices)
}
