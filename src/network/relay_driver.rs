//! Does what the relay keeper decides.

use std::collections::VecDeque;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use tokio::sync::oneshot;

use super::{
    address,
    config::PROBE_TIMEOUT,
    error::NetworkError,
    event_loop::{EventLoop, Purpose},
    relay_keeper::{RelayAction, RelayEvent, RelayIndex},
    relay_record::{MAX_RECORD_BYTES, RECORD_PATH, RelayRecord},
    streams::Stream,
};
use crate::platform::{
    self, Dialer,
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
                    Ok(listener) => drop(self.listeners.insert(listener, relay)),
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

    fn probe(&mut self, peer: PeerId) {
        let Some((connection, _)) = self.connections.direct(peer) else { return };
        let (reply, answer) = oneshot::channel();
        self.swarm.behaviour_mut().streams.open(peer, connection, PING_PROTOCOL, reply);
        self.probes.spawn(async move {
            let lives = match time::timeout(PROBE_TIMEOUT, answer).await {
                Ok(Ok(Ok(stream))) => {
                    matches!(time::timeout(PROBE_TIMEOUT, echo(stream)).await, Ok(Ok(())))
                }
                // It answers, if only to say that it does not speak ping.
                Ok(Ok(Err(NetworkError::UnsupportedProtocol { .. }))) => true,
                _ => false,
            };
            (connection, lives)
        });
    }
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
