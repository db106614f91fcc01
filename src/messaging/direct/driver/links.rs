//! The links that there are, and what is told to several of them.

use std::sync::Arc;

use libp2p::{PeerId, StreamProtocol};

use super::{
    Driver, Key,
    stream::{Gate, MAX_HEAVY_PER_LINK},
};
use crate::{
    boxmap::BoxMap,
    messaging::direct::{MAX_LINKS, incoming::Mailbox, link::Link},
};

pub(super) struct Entry {
    pub link: Link,
    pub protocol: StreamProtocol,
    pub gate: Gate,
    pub connected: bool,
    pub used: u64,
}

impl Driver {
    /// The link, new if need be; `None` if there are too many.
    pub(super) fn link(&mut self, peer: PeerId, protocol: &StreamProtocol) -> Option<Key> {
        let key: Key = (peer, Arc::from(protocol.as_ref()));
        if self.links.contains_key(&key) {
            return Some(key);
        }
        if self.links.len() >= MAX_LINKS {
            let idle = self.links.iter().filter(|(_, entry)| entry.link.is_idle());
            let oldest = idle.min_by_key(|(_, entry)| entry.used)?.0.clone();
            self.links.remove(&oldest);
        }
        let mut link = Link::new(self.epoch);
        if self.started.contains_key(&key.1) {
            link.start();
        }
        let gate = Gate::new(self.heavy.clone(), MAX_HEAVY_PER_LINK);
        let connected = self.peers.current().contains_key(&peer);
        let entry = Entry { link, protocol: protocol.clone(), gate, connected, used: self.turn };
        self.links.insert(key.clone(), entry);
        Some(key)
    }

    pub(super) fn restart(&mut self, started: Vec<(StreamProtocol, Arc<Mailbox>)>) {
        let mut now: BoxMap<Arc<str>, Arc<Mailbox>> = BoxMap::new();
        for (protocol, mailbox) in started {
            now.insert(Arc::from(protocol.as_ref()), mailbox);
        }
        let before = std::mem::replace(&mut self.started, now);
        let keys: Vec<Key> = self.links.keys().cloned().collect();
        for key in keys {
            let (before, now) = (before.get(&key.1), self.started.get(&key.1));
            let same = before.map(Arc::as_ptr) == now.map(Arc::as_ptr);
            let (stops, starts) = (before.is_some() && !same, now.is_some() && !same);
            self.with(&key, |link| {
                if stops {
                    link.stop();
                }
                if starts {
                    link.start();
                }
            });
        }
    }

    /// Who is connected now, and was not before.
    pub(super) fn meet(&mut self) {
        let (now, peers) = (self.now(), self.peers.current());
        let mut came = Vec::new();
        for (key, entry) in &mut self.links {
            let connected = peers.contains_key(&key.0);
            if connected && !entry.connected {
                came.push(key.clone());
            }
            entry.connected = connected;
        }
        drop(peers);
        for key in came {
            self.with(&key, |link| link.connected(now));
        }
    }

    pub(super) fn tell_all_of(&mut self, peer: PeerId, tell: impl Fn(&mut Link)) {
        let all = self.links.range((peer, Arc::from(""))..);
        let of_peer = all.take_while(|((of, _), _)| *of == peer);
        let keys: Vec<Key> = of_peer.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.with(&key, &tell);
        }
    }
}
