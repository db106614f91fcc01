//! The one task that owns the swarm: takes commands, drives the relay keeper, publishes the status.
//! What the swarm reports is handled in `swarm_events`, dials in `dialing`, relays in
//! `relay_driver`.

use std::{collections::HashMap, future::pending, pin::Pin, sync::Arc};

use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, Swarm, core::transport::ListenerId, relay, swarm::ConnectionId};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    address_book::AddressBook,
    awake::Awake,
    behaviour::Behaviour,
    command::Command,
    config::{
        CLOSE_TIMEOUT, IDLE_TIMEOUT, MAX_NEGOTIATING_STREAMS, NetworkConfig, TRANSPORT_TIMEOUT,
    },
    connections::Connections,
    dht::Queries,
    error::NetworkError,
    keeping::Keeping,
    nearby::Nearby,
    peers::Peers,
    relay_driver::RecordResult,
    relay_keeper::{RelayEvent, RelayIndex, RelayKeeper, RelayPhase},
    status::{RelayState, RelayStatus, Status},
    topics::{self, Topics},
    wanted::{DialReply, Waiter, Wanted},
};
use crate::messaging::topics::exchange;
use crate::platform::{
    self, Dialer,
    task::JoinSet,
    time::{self, Duration, Instant},
    transport,
};

/// How often calls that were given up are looked for while a peer is wanted or looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// A timer that fires so much sooner or later than it should is left as it is.
const SLACK: Duration = Duration::from_millis(5);

pub struct EventLoop {
    pub(super) swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    pub(super) keeper: RelayKeeper,
    pub(super) connections: Connections,
    pub(super) wanted: Wanted,
    pub(super) keeping: Keeping,
    pub(super) nearby: Nearby,
    pub(super) book: AddressBook,
    pub(super) queries: Queries,
    pub(super) topics: Topics,
    pub(super) dialer: Dialer,
    /// Why each dial of ours was made.
    pub(super) dials: HashMap<ConnectionId, Purpose>,
    /// For which relay each circuit is listened on.
    pub(super) listeners: HashMap<ListenerId, RelayIndex>,
    pub(super) fetches: JoinSet<(RelayIndex, RecordResult)>,
    pub(super) probes: JoinSet<(ConnectionId, bool)>,
    /// The connections that are being probed.
    pub(super) probing: Vec<ConnectionId>,
    awake: Awake,
    started: Instant,
    /// The relays as they stand in the configuration.
    specs: Vec<String>,
    status: watch::Sender<Status>,
    peers: watch::Sender<Arc<Peers>>,
    timer: Option<(Instant, Pin<Box<time::Sleep>>)>,
}

/// Why a dial was made.
#[derive(Debug)]
pub(super) enum Purpose {
    Relay {
        relay: RelayIndex,
        attempt: u32,
        address: Multiaddr,
    },
    Peer(PeerId),
    /// It was found nearby.
    Nearby(PeerId),
    Address {
        address: Multiaddr,
        reply: DialReply,
    },
}

impl EventLoop {
    pub fn new(
        config: NetworkConfig,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<Status>,
        peers: watch::Sender<Arc<Peers>>,
        (shared, names): (topics::Shared, watch::Sender<Arc<Vec<String>>>),
    ) -> Result<Self, NetworkError> {
        let peer = config.keypair.public().to_peer_id();
        let dialer = platform::dialer();
        let (circuits, relay_client) = relay::client::new(peer);
        let setup = |e: transport::TransportSetupError| NetworkError::Setup(e.to_string());
        let (nearby, tabs) = Nearby::start(&config.keypair, config.search).map_err(setup)?;
        let transport = transport::transport(&config.keypair, circuits, tabs, TRANSPORT_TIMEOUT)
            .map_err(setup)?;
        let (behaviour, gate) = Behaviour::new(&config, relay_client)?;
        let swarm_config = platform::swarm_config()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS);
        let mut swarm = Swarm::new(transport, behaviour, peer, swarm_config);
        let exchanges = swarm.behaviour_mut().streams.accept(exchange::PROTOCOL)?;
        for address in config.listen {
            swarm
                .listen_on(address.clone())
                .map_err(|e| NetworkError::Listen { address, reason: e.to_string() })?;
        }

        let targets = config.relays.iter().map(|spec| spec.target(dialer)).collect();
        let mut event_loop = Self {
            swarm,
            commands,
            keeper: RelayKeeper::new(targets, seed(peer)),
            connections: Connections::default(),
            wanted: Wanted::default(),
            keeping: Keeping::new(seed(peer), config.marks),
            nearby,
            book: AddressBook::new(dialer),
            queries: Queries::default(),
            topics: Topics::new(gate, shared, names, exchanges, seed(peer)),
            dialer,
            dials: HashMap::new(),
            listeners: HashMap::new(),
            fetches: JoinSet::new(),
            probes: JoinSet::new(),
            probing: Vec::new(),
            awake: Awake::default(),
            started: Instant::now(),
            specs: config.relays.iter().map(ToString::to_string).collect(),
            status,
            peers,
            timer: None,
        };
        event_loop.publish();
        Ok(event_loop)
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
                neighbour = self.nearby.finder.next() => self.on_neighbour(neighbour),
                happened = self.topics.next() => self.on_topics_happened(happened),
                Some(result) = self.fetches.join_next(), if !self.fetches.is_empty() => {
                    if let Ok((relay, result)) = result {
                        self.relay_event(relay, RelayEvent::Record(result));
                    }
                }
                Some(result) = self.probes.join_next(), if !self.probes.is_empty() => {
                    if let Ok((connection, lives)) = result {
                        self.probed(connection, lives);
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
            Command::FindProviders { key, limit, reply } => self.find_providers(key, limit, reply),
            Command::Provide { key, reply } => self.provide(key, reply),
            Command::FindPeer { peer, reply } => self.find_peer(peer, reply),
            Command::ConnectedPeers { reply } => {
                let keeper = &self.keeper;
                let _ = reply.send(self.connections.infos(|peer| keeper.index_of(peer).is_some()));
            }
            Command::Supports { peer, protocol, reply } => {
                let _ = reply.send(self.connections.supports(peer, &protocol));
            }
            Command::Topics(request) => self.on_topics(request),
            Command::Protect { peers, protect, reply } => {
                let outcome = self.protect(&peers, protect);
                // Whoever is told that it is noted finds it in the status.
                self.publish();
                let _ = reply.send(outcome);
            }
            Command::Nudge => self.nudge(),
            // Handled where the loop can be left.
            Command::Close { .. } => {}
        }
    }

    /// What is due now.
    fn tick(&mut self) {
        if self.awake.slept(platform::unix_time()) {
            self.nudge();
        }
        let actions = self.keeper.tick(self.now());
        if !actions.is_empty() {
            self.perform(actions);
        }
        self.keep_peers();
        self.tick_dht();
        self.dial_nearby();
        self.tick_topics();
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
        let wakes = self.keeper.next_wake().into_iter().chain(self.keeping.next_wake());
        let wakes = wakes.chain(self.queries.next_wake()).chain(self.nearby.keeper.next_wake());
        let wakes = wakes.map(|at| self.started + at);
        let running = self.timer.as_ref().map(|(at, _)| *at);
        let sweep = (!self.wanted.is_empty() || !self.queries.is_empty()).then(|| {
            let latest = Instant::now() + SWEEP_INTERVAL;
            running.map_or(latest, |at| at.min(latest))
        });
        let topics = self.topics.next_wake(self.now()).map(|at| self.started + at);
        // What is near enough is not set anew at each turn.
        let topics = match running {
            Some(at) if topics.is_some_and(|t| t <= at + SLACK && at <= t + SLACK) => Some(at),
            _ => topics,
        };
        let due = wakes.chain(sweep).chain(topics).min();
        if due != running {
            self.timer = due.map(|at| (at, Box::pin(time::sleep_until(at))));
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn publish_peers(&mut self) {
        let keeper = &self.keeper;
        self.connections.publish(&self.peers, |peer| keeper.index_of(peer).is_some());
    }

    fn publish(&mut self) {
        self.publish_peers();
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
        let mut listen_addresses: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        listen_addresses.sort_unstable();
        Status {
            relays: self.specs.iter().enumerate().filter_map(relay).collect(),
            connected_peers: self.connections.count(),
            listen_addresses,
            protected: self.keeping.peers().collect(),
            dht: self.queries.state(),
            tabs: self.nearby.finder.finds_tabs(),
            closed: false,
        }
    }

    async fn shut_down(mut self, closed: Option<oneshot::Sender<()>>) {
        // Dropping what waits answers it: the handle reads a dropped reply as closed.
        self.commands.close();
        self.wanted = Wanted::default();
        self.keeping.clear();
        self.queries = Queries::default();
        self.topics.close();
        self.dials.clear();
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

/// Jitter needs no secrecy, only to differ from peer to peer and from start to start.
fn seed(peer: PeerId) -> u64 {
    let time = platform::unix_time().as_nanos() as u64;
    peer.to_bytes().iter().fold(time, |seed, byte| seed.rotate_left(7) ^ u64::from(*byte))
}
