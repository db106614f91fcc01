//! The task that tells and listens. All decisions are made in [`announce`](super::announce) and
//! [`told`](super::told); here are the streams.

use std::{io, sync::Arc};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _, stream::FuturesUnordered,
};
use libp2p::{PeerId, StreamProtocol};

use super::{
    PROTOCOL, PeerCapabilities, Shared,
    message::{self, MessageError},
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

/// How long one message may take, either way.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages read at a time; a peer that comes then is reset and tries again.
const MAX_READING: usize = 32;
/// How often those who left are looked through, if nothing else happens.
const EXPIRE: Duration = Duration::from_secs(60);

pub(super) fn spawn(streams: Arc<dyn PeerStreams>, incoming: IncomingStreams, shared: Arc<Shared>) {
    drop(task::spawn(run(streams, incoming, shared)));
}

type Telling = FuturesUnordered<BoxFuture<(PeerId, bool)>>;
type Reading = FuturesUnordered<BoxFuture<(PeerId, Option<PeerCapabilities>)>>;

async fn run(streams: Arc<dyn PeerStreams>, mut incoming: IncomingStreams, shared: Arc<Shared>) {
    let (mut telling, mut reading) = (Telling::new(), Reading::new());
    let mut watch = streams.peers();
    let mut reading_from: Vec<PeerId> = Vec::new();
    see(&shared, &watch.current());
    loop {
        let wait = {
            let mut state = shared.state();
            if state.ended {
                return;
            }
            let now = shared.now();
            let due = state.announcements.due(now);
            if !due.is_empty() {
                let message: Arc<[u8]> = state.message().into();
                telling.extend(due.into_iter().map(|peer| tell(&streams, peer, message.clone())));
            }
            let deadline = state.announcements.deadline();
            deadline.map_or(EXPIRE, |at| at.saturating_sub(now).min(EXPIRE))
        };
        tokio::select! {
            changed = watch.changed() => match changed {
                Some(peers) => see(&shared, &peers),
                None => break,
            },
            stream = incoming.next() => {
                let Some((peer, stream)) = stream else { break };
                let room = reading.len() < MAX_READING && !reading_from.contains(&peer);
                if room && shared.state().told.admit(peer, shared.now()) {
                    reading_from.push(peer);
                    reading.push(read(peer, stream));
                } else {
                    tracing::debug!(%peer, "capabilities sent too often are not read");
                }
            }
            Some((peer, succeeded)) = telling.next(), if !telling.is_empty() => {
                shared.state().announcements.told(&peer, succeeded, shared.now());
            }
            Some((peer, said)) = reading.next(), if !reading.is_empty() => {
                reading_from.retain(|other| *other != peer);
                if said.is_some_and(|said| shared.state().told.receive(peer, said)) {
                    shared.heard.send_modify(|heard| *heard += 1);
                }
            }
            () = shared.wake.notified() => {}
            () = sleep(wait) => shared.state().told.expire(shared.now()),
        }
    }
    shared.state().ended = true;
}

/// Takes note of who is connected.
fn see(shared: &Shared, peers: &Peers) {
    let mut state = shared.state();
    let now = shared.now();
    state.announcements.retain(&|peer| peers.contains_key(peer));
    state.told.retain(&|peer| peers.contains_key(peer), now);
    for (peer, info) in peers {
        if info.protocols.iter().any(|protocol| protocol == PROTOCOL) {
            state.told.connected(*peer, now);
            // A filter could use up what a limited circuit may carry.
            if !info.limited {
                state.announcements.connected(*peer);
            }
        }
    }
}

fn tell(
    streams: &Arc<dyn PeerStreams>,
    peer: PeerId,
    message: Arc<[u8]>,
) -> BoxFuture<(PeerId, bool)> {
    let opening = streams.open_stream(peer, StreamProtocol::new(PROTOCOL));
    let telling = async move {
        let mut stream = opening.await.map_err(io::Error::other)?;
        stream.write_all(&message).await?;
        stream.close().await?;
        // The other side closes when it has read all: a stream dropped earlier may lose its end.
        stream.read(&mut [0]).await.map(drop)
    };
    Box::pin(timeout(MESSAGE_TIMEOUT, telling).map(move |outcome| {
        let outcome = outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = &outcome {
            tracing::debug!(%peer, %error, "capabilities could not be told");
        }
        (peer, outcome.is_ok())
    }))
}

fn read(peer: PeerId, mut stream: Stream) -> BoxFuture<(PeerId, Option<PeerCapabilities>)> {
    Box::pin(async move {
        let said = timeout(MESSAGE_TIMEOUT, receive(&mut stream)).await;
        match said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(said) => (peer, Some(said)),
            Err(error) => {
                tracing::debug!(%peer, %error, "capabilities could not be read");
                (peer, None)
            }
        }
    })
}

async fn receive(stream: &mut Stream) -> io::Result<PeerCapabilities> {
    let bad = |error: MessageError| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut header = Vec::new();
    let len = loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        header.extend_from_slice(&byte);
        if let Some((len, _)) = message::frame(&header).map_err(bad)? {
            break len;
        }
    };
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    let said = PeerCapabilities::decode(&body).map_err(bad)?;
    // What was said counts even if the other is gone by now.
    let _ = stream.close().await;
    Ok(said)
}
