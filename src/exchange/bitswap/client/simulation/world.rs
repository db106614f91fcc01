//! A network in simulated time: peers that serve, well or badly, over links with a latency and a
//! bandwidth, and fetchers that want a file's blocks with a window ahead. Checked all the time: only
//! what is wanted is delivered, and once.

mod names;
mod servers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;

use self::servers::{Event, Running};
pub use self::{
    names::{block, cid, number, peer_id},
    servers::{Manner, Server},
};
use super::super::{Action, Client, ClientConfig, SessionId};
use crate::{platform::time::Duration, random::Random};

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
}
