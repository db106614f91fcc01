//! The one task that owns the swarm: takes commands, drives the relay keeper, publishes the status.
//! What the swarm reports is handled in [`swarm_events`](super::swarm_events).

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    pin::Pin,
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm,
    core::transport::ListenerId,
    relay,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    DialTarget,
    address::{self, Dialer},
    address_book::AddressBook,
    behaviour::Behaviour,
    command::Command,
    config::{
        CLOSE_TIMEOUT, IDLE_TIMEOUT, MAX_NEGOTIATING_STREAMS, NetworkConfig, PROBE_TIMEOUT,
        TRANSPORT_TIMEOUT,
    },
    connections::Connections,
    error::NetworkError,
    relay_keeper::{RelayAction, RelayEvent, RelayIndex, RelayKeeper, RelayPhase},
    relay_record::{MAX_RECORD_BYTES, RECORD_PATH, RelayRecord},
    status::{RelayState, RelayStatus, Status},
    streams::Stream,
    wanted::{DialReply, Waiter, Wanted},
};
use crate::platform::{
    self,
    task::JoinSet,
    time::{self, Duration, Instant},
    transport,
};

/// How often calls that were given up are looked for while a peer is wanted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a relay's record may take to come.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// What a probe of a relay speaks: 32 bytes there and back.
const PING_PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

pub struct EventLoop {
    pub(super) swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    pub(super) keeper: RelayKeeper,
    pub(super) connections: Connections,
    pub(super) wanted: Wanted,
    pub(super) book: AddressBook,
    pub(super) dialer: Dialer,
    /// Why each dial of ours was made.
    pub(super) dials: HashMap<ConnectionId, Purpose>,
    /// For which relay each circuit is listened on.
    pub(super) listeners: HashMap<ListenerId, RelayIndex>,
    fetches: JoinSet<(RelayIndex, RecordResult)>,
    probes: JoinSet<(ConnectionId, bool)>,
    started: Instant,
    /// The relays as they stand in the configuration.
    specs: Vec<String>,
    status: watch::Sender<Status>,
    timer: Option<(Instant, Pin<Box<time::Sleep>>)>,
}

type RecordResult = Result<(PeerId, Vec<Multiaddr>), String>;

/// Why a dial was made.
#[derive(Debug)]
pub(super) enum Purpose {
    Relay { relay: RelayIndex, attempt: u32, address: Multiaddr },
    Peer(PeerId),
    Address { address: Multiaddr, reply: DialReply },
}

impl EventLoop {
    pub fn new(
        config: NetworkConfig,
        commands: mpsc::Receiver<Command>,
    ) -> Result<(Self, watch::Receiver<Status>), NetworkError> {
        let peer = config.keypair.public().to_peer_id();
        let dialer = platform::dialer();
        let (circuits, relay_client) = relay::client::new(peer);
        let transport = transport::transport(&config.keypair, circuits, TRANSPORT_TIMEOUT)
            .map_err(|e| NetworkError::Setup(e.to_string()))?;
        let behaviour = Behaviour::new(&config, relay_client)?;
        let swarm_config = platform::swarm_config()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS);
        let mut swarm = Swarm::new(transport, behaviour, peer, swarm_config);
        for address in config.listen {
            swarm
                .listen_on(address.clone())
                .map_err(|e| NetworkError::Listen { address, reason: e.to_string() })?;
        }

        let targets = config.relays.iter().map(|spec| spec.target(dialer)).collect();
        let (status, receiver) = watch::channel(Status::default());
        let event_loop = Self {
            swarm,
            commands,
            keeper: RelayKeeper::new(targets, seed(peer)),
            connections: Connections::default(),
            wanted: Wanted::default(),
            book: AddressBook::new(dialer),
            dialer,
            dials: HashMap::new(),
            listeners: HashMap::new(),
            fetches: JoinSet::new(),
            probes: JoinSet::new(),
            started: Instant::now(),
            specs: config.relays.iter().map(ToString::to_string).collect(),
            status,
            timer: None,
        };
        event_loop.publish();
        Ok((event_loop, receiver))
    }

    pub async fn run(mut self) {
        let closed = loop {
            self.tick();
            self.publish();
            self.set_timer();
            let timer = self.timer.as_mut().map(|(_, sleep)| sleep.as_mut());
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Close { reply }) => break Some(reply),
                    Some(command) => self.on_command(command),
                    // The last handle is gone.
                    None => break None,
                },
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                Some(result) = self.fetches.join_next(), if !self.fetches.is_empty() => {
                    if let Ok((relay, result)) = result {
                        self.relay_event(relay, RelayEvent::Record(result));
                    }
                }
                Some(result) = self.probes.join_next(), if !self.probes.is_empty() => {
                    if let Ok((connection, false)) = result {
                        self.swarm.close_connection(connection);
                    }
                }
                () = async { match timer { Some(sleep) => sleep.await, None => pending().await } } => {
                    self.timer = None;
                }
            }
        };
        self.shut_down(closed).await;
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { target, reply } => self.dial(target, reply),
            Command::OpenStream { peer, protocol, reply } => {
                self.want(peer, None, Waiter::Stream(protocol, reply));
            }
            Command::Accept { protocol, reply } => {
                let _ = reply.send(self.swarm.behaviour_mut().streams.accept(protocol));
            }
            Command::ConnectedPeers { reply } => {
                let keeper = &self.keeper;
                let _ = reply.send(self.connections.infos(|peer| keeper.index_of(peer).is_some()));
            }
            Command::Supports { peer, protocol, reply } => {
                let _ = reply.send(self.connections.supports(peer, &protocol));
            }
            Command::Disconnect { peer, reply } => {
                let _ = self.swarm.disconnect_peer_id(peer);
                let _ = reply.send(());
            }
            Command::Nudge => {
                let actions = self.keeper.nudge(self.now());
                self.perform(actions);
            }
            // Handled where the loop can be left.
            Command::Close { .. } => {}
        }
    }

    fn dial(&mut self, target: DialTarget, reply: DialReply) {
        let address = match target {
            DialTarget::Peer(peer) => return self.want(peer, None, Waiter::Dial(reply)),
            DialTarget::Address(address) => address,
        };
        if self.dialer.rank(&address).is_none() {
            let reason = "it cannot be dialled from here".to_owned();
            let _ = reply.send(Err(NetworkError::AddressUnreachable { address, reason }));
            return;
        }
        if let Some(peer) = address::peer_of(&address) {
            return self.want(peer, Some(address), Waiter::Dial(reply));
        }
        let options = DialOpts::unknown_peer_id().address(address.clone()).build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(id, Purpose::Address { address, reply })),
            Err(e) => {
                let reason = e.to_string();
                let _ = reply.send(Err(NetworkError::AddressUnreachable { address, reason }));
            }
        }
    }

    /// Serves the waiter at once if the peer is connected, else after a dial.
    fn want(&mut self, peer: PeerId, given: Option<Multiaddr>, waiter: Waiter) {
        if peer == *self.swarm.local_peer_id() {
            return waiter.fail(NetworkError::DialSelf(peer));
        }
        if let Some(connection) = self.connections.best(peer) {
            return self.serve(peer, connection, waiter);
        }
        if self.wanted.add(peer, given, waiter) {
            self.pursue(peer);
        }
    }

    pub(super) fn serve(&mut self, peer: PeerId, connection: ConnectionId, waiter: Waiter) {
        match waiter {
            Waiter::Dial(reply) => drop(reply.send(Ok(peer))),
            Waiter::Stream(protocol, reply) => {
                self.swarm.behaviour_mut().streams.open(peer, connection, protocol, reply);
            }
        }
    }

    /// Dials a wanted peer at whatever was not tried yet. Gives up when there is nothing left and
    /// no relay on its way that might know the peer.
    pub(super) fn pursue(&mut self, peer: PeerId) {
        let mut candidates = self.book.get(peer);
        for (_, relay, address) in self.keeper.connected() {
            if relay != peer {
                candidates.push(address::through_relay(address, relay, peer));
            }
        }
        let Some(want) = self.wanted.get_mut(peer) else { return };
        if want.dial.is_some() {
            return;
        }
        let first = want.tried.is_empty();
        let given = want.given.drain(..).map(address::without_peer);
        let mut addresses: Vec<Multiaddr> = given.collect();
        addresses.extend(candidates);
        addresses.retain(|address| !want.tried.contains(address));

        if first || !addresses.is_empty() {
            let options = DialOpts::peer_id(peer).addresses(addresses.clone());
            // The routing table may know the peer too.
            let options = options.extend_addresses_through_behaviour().build();
            let id = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => {
                    want.tried.extend(addresses);
                    want.dial = Some(id);
                    self.dials.insert(id, Purpose::Peer(peer));
                    return;
                }
                // Somebody else dials it: wait for what comes of that.
                Err(DialError::DialPeerConditionFalse(_)) => return,
                Err(DialError::NoAddresses) => {}
                Err(e) => want.reason = e.to_string(),
            }
        }
        if !self.keeper.is_trying() {
            self.wanted.fail(peer);
        }
    }

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
                    return Some((relay, RelayEvent::Connected { peer, address, connection }));
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

    /// What is due now.
    fn tick(&mut self) {
        let actions = self.keeper.tick(self.now());
        if !actions.is_empty() {
            self.perform(actions);
        }
        if self.wanted.is_empty() {
            return;
        }
        for peer in self.wanted.abandoned() {
            if !self.swarm.is_connected(&peer) {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
        for peer in self.wanted.overdue(Instant::now()) {
            self.wanted.fail(peer);
        }
    }

    /// The timer stays as it is while what it waits for is the same: setting one costs a call into
    /// the browser.
    fn set_timer(&mut self) {
        let keeper = self.keeper.next_wake().map(|at| self.started + at);
        let running = self.timer.as_ref().map(|(at, _)| *at);
        let sweep = (!self.wanted.is_empty()).then(|| {
            let latest = Instant::now() + SWEEP_INTERVAL;
            running.map_or(latest, |at| at.min(latest))
        });
        let due = keeper.into_iter().chain(sweep).min();
        if due != running {
            self.timer = due.map(|at| (at, Box::pin(time::sleep_until(at))));
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn publish(&self) {
        let status = self.current_status();
        self.status.send_if_modified(|published| {
            let modified = *published != status;
            *published = status;
            modified
        });
    }

    fn current_status(&self) -> Status {
        let connected: HashMap<_, _> =
            self.keeper.connected().map(|(relay, _, address)| (relay, address)).collect();
        let relay = |(index, spec): (usize, &String)| {
            let index = RelayIndex(index);
            let peer = self.keeper.peer(index);
            let state = match self.keeper.phase(index)? {
                RelayPhase::Connecting => RelayState::Connecting,
                RelayPhase::Connected => RelayState::Connected,
                RelayPhase::Reserved => RelayState::Reserved,
                RelayPhase::Backoff { until, reason } => {
                    RelayState::Backoff { next_try: self.started + until, reason }
                }
                RelayPhase::Failed { reason } => RelayState::Failed { reason },
            };
            Some(RelayStatus {
                spec: spec.clone(),
                peer,
                address: connected.get(&index).map(|address| (*address).clone()),
                state,
                failures: self.keeper.failures(index),
                limit: peer.and_then(|peer| self.connections.limit_of(peer)),
            })
        };
        Status {
            relays: self.specs.iter().enumerate().filter_map(relay).collect(),
            connected_peers: self.connections.len(),
            listen_addresses: self.swarm.listeners().cloned().collect(),
            closed: false,
        }
    }

    async fn shut_down(mut self, closed: Option<oneshot::Sender<()>>) {
        // Dropping what waits answers it: the handle reads a dropped reply as closed.
        self.commands.close();
        self.wanted = Wanted::default();
        let peers: Vec<PeerId> = self.connections.ids().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let drained = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        if time::timeout(CLOSE_TIMEOUT, drained).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
        self.status.send_modify(|status| *status = Status { closed: true, ..Status::default() });
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
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

/// Jitter needs no secrecy, only to differ from peer to peer and from start to start.
fn seed(peer: PeerId) -> u64 {
    let time = platform::unix_time().as_nanos() as u64;
    peer.to_bytes().iter().fold(time, |seed, byte| seed.rotate_left(7) ^ u64::from(*byte))
}
