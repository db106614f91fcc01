//! Does what the relay keeper decides.

use std::collections::VecDeque;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{
    address,
    config::{MAX_PROBES, PROBE_TIMEOUT},
    error::NetworkError,
    event_loop::{EventLoop, Purpose},
    relay_keeper::{RelayAction, RelayEvent, RelayIndex},
    relay_record::{MAX_RECORD_BYTES, RECORD_PATH, RelayRecord},
    streams::Stream,
};
use crate::platform::{
    self, BoxFuture, Dialer,
    time::{self, Duration},
};

/// How long a relay's record may take to come.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// What a probe of a relay speaks: 32 bytes there and back.
const PING_PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// Who a relay is and where it can be dialled from here, best first.
pub(super) type RecordResult = Result<(PeerId, Vec<Multiaddr>), String>;

impl EventLoop {
    /// Performs what the keeper decided, and what it decides because of that.
    pub(super) fn perform(&mut self, actions: Vec<RelayAction>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            if let Some((relay, event)) = self.perform_one(action) {
                actions.extend(self.keeper.handle(relay, event, self.now()));
            }
        }
        // A relay that came may know a wanted peer; if the last one failed, nobody will.
        for peer in self.wanted.idle() {
            self.pursue(peer);
        }
    }

    pub(super) fn relay_event(&mut self, relay: RelayIndex, event: RelayEvent) {
        let actions = self.keeper.handle(relay, event, self.now());
        self.perform(actions);
    }

    fn perform_one(&mut self, action: RelayAction) -> Option<(RelayIndex, RelayEvent)> {
        match action {
            RelayAction::FetchRecord { relay, url } => {
                let fetch = fetch_record(url, self.dialer);
                self.fetches.spawn(async move { (relay, fetch.await) });
            }
            RelayAction::Dial { relay, attempt, peer, address } => {
                if let Some((connection, address)) = peer.and_then(|p| self.connections.direct(p)) {
                    let peer = peer?;
                    return Some((
                        relay,
                        RelayEvent::Connected { peer, address, connection, shared: true },
                    ));
                }
                let options = match peer {
                    Some(peer) => DialOpts::peer_id(peer)
                        .condition(PeerCondition::Always)
                        .addresses(vec![address.clone()])
                        .build(),
                    None => DialOpts::unknown_peer_id().address(address.clone()).build(),
                };
                let id = options.connection_id();
                if let Err(e) = self.swarm.dial(options) {
                    let reason = e.to_string();
                    return Some((relay, RelayEvent::DialFailed { attempt, reason }));
                }
                self.dials.insert(id, Purpose::Relay { relay, attempt, address });
            }
            RelayAction::Listen { relay, peer, address } => {
                match self.swarm.listen_on(address::circuit(&address, peer)) {
                    Ok(listener) => {
                        // A listener before it may only now come to its end, or to its reservation, and
                        // that is no word on this one.
                        self.listeners.retain(|_, of| *of != relay);
                        self.listeners.insert(listener, relay);
                    }
                    Err(e) => {
                        let reason = e.to_string();
                        return Some((relay, RelayEvent::ReservationLost { reason }));
                    }
                }
            }
            RelayAction::CloseConnection { connection } => {
                self.swarm.close_connection(connection);
            }
            RelayAction::Disconnect { peer } => {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            RelayAction::Probe { peer, .. } => self.probe(peer),
        }
        None
    }

    /// Finds out whether the connection that is used with the peer still lives.
    pub(super) fn probe(&mut self, peer: PeerId) {
        let Some(connection) = self.connections.best(peer) else { return };
        if self.probing.contains(&connection) || self.probing.len() >= MAX_PROBES {
            return;
        }
        self.probing.push(connection);
        let (reply, answer) = oneshot::channel();
        self.swarm.behaviour_mut().streams.open(peer, connection, PING_PROTOCOL, reply);
        let answers = Box::pin(async move {
            match answer.await {
                Ok(Ok(stream)) => echo(stream).await.is_ok(),
                // It answers, if only to say that it does not speak ping.
                Ok(Err(NetworkError::UnsupportedProtocol { .. })) => true,
                _ => false,
            }
        });
        let probe = in_time(answers, platform::unix_time);
        self.probes.spawn(async move { (connection, probe.await) });
    }

    pub(super) fn probed(&mut self, connection: ConnectionId, lives: bool) {
        self.probing.retain(|probed| *probed != connection);
        if !lives {
            tracing::debug!(%connection, "closing a connection that does not answer a probe");
            self.swarm.close_connection(connection);
        }
    }
}

/// Whether a probe is answered within [`PROBE_TIMEOUT`]. If the timer came so late that the page must
/// have been stopped meanwhile, the answer may stand right behind it and is given as long again.
async fn in_time(mut answers: BoxFuture<bool>, time_of_day: fn() -> Duration) -> bool {
    for _ in 0..2 {
        let asked = time_of_day();
        if let Ok(lives) = time::timeout(PROBE_TIMEOUT, &mut answers).await {
            return lives;
        }
        if time_of_day().saturating_sub(asked) < 2 * PROBE_TIMEOUT {
            return false;
        }
    }
    false
}

async fn fetch_record(url: String, dialer: Dialer) -> RecordResult {
    let url = format!("{url}{RECORD_PATH}");
    let text = platform::http_get(url.clone(), MAX_RECORD_BYTES, RECORD_TIMEOUT)
        .await
        .map_err(|e| format!("{url}: {e}"))?;
    let record = RelayRecord::parse(&text, platform::unix_time().as_secs())
        .map_err(|e| format!("{url}: {e}"))?;
    Ok((record.peer, record.usable_addresses(dialer)))
}

async fn echo(mut stream: Stream) -> std::io::Result<()> {
    let mut bytes = [0x5a; 32];
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    stream.read_exact(&mut bytes).await?;
    stream.close().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Answers a while after the time-out.
    fn late() -> BoxFuture<bool> {
        Box::pin(async {
            time::sleep(PROBE_TIMEOUT + Duration::from_secs(1)).await;
            true
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_slept_through_is_given_as_long_again() {
        static HOUR: AtomicU64 = AtomicU64::new(0);
        let asleep = || Duration::from_secs(3600 * HOUR.fetch_add(1, Ordering::Relaxed));
        assert!(in_time(late(), asleep).await);
        assert!(!in_time(Box::pin(std::future::pending()), asleep).await, "not for ever");
        assert!(!in_time(late(), || Duration::ZERO).await);
    }
}
