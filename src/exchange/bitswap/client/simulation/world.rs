//! A network in simulated time: peers that serve, well or badly, over links with a latency and a
//! bandwidth, and fetchers that want a file's blocks with a window ahead. Checked all the time: only
//! what is wanted is delivered, and once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use cid::{Cid, Version};
use libp2p::PeerId;
use multihash::Multihash;

use super::super::{Action, Client, ClientConfig, SessionId};
use crate::{
    content::block::{Block, RAW, SHA2_256},
    exchange::bitswap::message::{Presence, WantEntry, WantKind},
    platform::time::Duration,
};

/// Helia does not send a block again within this time.
const HELIA_RESEND: Duration = Duration::from_secs(5);

/// Deterministic numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub fn peer_id(n: usize) -> PeerId {
    let digest = (n as u64 + 1).to_be_bytes();
    PeerId::from_multihash(Multihash::wrap(0, &digest).expect("short")).expect("identity")
}

fn digest(n: usize) -> [u8; 32] {
    // Spread, so that the order by hash says nothing.
    let mut random = Random(n as u64);
    let mut digest = [0; 32];
    digest.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_be_bytes()));
    digest[24..].copy_from_slice(&(n as u64).to_be_bytes());
    digest
}

pub fn cid(n: usize) -> Cid {
    Cid::new_v1(RAW, Multihash::wrap(SHA2_256, &digest(n)).expect("short"))
}

pub fn block(n: usize, size: usize) -> Block {
    Block::with_digest(Version::V1, RAW, &digest(n), vec![0; size].into())
}

/// The number that [`cid`] was made of.
pub fn number(cid: &Cid) -> usize {
    let tail = cid.hash().digest()[24..].try_into().expect("8 bytes");
    u64::from_be_bytes(tail) as usize
}

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

struct Running {
    server: Server,
    connected: bool,
    /// Counts connections: what belongs to an old one is lost.
    epoch: u64,
    queue: VecDeque<usize>,
    sending: bool,
    sent: BTreeMap<usize, Duration>,
}

enum Event {
    Told { peer: usize, epoch: u64, wants: Vec<WantEntry> },
    LinkFree { peer: usize, epoch: u64 },
    Block { peer: usize, epoch: u64, n: usize },
    Presence { peer: usize, epoch: u64, presences: Vec<(Cid, Presence)> },
    Lie { peer: usize, epoch: u64 },
    Leave { peer: usize },
    Come { peer: usize },
}

pub struct Fetch {
    pub id: SessionId,
    todo: VecDeque<usize>,
    window: usize,
    /// Nothing else is known before the first is there.
    root_first: bool,
    pub wanted: BTreeSet<usize>,
    pub got: BTreeSet<usize>,
    pub exhausted: BTreeSet<usize>,
    pub ended: Option<Duration>,
}

impl Fetch {
    fn done(&self) -> bool {
        self.todo.is_empty() && self.wanted.is_empty()
    }
}

pub struct World {
    pub client: Client,
    pub now: Duration,
    pub random: Random,
    pub block_size: u64,
    /// Block 0 has a few hundred bytes and names the others.
    pub small_root: bool,
    pub fetches: Vec<Fetch>,
    /// Of blocks, that came to the client at all.
    pub bytes: u64,
    pub sends: u64,
    /// What each peer was told to want and not told to forget.
    pub told: BTreeSet<(PeerId, Cid)>,
    pub asked: BTreeSet<PeerId>,
    peers: Vec<Running>,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    zeros: Bytes,
}

impl World {
    pub fn new(seed: u64, block_size: u64, servers: Vec<Server>) -> Self {
        let mut world = Self {
            client: Client::new(ClientConfig::default()),
            now: Duration::ZERO,
            random: Random(seed),
            block_size,
            small_root: false,
            fetches: Vec::new(),
            bytes: 0,
            sends: 0,
            told: BTreeSet::new(),
            asked: BTreeSet::new(),
            peers: Vec::new(),
            events: BTreeMap::new(),
            count: 0,
            zeros: vec![0; block_size as usize].into(),
        };
        for (peer, server) in servers.into_iter().enumerate() {
            for (at, back) in server.leaves.clone() {
                world.at(at, Event::Leave { peer });
                if let Some(back) = back {
                    world.at(at + back, Event::Come { peer });
                }
            }
            world.peers.push(Running {
                server,
                connected: true,
                epoch: 0,
                queue: VecDeque::new(),
                sending: false,
                sent: BTreeMap::new(),
            });
            world.client.connected(peer_id(peer), world.now);
        }
        world
    }

    pub fn fetch(&mut self, blocks: std::ops::Range<usize>, window: usize) -> usize {
        let id = self.client.open();
        for (n, peer) in self.peers.iter().enumerate().filter(|(_, peer)| peer.server.provider) {
            let score = 1.0 / (1.0 + n as f64);
            self.client.add_provider(id, peer_id(n), score, self.now);
            let _ = peer;
        }
        self.fetches.push(Fetch {
            id,
            todo: blocks.collect(),
            window,
            root_first: self.small_root,
            wanted: BTreeSet::new(),
            got: BTreeSet::new(),
            exhausted: BTreeSet::new(),
            ended: None,
        });
        let index = self.fetches.len() - 1;
        self.want_more(index);
        self.drain();
        index
    }

    /// Until all fetches are done, or nothing happens that could bring them on.
    pub fn run(&mut self, until: Duration) {
        while self.fetches.iter().any(|fetch| !fetch.done()) {
            if !self.step(until) {
                return;
            }
        }
    }

    /// The next thing that happens; `false`: nothing does until then.
    pub fn step(&mut self, until: Duration) -> bool {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.client.deadline();
        let Some(at) = event.into_iter().chain(deadline).min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        if event == Some(at) {
            if let Some((_, event)) = self.events.pop_first() {
                self.happen(event);
            }
        } else {
            self.client.tick(self.now);
            let next = self.client.deadline();
            assert!(next.is_none_or(|next| next > self.now), "due again at once: {next:?}");
        }
        self.drain();
        true
    }

    /// Closes everything and checks that nothing is left.
    pub fn end(&mut self) {
        for fetch in std::mem::take(&mut self.fetches) {
            self.client.close(fetch.id);
        }
        self.drain();
        self.client.tick(self.now);
        self.drain();
        assert_eq!(self.client.load(), (0, 0));
        assert!(self.told.is_empty(), "peers wait for cancels: {:?}", self.told);
        for peer in self.client.peers.values() {
            assert!(peer.asked.is_empty() && peer.owed == 0, "{peer:?}");
        }
        assert!(self.client.talking.is_empty() && self.client.actions.is_empty());
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    fn want_more(&mut self, index: usize) {
        let fetch = &mut self.fetches[index];
        let mut cids = Vec::new();
        let window = if fetch.root_first && fetch.got.is_empty() { 1 } else { fetch.window };
        while fetch.wanted.len() < window
            && let Some(n) = fetch.todo.pop_front()
        {
            fetch.wanted.insert(n);
            cids.push(cid(n));
        }
        if !cids.is_empty() {
            self.client.want(fetch.id, &cids, self.now).expect("within bounds");
        }
    }

    pub fn drain(&mut self) {
        while let Some(action) = self.client.next_action() {
            match action {
                Action::Send { peer: id, wants, .. } => {
                    self.sends += 1;
                    self.asked.insert(id);
                    let found = (0..self.peers.len()).find(|n| peer_id(*n) == id);
                    let Some(peer) = found else { panic!("an unknown peer is told something") };
                    assert!(self.peers[peer].connected, "one that is gone is told something");
                    for want in &wants {
                        if want.cancel {
                            self.told.remove(&(id, want.cid));
                        } else {
                            self.told.insert((id, want.cid));
                        }
                    }
                    let (epoch, latency) = self.link(peer);
                    self.at(self.now + latency, Event::Told { peer, epoch, wants });
                }
                Action::Block { sessions, block, .. } => {
                    let n = number(block.cid());
                    assert_eq!(*block.cid(), cid(n), "under the CID that was asked for");
                    for id in sessions {
                        let index = self.fetches.iter().position(|fetch| fetch.id == id);
                        let index = index.expect("a session that is open");
                        let fetch = &mut self.fetches[index];
                        assert!(fetch.wanted.remove(&n), "not wanted, or twice: {n}");
                        assert!(fetch.got.insert(n));
                        self.want_more(index);
                        if self.fetches[index].done() {
                            self.fetches[index].ended = Some(self.now);
                        }
                    }
                }
                Action::Exhausted { session, cids } => {
                    let fetch = self.fetches.iter_mut().find(|fetch| fetch.id == session);
                    let fetch = fetch.expect("a session that is open");
                    for cid in cids {
                        assert!(fetch.wanted.contains(&number(&cid)), "exhausted, not wanted");
                        assert!(fetch.exhausted.insert(number(&cid)), "exhausted twice");
                    }
                }
            }
        }
    }

    fn size(&self, n: usize) -> u64 {
        if self.small_root && n == 0 { 500 } else { self.block_size }
    }

    fn link(&self, peer: usize) -> (u64, Duration) {
        (self.peers[peer].epoch, self.peers[peer].server.latency / 2)
    }

    fn is_current(&self, peer: usize, epoch: u64) -> bool {
        self.peers[peer].connected && self.peers[peer].epoch == epoch
    }

    fn happen(&mut self, event: Event) {
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
