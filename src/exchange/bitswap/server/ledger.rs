//! What one peer wants, and what it was given.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use cid::Cid;
use multihash::Multihash;

use super::{FIRST_EXPECTED, LEAST_EXPECTED, LookupItem, MAX_LOOKUP, MAX_WANTS_PER_PEER};
use crate::{
    content::block::MAX_BLOCK,
    exchange::bitswap::message::{Presence, WantKind},
};

/// By which wants are matched: whatever version or codec a peer names, the bytes are the same.
pub type Hash = Multihash<64>;

/// In the order of the peer's own priorities, then of their coming.
type Rank = (Reverse<i32>, u64);

#[derive(Debug)]
pub struct Ledger {
    wants: HashMap<Hash, Want>,
    /// Wants to look up.
    queue: BTreeMap<Rank, Hash>,
    /// Wants whose block is not here.
    waiting: BTreeMap<Rank, Hash>,
    looking_up: bool,
    /// DONT_HAVEs for wants that there was no room for.
    refused: Vec<(Cid, Presence)>,
    /// How large its blocks are: the largest of late.
    expected: usize,
    /// Bytes of replies that were not sent yet.
    pub outstanding: usize,
    /// Bytes of all replies, and where the count began.
    pub given: u64,
}

#[derive(Debug, Clone)]
pub struct Want {
    pub cid: Cid,
    pub kind: WantKind,
    pub send_dont_have: bool,
    pub priority: i32,
    pub number: u64,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Queued,
    /// `again`: the block came after the lookup began, which may have missed it.
    LookedUp {
        again: bool,
    },
    Waiting,
}

impl Want {
    fn rank(&self) -> Rank {
        (Reverse(self.priority), self.number)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            wants: HashMap::new(),
            queue: BTreeMap::new(),
            waiting: BTreeMap::new(),
            looking_up: false,
            refused: Vec::new(),
            expected: FIRST_EXPECTED,
            outstanding: 0,
            given: 0,
        }
    }
}

impl Ledger {
    pub fn len(&self) -> usize {
        self.wants.len()
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn expected(&self) -> usize {
        self.expected
    }

    /// Nothing is lost by forgetting it.
    pub fn is_idle(&self) -> bool {
        self.wants.is_empty() && !self.looking_up && self.outstanding == 0
    }

    /// `share`: bytes that it may have outstanding; if it has none, one block may be more.
    pub fn is_ready(&self, share: usize) -> bool {
        let room = self.outstanding == 0 || self.outstanding + self.expected <= share;
        !self.looking_up && !self.queue.is_empty() && room
    }

    /// Called before a want is queued: a peer that wanted nothing until now starts at `clock`.
    pub fn wake(&mut self, clock: u64) {
        if self.queue.is_empty() && !self.looking_up && self.outstanding == 0 {
            self.given = self.given.max(clock);
        }
    }

    pub fn hashes(&self) -> Vec<Hash> {
        self.wants.keys().copied().collect()
    }

    /// Wants that are being looked up or wait.
    pub fn unanswered(&self) -> impl Iterator<Item = Cid> {
        self.wants.values().filter(|want| want.place != Place::Queued).map(|want| want.cid)
    }

    pub fn insert(&mut self, want: Want) {
        let hash = *want.cid.hash();
        self.queue.insert(want.rank(), hash);
        self.wants.insert(hash, want);
    }

    pub fn remove(&mut self, hash: &Hash) -> Option<Want> {
        let want = self.wants.remove(hash)?;
        match want.place {
            Place::Queued => self.queue.remove(&want.rank()),
            Place::Waiting => self.waiting.remove(&want.rank()),
            Place::LookedUp { .. } => None,
        };
        Some(want)
    }

    /// Which want to drop for `new`: the oldest of those of least priority that wait in vain, else
    /// the last in the queue; `None`: `new` itself.
    pub fn least_useful(&self, new: &Want) -> Option<Hash> {
        if let Some(((priority, _), _)) = self.waiting.last_key_value() {
            return self.waiting.range((*priority, 0)..).next().map(|(_, hash)| *hash);
        }
        let (rank, hash) = self.queue.last_key_value()?;
        (*rank > new.rank()).then_some(*hash)
    }

    /// There is no room for this one. The peer hears of it, so that it asks elsewhere.
    pub fn refuse(&mut self, want: &Want) {
        if want.send_dont_have && self.refused.len() < MAX_WANTS_PER_PEER {
            self.refused.push((want.cid, Presence::DontHave));
        }
    }

    /// Takes as many wants as `room` bytes are likely to be enough for. Whether a block is here is asked
    /// without reading it, so that takes none.
    pub fn start_lookup(&mut self, room: usize) -> Vec<LookupItem> {
        self.looking_up = true;
        let mut room = (room / self.expected).max(1);
        let mut items = Vec::new();
        while items.len() < MAX_LOOKUP
            && let Some((rank, hash)) = self.queue.pop_first()
        {
            let Some(want) = self.wants.get_mut(&hash) else { continue };
            if want.kind == WantKind::Block {
                if room == 0 {
                    self.queue.insert(rank, hash);
                    break;
                }
                room -= 1;
            }
            want.place = Place::LookedUp { again: false };
            items.push(LookupItem { cid: want.cid, kind: want.kind, number: want.number });
        }
        items
    }

    /// Returns what there is to tell besides the lookup's result.
    pub fn end_lookup(&mut self) -> Vec<(Cid, Presence)> {
        self.looking_up = false;
        std::mem::take(&mut self.refused)
    }

    /// The want of a lookup, if it is still the same.
    pub fn looked_up(&self, hash: &Hash, number: u64) -> Option<&Want> {
        self.wants.get(hash).filter(|want| want.number == number)
    }

    /// The block is not here; a DONT_HAVE was sent if it was asked for.
    pub fn wait(&mut self, hash: &Hash) {
        let Some(want) = self.wants.get_mut(hash) else { return };
        want.send_dont_have = false;
        let again = want.place == (Place::LookedUp { again: true });
        want.place = if again { Place::Queued } else { Place::Waiting };
        let list = if again { &mut self.queue } else { &mut self.waiting };
        list.insert(want.rank(), *hash);
    }

    /// There was no room to read the block.
    pub fn requeue(&mut self, hash: &Hash) {
        let Some(want) = self.wants.get_mut(hash) else { return };
        want.place = Place::Queued;
        self.queue.insert(want.rank(), *hash);
    }

    /// The block is stored now. Returns whether the want is to be told once more when that happens.
    pub fn stored(&mut self, hash: &Hash) -> bool {
        let Some(want) = self.wants.get_mut(hash) else { return false };
        match want.place {
            Place::LookedUp { .. } => {
                want.place = Place::LookedUp { again: true };
                true
            }
            Place::Waiting => {
                self.waiting.remove(&want.rank());
                want.place = Place::Queued;
                self.queue.insert(want.rank(), *hash);
                false
            }
            Place::Queued => false,
        }
    }

    /// Learns how large the blocks are: at once if larger than thought, else step by step, because a
    /// lookup of many small blocks that turn out large would fill the memory.
    pub fn expect(&mut self, largest: usize) {
        if largest > 0 {
            self.expected = largest.max(self.expected / 2).clamp(LEAST_EXPECTED, MAX_BLOCK);
        }
    }
}
