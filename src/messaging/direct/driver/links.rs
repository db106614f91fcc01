//! The links that there are, and what is told to several of them.

use std::sync::Arc;

use libp2p::{PeerId, StreamProtocol};

use super::{
    Driver, Key, mailbox,
    stream::{Gate, MAX_HEAVY_PER_LINK},
};
use crate::{
    messaging::direct::{MAX_LINKS, incoming::Mailbox, link::Link},
    platform::time::Duration,
};

pub(super) struct Entry {
    pub link: Link,
    pub protocol: StreamProtocol,
    pub gate: Gate,
    pub connected: bool,
    /// It is counted as such.
    pub troubled: bool,
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
            let oldest = self.links.remove(&oldest);
            self.troubled -= usize::from(oldest.is_some_and(|entry| entry.troubled));
        }
        let mut link = Link::new(self.epoch);
        if mailbox(&self.started, protocol.as_ref()).is_some() {
            link.start();
        }
        let gate = Gate::new(self.heavy.clone(), MAX_HEAVY_PER_LINK);
        let connected = self.peers.current().contains_key(&peer);
        let (protocol, used) = (protocol.clone(), self.turn);
        let entry = Entry { link, protocol, gate, connected, troubled: false, used };
        self.links.insert(key.clone(), entry);
        Some(key)
    }

    pub(super) fn restart(&mut self, started: Vec<(StreamProtocol, Arc<Mailbox>)>) {
        let started = started.into_iter();
        let now = started.map(|(name, mailbox)| (Arc::from(name.as_ref()), mailbox)).collect();
        let before = std::mem::replace(&mut self.started, now);
        let keys: Vec<Key> = self.links.keys().cloned().collect();
        for key in keys {
            let (before, now) = (mailbox(&before, &key.1), mailbox(&self.started, &key.1));
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

    /// Something came from this peer, for whichever protocol.
    pub(super) fn heard_of(&mut self, peer: PeerId, now: Duration) {
        if self.troubled == 0 {
            return;
        }
        let all = self.links.range((peer, Arc::from(""))..);
        let of_peer = all.take_while(|((of, _), _)| *of == peer);
        let troubled = of_peer.filter(|(_, entry)| entry.troubled);
        let keys: Vec<Key> = troubled.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.with(&key, |link| link.heard(now));
        }
    }
}
