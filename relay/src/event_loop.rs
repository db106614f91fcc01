//! The one task that owns the swarm: it listens, keeps the announced addresses true, opens streams for the exchange
//! protocols and says who is connected; the other protocols run inside of the behaviours.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, Swarm, gossipsub, identify, kad, ping};
use socket2::{Domain, Socket, Type};
use tabpeer::network::NetworkError;
use tabpeer::network::connections::Connections;
use tabpeer::network::gossip::Gate;
use tabpeer::network::peers::Peers;
use tabpeer::platform::Finder;
use tokio::sync::{mpsc, oneshot, watch};

use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::streams::{Command, RelayStreams};
use crate::topics::Topics;
use crate::{RelayError, addresses};

/// A listener knows its first address at once, or as soon as the host's interfaces are read.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connections are given to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Addresses taken into the DHT's routing table from one peer's identify message.
const MAX_PEER_ADDRESSES: usize = 16;

/// Owner of the swarm.
pub struct EventLoop {
    swarm: Swarm<Behaviour>,
    dht_protocol: Option<String>,
    configured: Vec<Multiaddr>,
    announced: Vec<Multiaddr>,
    addresses: watch::Sender<Vec<Multiaddr>>,
    commands: mpsc::Receiver<Command>,
    connections: Connections,
    peers: watch::Sender<Arc<Peers>>,
    topics: Option<Topics>,
    /// Lets this relay be found. Whom it finds does not matter: a relay dials nobody.
    finder: Finder,
}

impl EventLoop {
    /// Listens on every address of `listen`; returns when each of them is known with its port, or with the first error.
    pub async fn listen(
        (mut swarm, gate): (Swarm<Behaviour>, Option<Gate>),
        listen: &[Multiaddr],
        configured: Vec<Multiaddr>,
        dht_protocol: Option<String>,
        finder: Finder,
    ) -> Result<(Self, watch::Receiver<Vec<Multiaddr>>, RelayStreams), RelayError> {
        let mut waiting: HashMap<ListenerId, Multiaddr> = HashMap::new();
        for address in listen {
            refuse_if_taken(address).map_err(|error| RelayError::Listen {
                address: address.clone(),
                reason: error.to_string(),
            })?;
            let id = swarm.listen_on(address.clone()).map_err(|error| RelayError::Listen {
                address: address.clone(),
                reason: reason(&error),
            })?;
            waiting.insert(id, address.clone());
        }
        let (sender, receiver) = watch::channel(Vec::new());
        let (peers, connected) = watch::channel(Arc::default());
        let (streams, commands) = RelayStreams::new(*swarm.local_peer_id(), connected);
        let mut this = Self {
            swarm,
            dht_protocol,
            configured,
            announced: Vec::new(),
            addresses: sender,
            commands,
            connections: Connections::default(),
            peers,
            topics: gate.map(Topics::new),
            finder,
        };
        let all_known = async {
            while !waiting.is_empty() {
                let event = this.swarm.select_next_some().await;
                match &event {
                    SwarmEvent::NewListenAddr { listener_id, .. } => {
                        waiting.remove(listener_id);
                    }
                    SwarmEvent::ListenerClosed { listener_id, reason, .. }
                        if let Some(address) = waiting.remove(listener_id) =>
                    {
                        let reason =
                            reason.as_ref().err().map_or("closed".into(), ToString::to_string);
                        return Err(RelayError::Listen { address, reason });
                    }
                    _ => {}
                }
                this.handle(event);
            }
            Ok(())
        };
        match tokio::time::timeout(LISTEN_TIMEOUT, all_known).await {
            Ok(result) => result?,
            Err(_) => {
                let address = waiting.into_values().next().unwrap_or_else(Multiaddr::empty);
                return Err(RelayError::Listen {
                    address,
                    reason: "no interface has such an address".into(),
                });
            }
        }
        // The wildcard address reports one interface after the other.
        while let Some(event) = this.swarm.select_next_some().now_or_never() {
            this.handle(event);
        }
        Ok((this, receiver, streams))
    }

    /// Runs until `stop` fires or its sender is dropped, then closes what is open.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            let wake = self.topics.as_ref().and_then(Topics::next_wake);
            tokio::select! {
                event = self.swarm.select_next_some() => self.handle(event),
                Some(command) = self.commands.recv() => self.obey(command),
                () = at(wake) => self.tick_topics(),
                found = self.finder.next() => tracing::debug!(?found, "mDNS"),
                _ = &mut stop => break,
            }
            self.connections.publish(&self.peers, |_| false);
        }
        self.close().await;
    }

    async fn close(mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        tracing::info!(peers = peers.len(), "closing");
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let all_closed = async {
            while self.swarm.network_info().connection_counters().num_established() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, all_closed).await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
    }

    fn obey(&mut self, command: Command) {
        let streams = &mut self.swarm.behaviour_mut().streams;
        match command {
            Command::Open { peer, protocol, reply } => match self.connections.best(peer) {
                Some(connection) => streams.open(peer, connection, protocol, reply),
                None => {
                    let reason = "it is not connected, and a relay does not dial".into();
                    let error = NetworkError::PeerUnreachable { peer, tried: Vec::new(), reason };
                    // Nobody listens any more if the caller gave up.
                    let _ = reply.send(Err(error));
                }
            },
            Command::Accept { protocol, reply } => drop(reply.send(streams.accept(protocol))),
            Command::Listen { client, frames } => {
                if let (Some(topics), Some(gossip)) =
                    (&mut self.topics, self.swarm.behaviour_mut().gossipsub.as_mut())
                    && self.connections.best(client).is_some()
                {
                    topics.listen(gossip, client, frames);
                }
            }
        }
    }

    fn tick_topics(&mut self) {
        if let (Some(topics), Some(gossip)) =
            (&mut self.topics, self.swarm.behaviour_mut().gossipsub.as_mut())
        {
            topics.tick(gossip);
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        if let (Some(topics), Some(gossip)) =
            (&mut self.topics, self.swarm.behaviour_mut().gossipsub.as_mut())
            && let Some(client) = topics.handle(gossip, event)
        {
            tracing::info!(peer = %client, "disconnected: it does not take what is published");
            let _ = self.swarm.disconnect_peer_id(client);
        }
    }

    fn handle(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.finder.listening(&address, true);
                self.announce();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.finder.listening(&address, false);
                self.announce();
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "a listener has closed");
                self.announce();
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener reports an error")
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                self.connections.established(peer_id, connection_id, &endpoint);
                let remote = endpoint.get_remote_address();
                tracing::debug!(peer = %peer_id, %remote, num_established, "connected");
            }
            SwarmEvent::ConnectionClosed {
                peer_id, connection_id, cause, num_established, ..
            } => {
                self.connections.closed(peer_id, connection_id);
                if num_established == 0
                    && let (Some(topics), Some(gossip)) =
                        (&mut self.topics, self.swarm.behaviour_mut().gossipsub.as_mut())
                {
                    topics.disconnected(gossip, peer_id);
                }
                tracing::debug!(peer = %peer_id, ?cause, num_established, "connection closed");
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(remote = %send_back_addr, %error, "a connection was not established");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                self.connections.identified(peer_id, &info);
                self.learn(peer_id, info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Ok(latency),
            })) => self.connections.ponged(peer, connection, latency),
            SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => tracing::debug!(?event, "relay"),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::RoutingUpdated {
                peer, ..
            })) => {
                tracing::debug!(%peer, "in the routing table");
            }
            _ => {}
        }
    }

    /// A peer that serves the DHT goes into the routing table with the addresses it says it has.
    fn learn(&mut self, peer: PeerId, info: identify::Info) {
        let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        if !info
            .protocols
            .iter()
            .any(|protocol| Some(protocol.as_ref()) == self.dht_protocol.as_deref())
        {
            return;
        }
        // What it said before goes: libp2p-kad keeps any number of addresses, and a peer may push a new
        // list whenever it likes.
        kad.remove_peer(&peer);
        for address in info.listen_addrs.into_iter().take(MAX_PEER_ADDRESSES) {
            kad.add_address(&peer, address);
        }
    }

    /// The circuit relay gives away what is registered as external, and so does identify.
    fn announce(&mut self) {
        let listened: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        let announced = addresses::announced(&listened, &self.configured);
        if announced == self.announced {
            return;
        }
        for gone in difference(&self.announced, &announced) {
            self.swarm.remove_external_address(&gone);
        }
        for new in difference(&announced, &self.announced) {
            self.swarm.add_external_address(new);
        }
        self.announced = announced;
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        self.swarm.behaviour_mut().identify.push(peers);
        let peer = *self.swarm.local_peer_id();
        self.addresses.send_replace(addresses::with_peer(&self.announced, peer));
    }
}

/// libp2p's TCP transport shares its port with any other process of the same user that does the same, and the kernel then
/// gives half of the connections to each: a second relay by mistake would look like a broken one.
fn refuse_if_taken(address: &Multiaddr) -> std::io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => {
            let address = SocketAddr::new(ip, port);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            // Connections of a relay that was just stopped do not count.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(1)
        }
        _ => Ok(()),
    }
}

/// Never, if there is no such time.
async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

fn difference(left: &[Multiaddr], right: &[Multiaddr]) -> Vec<Multiaddr> {
    let right: BTreeSet<_> = right.iter().map(Multiaddr::as_ref).collect();
    left.iter().filter(|address| !right.contains(address.as_ref())).cloned().collect()
}

/// The innermost cause: what stands around it only says that it was a transport's.
fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
