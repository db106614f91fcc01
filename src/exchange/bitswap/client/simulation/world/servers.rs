//! The peers that serve: what they have, how they behave, and the links to them.

use std::collections::{BTreeMap, VecDeque};

use cid::{Cid, Version};

use super::{
    World,
    names::{cid, digest, number, peer_id},
};
use crate::{
    content::block::{Block, RAW},
    exchange::bitswap::message::{Presence, WantEntry, WantKind},
    platform::time::Duration,
};

/// Helia does not send a block again within this time.
const HELIA_RESEND: Duration = Duration::from_secs(5);

/// How a peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Honest,
    /// Says that it has everything, and sends nothing.
    Promises,
    /// Says nothing at all.
    Mute,
    /// Sends blocks that nobody asked for instead.
    Junk,
    /// Sends what cannot be verified: the driver reports it.
    Lies,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub manner: Manner,
    pub latency: Duration,
    /// Bytes per second.
    pub bandwidth: u64,
    /// Blocks `n` with `n % of.0` in `of.1..of.2`.
    pub of: (usize, usize, usize),
    /// As Helia: does not hear cancels, does not send a block again soon.
    pub helia: bool,
    pub ignores_haves: bool,
    /// Of a hundred blocks, how many come twice.
    pub duplicates: u64,
    pub provider: bool,
    /// When it goes, and for how long.
    pub leaves: Vec<(Duration, Option<Duration>)>,
    /// Of a hundred blocks, at how many the connection is lost; it comes back after a second.
    pub loss: u64,
}

impl Server {
    pub fn new(latency: u64, bandwidth: u64) -> Self {
        Self {
            manner: Manner::Honest,
            latency: Duration::from_millis(latency),
            bandwidth,
            of: (1, 0, 1),
            helia: false,
            ignores_haves: false,
            duplicates: 0,
            provider: true,
            leaves: Vec::new(),
            loss: 0,
        }
    }

    pub fn has(&self, n: usize) -> bool {
        (self.of.1..self.of.2).contains(&(n % self.of.0))
    }
}

pub(super) struct Running {
    pub(super) server: Server,
    pub(super) connected: bool,
    /// Counts connections: what belongs to an old one is lost.
    pub(super) epoch: u64,
    pub(super) queue: VecDeque<usize>,
    pub(super) sending: bool,
    pub(super) sent: BTreeMap<usize, Duration>,
}

pub(super) enum Event {
    Told { peer: usize, epoch: u64, wants: Vec<WantEntry> },
    LinkFree { peer: usize, epoch: u64 },
    Block { peer: usize, epoch: u64, n: usize },
    Presence { peer: usize, epoch: u64, presences: Vec<(Cid, Presence)> },
    Lie { peer: usize, epoch: u64 },
    Leave { peer: usize },
    Come { peer: usize },
}

impl World {
    fn size(&self, n: usize) -> u64 {
        if self.small_root && n == 0 { 500 } else { self.block_size }
    }

    pub(super) fn link(&self, peer: usize) -> (u64, Duration) {
        (self.peers[peer].epoch, self.peers[peer].server.latency / 2)
    }

    fn is_current(&self, peer: usize, epoch: u64) -> bool {
        self.peers[peer].connected && self.peers[peer].epoch == epoch
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Told { peer, epoch, wants } if self.is_current(peer, epoch) => {
                self.serve(peer, wants);
            }
            Event::LinkFree { peer, epoch } if self.is_current(peer, epoch) => {
                self.peers[peer].sending = false;
                self.send_next(peer);
            }
            Event::Block { peer, epoch, n } if self.is_current(peer, epoch) => {
                let digest = digest(n);
                let data = self.zeros.slice(..self.size(n) as usize);
                let block = Block::with_digest(Version::V1, RAW, &digest, data);
                self.bytes += self.size(n);
                self.told.remove(&(peer_id(peer), cid(n)));
                self.client.received(peer_id(peer), vec![block], Vec::new(), self.now);
            }
            Event::Presence { peer, epoch, presences } if self.is_current(peer, epoch) => {
                self.client.received(peer_id(peer), Vec::new(), presences, self.now);
            }
            Event::Lie { peer, epoch } if self.is_current(peer, epoch) => {
                self.client.misbehaved(peer_id(peer), self.now);
            }
            Event::Leave { peer } if self.peers[peer].connected => {
                let running = &mut self.peers[peer];
                running.connected = false;
                running.queue.clear();
                running.sending = false;
                self.told.retain(|(id, _)| *id != peer_id(peer));
                self.client.disconnected(peer_id(peer), self.now);
            }
            Event::Come { peer } if !self.peers[peer].connected => {
                self.peers[peer].connected = true;
                self.peers[peer].epoch += 1;
                self.client.connected(peer_id(peer), self.now);
            }
            _ => {}
        }
    }

    fn serve(&mut self, peer: usize, wants: Vec<WantEntry>) {
        let (epoch, latency) = self.link(peer);
        let server = self.peers[peer].server.clone();
        let mut presences = Vec::new();
        for want in wants {
            let n = number(&want.cid);
            let running = &mut self.peers[peer];
            if want.cancel {
                if !server.helia {
                    running.queue.retain(|queued| *queued != n);
                }
                continue;
            }
            match (server.manner, want.kind) {
                (Manner::Mute, _) => {}
                (Manner::Promises | Manner::Junk | Manner::Lies, WantKind::Have) => {
                    presences.push((want.cid, Presence::Have));
                }
                (Manner::Promises, WantKind::Block) => {}
                (Manner::Lies, WantKind::Block) => {
                    self.at(self.now + latency, Event::Lie { peer, epoch });
                }
                (Manner::Junk, WantKind::Block) => running.queue.push_back(n + (1 << 40)),
                (Manner::Honest, WantKind::Have) if server.ignores_haves => {}
                (Manner::Honest, _) if !server.has(n) => {
                    presences.push((want.cid, Presence::DontHave));
                }
                (Manner::Honest, WantKind::Have) => presences.push((want.cid, Presence::Have)),
                (Manner::Honest, WantKind::Block) => {
                    let again =
                        running.sent.get(&n).is_some_and(|at| *at + HELIA_RESEND > self.now);
                    if !(running.queue.contains(&n) || server.helia && again) {
                        running.queue.push_back(n);
                        if self.random.chance(server.duplicates) {
                            self.peers[peer].queue.push_back(n);
                        }
                    }
                }
            }
        }
        if !presences.is_empty() {
            self.at(self.now + latency, Event::Presence { peer, epoch, presences });
        }
        self.send_next(peer);
    }

    fn send_next(&mut self, peer: usize) {
        let (epoch, latency) = self.link(peer);
        if self.peers[peer].sending {
            return;
        }
        let Some(n) = self.peers[peer].queue.pop_front() else { return };
        let size = self.size(n);
        let running = &mut self.peers[peer];
        running.sending = true;
        running.sent.insert(n, self.now);
        let loss = running.server.loss;
        let sent = self.now + Duration::from_nanos(size * 1_000_000_000 / running.server.bandwidth);
        if self.random.chance(loss) {
            self.at(sent, Event::Leave { peer });
            self.at(sent + Duration::from_secs(1), Event::Come { peer });
            return;
        }
        self.at(sent, Event::LinkFree { peer, epoch });
        self.at(sent + latency, Event::Block { peer, epoch, n });
    }
}
