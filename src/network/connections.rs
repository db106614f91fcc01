//! What is known of the peers that we are connected with.

use std::{collections::VecDeque, sync::Arc};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol, core::ConnectedPoint, identify, swarm::ConnectionId,
};
use tokio::sync::watch;

use super::{
    address,
    config::{MAX_AGENT_LENGTH, MAX_PING_FAILURES, MAX_PROTOCOLS_PER_PEER},
    peers::Peers,
    status::{CircuitLimit, PeerInfo},
};
use crate::boxmap::{BoxMap, BoxSet};
use crate::platform::{is_local, time::Duration};

/// Limits of inbound circuits whose connection is still being set up.
const MAX_PENDING_LIMITS: usize = 64;

#[derive(Debug, Default)]
pub struct Connections {
    peers: BoxMap<PeerId, Peer>,
    /// What each connected relay said last that a circuit may carry.
    relay_limits: BoxMap<PeerId, CircuitLimit>,
    /// The source of an inbound circuit and its limit, told before there is a connection.
    inbound_limits: VecDeque<(PeerId, CircuitLimit)>,
    /// What is known of these has changed since it was published.
    changed: BoxSet<PeerId>,
}

#[derive(Debug, Default)]
struct Peer {
    connections: Vec<Connection>,
    protocols: Vec<StreamProtocol>,
    agent: Option<String>,
    latency: Option<Duration>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    circuit: Option<Circuit>,
    /// We dialled it.
    outbound: bool,
    ping_failures: u32,
}

#[derive(Debug)]
struct Circuit {
    relay: Option<PeerId>,
    limit: Option<CircuitLimit>,
}

impl Connection {
    /// A circuit of which nobody said what it may carry counts as limited.
    fn limited(&self) -> bool {
        self.circuit.as_ref().is_some_and(|c| c.limit.is_none_or(|limit| limit.is_limited()))
    }

    /// Lower is better.
    fn rank(&self) -> u8 {
        match &self.circuit {
            None => 0,
            Some(_) if !self.limited() => 1,
            Some(_) => 2,
        }
    }
}

impl Connections {
    pub fn established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let (address, circuit) = match endpoint {
            ConnectedPoint::Dialer { address, .. } if endpoint.is_relayed() => {
                let relay = address::relay_of(address);
                let limit = relay.and_then(|relay| self.relay_limits.get(&relay)).copied();
                (address.clone(), Some(Circuit { relay, limit }))
            }
            ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
                let relay = address::relay_of(local_addr).or_else(|| self.relay_at(local_addr));
                let pending = self.inbound_limits.iter().position(|(source, _)| *source == peer);
                let limit = pending
                    .and_then(|at| self.inbound_limits.remove(at))
                    .map(|(_, limit)| limit)
                    .or_else(|| self.relay_limits.get(&relay?).copied());
                let address = local_addr.clone().with_p2p(peer).unwrap_or_else(|address| address);
                (address, Some(Circuit { relay, limit }))
            }
            direct => (direct.get_remote_address().clone(), None),
        };
        let outbound = endpoint.is_dialer();
        let connection = Connection { id, address, circuit, outbound, ping_failures: 0 };
        self.peers.entry(peer).or_default().connections.push(connection);
        self.changed.insert(peer);
    }

    pub fn closed(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.connections.retain(|connection| connection.id != id);
        self.changed.insert(peer);
        if known.connections.is_empty() {
            self.peers.remove(&peer);
            self.relay_limits.remove(&peer);
        }
    }

    /// The relay tells what a circuit through it may carry. It does not tell which circuit, but it
    /// grants all the same.
    pub fn relay_limit(&mut self, relay: PeerId, limit: CircuitLimit) {
        if !self.peers.contains_key(&relay) {
            return;
        }
        self.relay_limits.insert(relay, limit);
        for (id, peer) in &mut self.peers {
            let outbound = peer.connections.iter_mut().filter(|connection| connection.outbound);
            for circuit in outbound.filter_map(|connection| connection.circuit.as_mut()) {
                if circuit.relay == Some(relay) && circuit.limit.is_none() {
                    circuit.limit = Some(limit);
                    self.changed.insert(*id);
                }
            }
        }
    }

    /// The relay of a circuit whose address does not name it, because it was dialled without its id.
    fn relay_at(&self, circuit: &Multiaddr) -> Option<PeerId> {
        let (address, _) = address::split_circuit(circuit)?;
        let at = |c: &Connection| {
            c.circuit.is_none() && address::without_peer(c.address.clone()) == address
        };
        let found = self.peers.iter().find(|(_, peer)| peer.connections.iter().any(at));
        found.map(|(peer, _)| *peer)
    }

    pub fn inbound_limit(&mut self, source: PeerId, limit: CircuitLimit) {
        if self.inbound_limits.len() >= MAX_PENDING_LIMITS {
            self.inbound_limits.pop_front();
        }
        self.inbound_limits.push_back((source, limit));
    }

    pub fn limit_of(&self, relay: PeerId) -> Option<CircuitLimit> {
        self.relay_limits.get(&relay).copied()
    }

    pub fn identified(&mut self, peer: PeerId, info: &identify::Info) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.protocols = info.protocols.iter().take(MAX_PROTOCOLS_PER_PEER).cloned().collect();
        known.agent = Some(info.agent_version.chars().take(MAX_AGENT_LENGTH).collect());
        self.changed.insert(peer);
    }

    pub fn ponged(&mut self, peer: PeerId, id: ConnectionId, latency: Duration) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.latency = Some(latency);
        self.changed.insert(peer);
        if let Some(connection) = known.connections.iter_mut().find(|c| c.id == id) {
            connection.ping_failures = 0;
        }
    }

    /// Whether the connection is to be given up.
    pub fn ping_failed(&mut self, peer: PeerId, id: ConnectionId) -> bool {
        let connections = self.peers.get_mut(&peer).map(|known| &mut known.connections);
        let Some(connection) = connections.and_then(|c| c.iter_mut().find(|c| c.id == id)) else {
            return false;
        };
        connection.ping_failures += 1;
        connection.ping_failures >= MAX_PING_FAILURES
    }

    /// The connection to take: a direct one, else an unlimited circuit, else any; the newest of
    /// several.
    pub fn best(&self, peer: PeerId) -> Option<ConnectionId> {
        self.peers.get(&peer)?.best().map(|connection| connection.id)
    }

    /// Whether all there is with the peer are circuits that carry little.
    pub fn is_limited(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).and_then(Peer::best).is_some_and(Connection::limited)
    }

    /// A direct connection and its address.
    pub fn direct(&self, peer: PeerId) -> Option<(ConnectionId, Multiaddr)> {
        let best = self.peers.get(&peer)?.best()?;
        best.circuit.is_none().then(|| (best.id, best.address.clone()))
    }

    /// Whether the peer is reached on this machine or in the local network.
    pub fn is_local(&self, peer: PeerId) -> bool {
        let best = self.peers.get(&peer).and_then(Peer::best);
        best.is_some_and(|connection| is_local(&connection.address))
    }

    /// Where we dialled the peer. Where it came from it need not be found again.
    pub fn dialled(&self, peer: PeerId) -> impl Iterator<Item = Multiaddr> {
        let connections = self.peers.get(&peer).into_iter().flat_map(|known| &known.connections);
        connections.filter(|connection| connection.outbound).map(|c| c.address.clone())
    }

    /// `None` while identify has not answered.
    pub fn supports(&self, peer: PeerId, protocol: &StreamProtocol) -> Option<bool> {
        let known = self.peers.get(&peer)?;
        known.agent.as_ref().map(|_| known.protocols.contains(protocol))
    }

    pub fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    pub fn count(&self) -> usize {
        self.peers.len()
    }

    pub fn infos(&self, is_relay: impl Fn(PeerId) -> bool) -> Vec<PeerInfo> {
        self.peers.iter().filter_map(|(id, peer)| peer.info(*id, is_relay(*id))).collect()
    }

    /// Brings what `published` says up to date, if anything has changed.
    pub fn publish(
        &mut self,
        published: &watch::Sender<Arc<Peers>>,
        is_relay: impl Fn(PeerId) -> bool,
    ) {
        if self.changed.is_empty() {
            return;
        }
        published.send_modify(|published| {
            let published = Arc::make_mut(published);
            while let Some(id) = self.changed.pop_first() {
                match self.peers.get(&id).and_then(|peer| peer.info(id, is_relay(id))) {
                    Some(info) => drop(published.insert(id, info)),
                    None => drop(published.remove(&id)),
                }
            }
        });
    }
}

impl Peer {
    fn info(&self, id: PeerId, is_relay: bool) -> Option<PeerInfo> {
        let best = self.best()?;
        Some(PeerInfo {
            id,
            address: best.address.clone(),
            relay: best.circuit.as_ref().and_then(|circuit| circuit.relay),
            limited: best.limited(),
            is_relay,
            connections: self.connections.len(),
            protocols: self.protocols.iter().map(ToString::to_string).collect(),
            agent: self.agent.clone(),
            latency: self.latency,
        })
    }

    fn best(&self) -> Option<&Connection> {
        self.connections.iter().rev().min_by_key(|connection| connection.rank())
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::{Endpoint, transport::PortUse};

    use super::*;

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn dialled(address: String) -> ConnectedPoint {
        let address = address.parse().expect("an address");
        ConnectedPoint::Dialer {
            address,
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        }
    }

    fn direct() -> ConnectedPoint {
        dialled("/ip4/127.0.0.1/tcp/1".to_owned())
    }

    fn through(relay: PeerId, peer: PeerId) -> ConnectedPoint {
        dialled(format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"))
    }

    fn info(connections: &Connections, peer: PeerId) -> PeerInfo {
        let infos = connections.infos(|_| false);
        infos.into_iter().find(|info| info.id == peer).expect("connected")
    }

    const UNLIMITED: CircuitLimit = CircuitLimit { bytes: None, duration: None };
    const LIMITED: CircuitLimit = CircuitLimit { bytes: Some(1 << 17), duration: None };

    #[test]
    fn a_direct_connection_is_preferred_and_then_an_unlimited_circuit() {
        let [peer, poor, rich] = [(); 3].map(|()| PeerId::random());
        let mut connections = Connections::default();
        for (n, (relay, limit)) in [(poor, LIMITED), (rich, UNLIMITED)].into_iter().enumerate() {
            connections.established(relay, id(n), &direct());
            connections.relay_limit(relay, limit);
        }
        connections.established(peer, id(10), &through(poor, peer));
        assert!(info(&connections, peer).limited);
        connections.established(peer, id(11), &through(rich, peer));
        connections.established(peer, id(12), &through(poor, peer));
        assert_eq!(connections.best(peer), Some(id(11)));
        assert_eq!((info(&connections, peer).limited, connections.direct(peer)), (false, None));
        connections.established(peer, id(13), &direct());
        assert_eq!(connections.best(peer), Some(id(13)));
        connections.closed(peer, id(13));
        connections.closed(peer, id(11));
        assert_eq!(info(&connections, peer).relay, Some(poor));
    }

    #[test]
    fn a_circuit_is_limited_until_its_relay_says_otherwise() {
        let [peer, relay] = [(); 2].map(|()| PeerId::random());
        let mut connections = Connections::default();
        connections.established(relay, id(1), &direct());
        connections.established(peer, id(2), &through(relay, peer));
        assert!(info(&connections, peer).limited);
        connections.relay_limit(relay, UNLIMITED);
        assert!(!info(&connections, peer).limited);
        assert_eq!(connections.limit_of(relay), Some(UNLIMITED));
        connections.closed(relay, id(1));
        assert_eq!(connections.limit_of(relay), None);
    }

    #[test]
    fn the_limit_of_an_inbound_circuit_is_told_by_its_source() {
        let [peer, other, relay] = [(); 3].map(|()| PeerId::random());
        let mut connections = Connections::default();
        connections.inbound_limit(other, LIMITED);
        connections.inbound_limit(peer, UNLIMITED);
        let endpoint = ConnectedPoint::Listener {
            local_addr: format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit")
                .parse()
                .expect("an address"),
            send_back_addr: format!("/p2p/{peer}").parse().expect("an address"),
        };
        connections.established(peer, id(1), &endpoint);
        let info = info(&connections, peer);
        assert_eq!((info.limited, info.relay), (false, Some(relay)));
        assert_eq!(connections.inbound_limits.len(), 1);
        for _ in 0..2 * MAX_PENDING_LIMITS {
            connections.inbound_limit(other, LIMITED);
        }
        assert_eq!(connections.inbound_limits.len(), MAX_PENDING_LIMITS);
    }

    #[test]
    fn what_is_published_follows_what_is_known() {
        let [peer, other] = [(); 2].map(|()| PeerId::random());
        let (sender, receiver) = watch::channel(Arc::new(Peers::new()));
        let mut connections = Connections::default();
        let check = |connections: &mut Connections, changes: bool| {
            let before = receiver.borrow().clone();
            connections.publish(&sender, |id| id == other);
            let now: Vec<PeerInfo> = receiver.borrow().values().cloned().collect();
            assert_eq!(now, connections.infos(|id| id == other));
            assert_eq!(Arc::ptr_eq(&before, &receiver.borrow()), !changes);
        };
        check(&mut connections, false);
        connections.established(peer, id(1), &direct());
        connections.established(other, id(2), &direct());
        check(&mut connections, true);
        connections.ponged(peer, id(1), Duration::from_millis(3));
        check(&mut connections, true);
        connections.established(peer, id(3), &through(other, peer));
        connections.closed(peer, id(1));
        check(&mut connections, true);
        connections.relay_limit(other, UNLIMITED);
        check(&mut connections, true);
        connections.closed(peer, id(3));
        check(&mut connections, true);
        check(&mut connections, false);
    }

    #[test]
    fn one_late_ping_does_not_end_a_connection() {
        let peer = PeerId::random();
        let mut connections = Connections::default();
        connections.established(peer, id(1), &direct());
        for _ in 0..5 {
            assert!(!connections.ping_failed(peer, id(1)));
            connections.ponged(peer, id(1), Duration::from_millis(3));
        }
        let ends: Vec<_> = (0..2).map(|_| connections.ping_failed(peer, id(1))).collect();
        assert_eq!(ends, [false, true]);
        assert!(!connections.ping_failed(peer, id(9)));
    }
}
