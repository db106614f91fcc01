//! What an address means to this peer: whether it can be dialled from here, which of several to try
//! first, and what it says of relays. By which transport it goes is the platform's
//! ([`crate::platform::carrier`]).
//!
//! `identify` tells a browser every address of a relay, TCP and QUIC included, so nothing enters an
//! address book before it has passed through here.

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::platform::Dialer;

impl Dialer {
    /// How soon to try `address`, lowest first; `None`: it cannot be dialled from here. Of a
    /// circuit, the part up to the relay counts.
    pub fn rank(self, address: &Multiaddr) -> Option<u8> {
        match split_circuit(address) {
            Some((relay, _)) => self.rank_direct(&relay),
            None => self.rank_direct(address),
        }
    }

    /// The addresses that can be dialled from here, best first, without duplicates, at most `limit`.
    pub fn usable(
        self,
        addresses: impl IntoIterator<Item = Multiaddr>,
        limit: usize,
    ) -> Vec<Multiaddr> {
        let mut ranked: Vec<(u8, Multiaddr)> = Vec::new();
        for address in addresses {
            if let Some(rank) = self.rank(&address)
                && !ranked.iter().any(|(_, known)| *known == address)
            {
                ranked.push((rank, address));
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.truncate(limit);
        ranked.into_iter().map(|(_, address)| address).collect()
    }
}

/// The id at the end of an address.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// The address without the id at its end.
pub fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

/// A circuit's address as the part up to and with the relay's id, and what follows `p2p-circuit`.
pub fn split_circuit(address: &Multiaddr) -> Option<(Multiaddr, Multiaddr)> {
    let mut protocols = address.iter();
    let mut relay = Multiaddr::empty();
    for protocol in protocols.by_ref() {
        if protocol == Protocol::P2pCircuit {
            return Some((relay, protocols.collect()));
        }
        relay.push(protocol);
    }
    None
}

/// The relay that a circuit's address goes through.
pub fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    split_circuit(address).and_then(|(relay, _)| peer_of(&relay))
}

/// The address of `peer` through the relay at `relay_address`.
pub fn through_relay(relay_address: &Multiaddr, relay: PeerId, peer: PeerId) -> Multiaddr {
    circuit(relay_address, relay).with(Protocol::P2p(peer))
}

/// The address to listen on for circuits of the relay at `relay_address`.
pub fn circuit(relay_address: &Multiaddr, relay: PeerId) -> Multiaddr {
    without_peer(relay_address.clone()).with(Protocol::P2p(relay)).with(Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWR7EfNv5SLtgjMRjUwR8AvNu3hP4fLrtSa9fmHHXKYWNG";

    fn address(text: &str) -> Multiaddr {
        text.replace("ID", ID).parse().expect("a valid address in the test")
    }

    #[test]
    fn circuits_are_judged_by_their_relay() {
        let through_ws = address("/ip4/127.0.0.1/tcp/1/ws/p2p/ID/p2p-circuit/p2p/ID");
        let through_tcp = address("/ip4/127.0.0.1/tcp/1/p2p/ID/p2p-circuit/p2p/ID");
        let browser = Dialer::Browser { https: false, webtransport: true };
        assert!(browser.rank(&through_ws).is_some());
        assert!(browser.rank(&through_tcp).is_none());
        assert_eq!(relay_of(&through_ws), ID.parse().ok());
        assert_eq!(relay_of(&address("/ip4/127.0.0.1/tcp/1/p2p/ID")), None);
    }

    #[test]
    fn the_best_address_comes_first_and_once() {
        let browser = Dialer::Browser { https: false, webtransport: true };
        let given = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/127.0.0.1/tcp/2/ws",
            "/dns/a.example/tcp/3/wss",
            "/ip4/127.0.0.1/udp/4/quic-v1/webtransport",
            "/ip4/127.0.0.1/tcp/2/ws",
        ];
        let usable = browser.usable(given.map(address), 8);
        assert_eq!(usable, [3, 2, 1].map(|i: usize| address(given[i])));
        assert_eq!(browser.usable(given.map(address), 1).len(), 1);
    }

    #[test]
    fn circuit_addresses_carry_the_relay_once() {
        let relay: PeerId = ID.parse().expect("a peer id");
        let peer = PeerId::random();
        for base in ["/ip4/127.0.0.1/tcp/1/ws", "/ip4/127.0.0.1/tcp/1/ws/p2p/ID"] {
            assert_eq!(
                through_relay(&address(base), relay, peer).to_string(),
                format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{ID}/p2p-circuit/p2p/{peer}")
            );
        }
    }
}
