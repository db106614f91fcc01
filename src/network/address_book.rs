//! Addresses of peers that we may want to dial: the last ones of the last peers, those that this
//! platform can dial and no others.

use std::collections::{HashMap, VecDeque};

use libp2p::{Multiaddr, PeerId};

use super::{
    address,
    config::{MAX_ADDRESSES_PER_PEER, MAX_KNOWN_PEERS},
};
use crate::platform::Dialer;

#[derive(Debug)]
pub struct AddressBook {
    dialer: Dialer,
    peers: HashMap<PeerId, Entry>,
    /// Counts the uses, to find the peer that was not used for longest.
    clock: u64,
}

#[derive(Debug, Default)]
struct Entry {
    addresses: VecDeque<Multiaddr>,
    used: u64,
}

impl AddressBook {
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, peers: HashMap::new(), clock: 0 }
    }

    /// Remembers an address, unless it cannot be dialled from here.
    pub fn add(&mut self, peer: PeerId, address: Multiaddr) {
        if self.dialer.rank(&address).is_none()
            || address::peer_of(&address).is_some_and(|named| named != peer)
        {
            return;
        }
        let address = address::without_peer(address);
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_KNOWN_PEERS {
            let oldest = self.peers.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id);
            oldest.map(|id| self.peers.remove(&id));
        }
        self.clock += 1;
        let entry = self.peers.entry(peer).or_default();
        entry.used = self.clock;
        entry.addresses.retain(|known| *known != address);
        entry.addresses.truncate(MAX_ADDRESSES_PER_PEER - 1);
        entry.addresses.push_front(address);
    }

    /// What is known of the peer, best first.
    pub fn get(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        self.clock += 1;
        let Some(entry) = self.peers.get_mut(&peer) else { return Vec::new() };
        entry.used = self.clock;
        self.dialer.usable(entry.addresses.iter().cloned(), MAX_ADDRESSES_PER_PEER)
    }

    /// Forgets an address that led to nobody or to another peer.
    pub fn remove(&mut self, peer: PeerId, address: &Multiaddr) {
        let address = address::without_peer(address.clone());
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.addresses.retain(|known| *known != address);
            if entry.addresses.is_empty() {
                self.peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: usize) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}/ws").parse().expect("an address")
    }

    fn book() -> AddressBook {
        AddressBook::new(Dialer::Browser { https: false, webtransport: true })
    }

    #[test]
    fn only_what_can_be_dialled_is_kept() {
        let (mut book, peer) = (book(), PeerId::random());
        for named in ["/ip4/127.0.0.1/tcp/1", "/memory/1"] {
            book.add(peer, named.parse().expect("an address"));
        }
        book.add(peer, address(2).with_p2p(PeerId::random()).expect("an address"));
        assert_eq!(book.get(peer), []);
        book.add(peer, address(2).with_p2p(peer).expect("an address"));
        book.add(peer, address(2));
        assert_eq!(book.get(peer), [address(2)]);
        book.remove(peer, &address(2).with_p2p(peer).expect("an address"));
        assert_eq!(book.get(peer), []);
    }

    #[test]
    fn the_book_stays_small() {
        let (mut book, first) = (book(), PeerId::random());
        for port in 1..=20 {
            book.add(first, address(port));
        }
        let newest: Vec<_> = (13..=20).rev().map(address).collect();
        assert_eq!(book.get(first), newest);
        let second = PeerId::random();
        book.add(second, address(1));
        for _ in 0..MAX_KNOWN_PEERS - 1 {
            book.get(first);
            book.add(PeerId::random(), address(1));
        }
        assert_eq!(book.peers.len(), MAX_KNOWN_PEERS);
        assert_eq!(book.get(second), [], "the one not used for longest made room");
        assert!(!book.get(first).is_empty());
    }
}
