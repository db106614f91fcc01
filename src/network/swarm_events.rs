//! What the swarm reports, and what the event loop makes of it.

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, transport::TransportError},
    identify, ping, relay,
    swarm::{ConnectionId, DialError, SwarmEvent},
};

use super::{
    address,
    behaviour::BehaviourEvent,
    config::{DHT_PROTOCOL, MAX_ADDRESSES_PER_PEER},
    error::NetworkError,
    event_loop::{EventLoop, Purpose},
    relay_keeper::RelayEvent,
    status::CircuitLimit,
};

impl EventLoop {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed {
                peer_id, connection_id, num_established, cause, ..
            } => {
                self.connections.closed(peer_id, connection_id);
                self.on_neighbour_disconnected(peer_id);
                if num_established == 0 {
                    self.on_topics_disconnected(peer_id);
                    self.keeping.disconnected(peer_id, self.now());
                }
                if num_established == 0
                    && let Some(relay) = self.keeper.index_of(peer_id)
                {
                    let cause = cause.map(|cause| cause.to_string());
                    let reason = cause.unwrap_or_else(|| "the connection was closed".to_owned());
                    self.relay_event(relay, RelayEvent::Disconnected { reason });
                }
            }
            SwarmEvent::Dialing { peer_id: Some(peer), .. } => self.on_dialing(peer),
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.on_own_addresses();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.nearby.finder.listening(&address, false);
                self.swarm.remove_external_address(&address);
                self.on_own_addresses();
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                self.on_dial_failed(peer_id, connection_id, &error);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::debug!(%address, "listening");
                self.nearby.finder.listening(&address, true);
                if let Some(relay) = self.listeners.get(&listener_id).copied() {
                    self.relay_event(relay, RelayEvent::Reserved);
                    // Protected peers may be at the same relay.
                    self.keeping.way_opened(self.now());
                    self.topics.way_opened(self.now());
                } else if address::split_circuit(&address).is_none() {
                    // What listens here is told to others: records of the DHT have these only.
                    self.swarm.add_external_address(address);
                    self.on_own_addresses();
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(relay) = self.listeners.remove(&listener_id) {
                    let reason = match reason {
                        Ok(()) => "the reservation ended".to_owned(),
                        Err(e) => with_sources(&e),
                    };
                    self.relay_event(relay, RelayEvent::ReservationLost { reason });
                }
            }
            _ => {}
        }
    }

    fn on_established(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        self.connections.established(peer, connection, endpoint);
        self.keeping.connected(peer, self.now());
        self.on_neighbour_connected(peer);
        if let ConnectedPoint::Dialer { address, .. } = endpoint {
            self.book.add(peer, address.clone());
        }
        let dialled = match self.dials.remove(&connection) {
            Some(Purpose::Relay { relay, address, .. }) => {
                self.relay_event(
                    relay,
                    RelayEvent::Connected { peer, address, connection, shared: false },
                );
                None
            }
            Some(Purpose::Address { reply, .. }) => Some(reply),
            Some(Purpose::Peer(_) | Purpose::Nearby(_)) | None => None,
        };
        // Whoever is told that the peer is connected finds it among the peers.
        self.publish_peers();
        if let Some(reply) = dialled {
            let _ = reply.send(Ok(peer));
        }
        let best = self.connections.best(peer).unwrap_or(connection);
        for waiter in self.wanted.found(peer) {
            self.serve(peer, best, waiter);
        }
    }

    fn on_dial_failed(&mut self, peer: Option<PeerId>, id: ConnectionId, error: &DialError) {
        let reason = dial_reason(error);
        if let (Some(peer), DialError::WrongPeerId { address, .. }) = (peer, error) {
            self.book.remove(peer, address);
        }
        match self.dials.remove(&id) {
            Some(Purpose::Relay { relay, attempt, .. }) => {
                self.relay_event(relay, RelayEvent::DialFailed { attempt, reason });
            }
            Some(Purpose::Address { address, reply }) => {
                let _ = reply.send(Err(NetworkError::AddressUnreachable { address, reason }));
            }
            Some(Purpose::Peer(peer)) => {
                if let Some(want) = self.wanted.get_mut(peer)
                    && want.dial == Some(id)
                {
                    want.dial = None;
                    want.reason = reason;
                    self.pursue(peer);
                }
            }
            Some(Purpose::Nearby(peer)) => {
                tracing::debug!(%peer, %reason, "a peer nearby was not reached");
                self.nearby.keeper.failed(peer, self.now());
                // Somebody may have wanted it meanwhile.
                self.pursue(peer);
            }
            // Another part of the swarm dialled it; ours was put off because of that.
            None => {
                if let Some(peer) = peer {
                    self.pursue(peer);
                }
            }
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Relay(event) => self.on_relay_event(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, &info);
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => match result {
                Ok(latency) => self.connections.ponged(peer, connection, latency),
                Err(ping::Failure::Unsupported) => {}
                Err(error) => {
                    if self.connections.ping_failed(peer, connection) {
                        tracing::debug!(%peer, %error, "closing a connection that does not answer");
                        self.swarm.close_connection(connection);
                    }
                }
            },
            BehaviourEvent::Gossipsub(event) => self.on_gossip(event),
            BehaviourEvent::Kad(event) => self.on_kad_event(event),
            BehaviourEvent::Identify(_) => {}
        }
    }

    fn on_relay_event(&mut self, event: relay::client::Event) {
        // The type of the limit has no public name.
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, limit, .. }
            | relay::client::Event::OutboundCircuitEstablished { relay_peer_id, limit } => {
                let limit = limit.map(|l| CircuitLimit::new(l.data_in_bytes(), l.duration()));
                self.connections.relay_limit(relay_peer_id, limit.unwrap_or_default());
            }
            relay::client::Event::InboundCircuitEstablished { src_peer_id, limit } => {
                let limit = limit.map(|l| CircuitLimit::new(l.data_in_bytes(), l.duration()));
                self.connections.inbound_limit(src_peer_id, limit.unwrap_or_default());
            }
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        self.connections.identified(peer, info);
        self.on_topics_identified(peer);
        let direct = self.connections.direct(peer).map(|(_, address)| address);
        // A relay is dialled where the configuration says, not where it says.
        let named = match self.keeper.index_of(peer) {
            Some(_) => Vec::new(),
            None => {
                let named = info.listen_addrs.iter().take(4 * MAX_ADDRESSES_PER_PEER).cloned();
                self.dialer.usable(named, MAX_ADDRESSES_PER_PEER)
            }
        };
        if info.protocols.iter().any(|protocol| protocol.as_ref() == DHT_PROTOCOL) {
            // What it said before goes: libp2p-kad keeps any number of addresses, and a peer may push
            // a new list whenever it likes.
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
            let direct = direct.filter(|address| self.dialer.rank(address).is_some());
            for address in direct.into_iter().chain(named.iter().cloned()) {
                let address = address::without_peer(address);
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
            self.look_at_routing_table();
        }
        for address in named.into_iter().rev() {
            self.book.add(peer, address);
        }
    }
}

/// The reasons of a failed dial in one line, the last link of each chain first of all.
fn dial_reason(error: &DialError) -> String {
    let DialError::Transport(errors) = error else { return error.to_string() };
    let one = |(address, error): &(Multiaddr, TransportError<std::io::Error>)| match error {
        TransportError::MultiaddrNotSupported(_) => {
            format!("{address}: it cannot be dialled from here")
        }
        TransportError::Other(e) => format!("{address}: {}", with_sources(e)),
    };
    errors.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
