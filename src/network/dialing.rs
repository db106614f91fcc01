//! Finding a peer that somebody wants, and answering who waits for it.

use libp2p::{
    Multiaddr, PeerId,
    swarm::{ConnectionId, DialError, dial_opts::DialOpts},
};

use super::{
    DialTarget, address,
    error::NetworkError,
    event_loop::{EventLoop, Purpose},
    wanted::{DialReply, Waiter},
};

impl EventLoop {
    pub(super) fn dial(&mut self, target: DialTarget, reply: DialReply) {
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
    pub(super) fn want(&mut self, peer: PeerId, given: Option<Multiaddr>, waiter: Waiter) {
        if peer == *self.swarm.local_peer_id() {
            return waiter.fail(NetworkError::DialSelf(peer));
        }
        if let Some(connection) = self.connections.best(peer) {
            return self.serve(peer, connection, waiter);
        }
        self.wanted.add(peer, given, waiter);
        self.pursue(peer);
    }

    pub(super) fn serve(&mut self, peer: PeerId, connection: ConnectionId, waiter: Waiter) {
        match waiter {
            Waiter::Dial(reply) => drop(reply.send(Ok(peer))),
            Waiter::Stream(protocol, reply) => {
                self.swarm.behaviour_mut().streams.open(peer, connection, protocol, reply);
            }
        }
    }

    /// Dials a wanted peer at whatever was not tried yet, at first where it was found nearby. Gives up
    /// when there is nothing left and no relay on its way that might know the peer.
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
        let mut near = self.nearby.keeper.addresses(peer);
        near.retain(|address| !want.tried.contains(address));
        if !near.is_empty() {
            let options = DialOpts::peer_id(peer).addresses(near.clone()).build();
            let id = options.connection_id();
            if self.swarm.dial(options).is_ok() {
                want.tried.extend(near);
                want.dial = Some(id);
                self.dials.insert(id, Purpose::Peer(peer));
                return;
            }
        }
        let given = want.given.iter().cloned().map(address::without_peer);
        let mut addresses: Vec<Multiaddr> = given.collect();
        addresses.extend(candidates);
        addresses.retain(|address| !want.tried.contains(address));

        if !want.asked || !addresses.is_empty() {
            want.asked = true;
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
                // Somebody else dials it: wait for what comes of that, and then do what is done here.
                Err(DialError::DialPeerConditionFalse(_)) => {
                    want.asked = false;
                    return;
                }
                Err(DialError::NoAddresses) => {}
                Err(e) => want.reason = e.to_string(),
            }
        }
        if !self.keeper.is_trying() {
            self.wanted.fail(peer);
        }
    }
}
