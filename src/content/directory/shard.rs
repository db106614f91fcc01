//! Shards in memory: find, put, take, and the collapse of a shard that is left with one entry, so
//! that the shape of a directory depends on its names alone and not on how it came about.

use super::TreeError;
use super::load::Loader;
use super::node::{Child, Link, Seal, weight};
use crate::content::hamt::{Fanout, Place, ShardLink, ShardNode, murmur3_x64_64};
use crate::content::profile::ShardRule;

/// A loaded shard; its slots ascend.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub slots: Vec<(u8, Slot)>,
    pub tally: Tally,
    /// As in [`super::node::Dir`].
    pub whole: Option<usize>,
}

/// Boxed, because inserting moves the slots behind.
#[derive(Debug)]
pub(super) enum Slot {
    Entry(Box<Named>),
    Shard(Box<SubShard>),
}

#[derive(Debug)]
pub(super) struct Named {
    pub name: String,
    pub child: Child,
}

#[derive(Debug)]
pub(super) struct SubShard {
    pub link: Link,
    pub seal: Seal,
    pub body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Loaded(Shard),
    /// With the weight of its entries, if it was loaded whole before.
    Unloaded(Option<u64>),
}

/// What is known of the entries below a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Sum of [`weight`] over the known entries.
    pub weight: u64,
    /// Shards whose entries are not known.
    pub unknown: usize,
}

/// A name with its hash.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub name: &'a str,
    hash: u64,
}

impl<'a> Key<'a> {
    pub fn new(name: &'a str) -> Self {
        Self { name, hash: murmur3_x64_64(name.as_bytes()) }
    }
}

impl Shard {
    pub fn from_node(node: ShardNode, rule: ShardRule) -> Self {
        let mut shard = Self::default();
        for (slot, link) in node.slots {
            let slot_value = match link {
                ShardLink::Entry(link) => {
                    let child = Child::new(Link { cid: link.cid, tsize: link.tsize });
                    Slot::Entry(Box::new(Named { name: link.name, child }))
                }
                ShardLink::Shard { cid, tsize } => Slot::Shard(Box::new(SubShard {
                    link: Link { cid, tsize },
                    seal: Seal::saved(cid),
                    body: Body::Unloaded(None),
                })),
            };
            shard.tally.add(slot_value.tally(rule));
            shard.slots.push((slot, slot_value));
        }
        shard
    }

    /// Loads the shards that lead to `key`.
    pub fn load(&mut self, key: &Key, place: Place, loader: &mut Loader) -> Result<(), TreeError> {
        let Some((slot, Slot::Shard(sub))) = self.at_mut(key, place) else { return Ok(()) };
        let Some(below) = place.below(slot) else { return Ok(()) };
        let before = sub.tally();
        let result = sub.open(below, loader).and_then(|shard| shard.load(key, below, loader));
        let after = sub.tally();
        self.tally.replace(before, after);
        result
    }

    /// The entry of this name, as far as shards are loaded.
    pub fn find(&mut self, key: &Key, place: Place) -> Option<&mut Child> {
        match self.at_mut(key, place)? {
            (_, Slot::Entry(named)) if named.name == key.name => Some(&mut named.child),
            (_, Slot::Entry(_)) => None,
            (slot, Slot::Shard(sub)) => sub.loaded()?.find(key, place.below(slot)?),
        }
    }

    /// Says that the directory of this name has changed inside.
    pub fn touch(&mut self, key: &Key, place: Place) {
        self.whole = None;
        if let Some((slot, Slot::Shard(sub))) = self.at_mut(key, place) {
            sub.seal.touch();
            if let (Some(shard), Some(below)) = (sub.loaded(), place.below(slot)) {
                shard.touch(key, below);
            }
        }
    }

    /// Adds or replaces an entry. Fails, having changed nothing, only when the hashes of two names
    /// agree in all their bits.
    pub fn put(
        &mut self,
        key: Key,
        child: Child,
        place: Place,
        rule: ShardRule,
    ) -> Result<(), TreeError> {
        let collision =
            |other: &str| TreeError::Collision { names: [key.name.to_owned(), other.to_owned()] };
        let slot = place.slot(key.hash).ok_or_else(|| collision(""))?;
        let added = Tally { weight: weight(rule, key.name, &child.link), unknown: 0 };
        let named = |child| Slot::Entry(Box::new(Named { name: key.name.to_owned(), child }));
        let index = match self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Err(index) => {
                self.slots.insert(index, (slot, named(child)));
                self.tally.add(added);
                self.whole = None;
                return Ok(());
            }
            Ok(index) => index,
        };
        let Some((_, held)) = self.slots.get_mut(index) else { return Ok(()) };
        let before = held.tally(rule);
        match held {
            Slot::Entry(old) if old.name == key.name => old.child = child,
            Slot::Entry(old) => {
                let other = Key::new(&old.name);
                let below = place.below(slot).filter(|_| key.parts_from(&other, place.fanout));
                let below = below.ok_or_else(|| collision(&old.name))?;
                let mut shard = Self::default();
                let fresh = Slot::Shard(Box::new(SubShard::new(Self::default(), &child.link)));
                let Slot::Entry(old) = std::mem::replace(held, fresh) else { return Ok(()) };
                shard.put(Key::new(&old.name), old.child, below, rule)?;
                shard.put(key, child, below, rule)?;
                if let Slot::Shard(sub) = held {
                    sub.body = Body::Loaded(shard);
                }
            }
            Slot::Shard(sub) => {
                let below = place.below(slot).ok_or_else(|| collision(""))?;
                let Some(shard) = sub.loaded() else {
                    return Err(TreeError::Need(vec![sub.link.cid]));
                };
                shard.put(key, child, below, rule)?;
                sub.seal.touch();
            }
        }
        let after = held.tally(rule);
        self.tally.replace(before, after);
        self.whole = None;
        Ok(())
    }

    /// Removes an entry. A shard left with one entry gives it to the shard above and is gone.
    pub fn take(&mut self, key: &Key, place: Place, rule: ShardRule) -> Option<Child> {
        let slot = place.slot(key.hash)?;
        let index = self.slots.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        let (_, held) = self.slots.get_mut(index)?;
        let before = held.tally(rule);
        let (taken, left) = match held {
            Slot::Entry(named) if named.name != key.name => return None,
            Slot::Entry(_) => {
                let (_, Slot::Entry(named)) = self.slots.remove(index) else { return None };
                (named.child, Tally::default())
            }
            Slot::Shard(sub) => {
                let shard = sub.loaded()?;
                let taken = shard.take(key, place.below(slot)?, rule)?;
                match shard.slots.as_slice() {
                    [] => {
                        self.slots.remove(index);
                        (taken, Tally::default())
                    }
                    [(_, Slot::Entry(_))] => {
                        if let Some((_, last)) = shard.slots.pop() {
                            *held = last;
                        }
                        (taken, held.tally(rule))
                    }
                    _ => {
                        sub.seal.touch();
                        (taken, held.tally(rule))
                    }
                }
            }
        };
        self.tally.replace(before, left);
        self.whole = None;
        Some(taken)
    }

    /// Takes the shard apart into its entries; what is not loaded is lost, so load it before.
    pub fn into_entries(self, each: &mut impl FnMut(Named)) {
        for (_, slot) in self.slots {
            match slot {
                Slot::Entry(named) => each(*named),
                Slot::Shard(sub) => {
                    if let Body::Loaded(shard) = sub.body {
                        shard.into_entries(each);
                    }
                }
            }
        }
    }

    fn at_mut(&mut self, key: &Key, place: Place) -> Option<(u8, &mut Slot)> {
        let slot = place.slot(key.hash)?;
        let index = self.slots.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        self.slots.get_mut(index).map(|(_, held)| (slot, held))
    }
}

impl Slot {
    pub fn tally(&self, rule: ShardRule) -> Tally {
        match self {
            Self::Entry(named) => {
                Tally { weight: weight(rule, &named.name, &named.child.link), unknown: 0 }
            }
            Self::Shard(sub) => sub.tally(),
        }
    }
}

impl SubShard {
    /// A shard that is not in any block yet; `link` stands in until it is sealed.
    fn new(shard: Shard, link: &Link) -> Self {
        Self { link: *link, seal: Seal::changed(), body: Body::Loaded(shard) }
    }

    pub fn tally(&self) -> Tally {
        match &self.body {
            Body::Loaded(shard) => shard.tally,
            Body::Unloaded(Some(weight)) => Tally { weight: *weight, unknown: 0 },
            Body::Unloaded(None) => Tally { weight: 0, unknown: 1 },
        }
    }

    pub fn loaded(&mut self) -> Option<&mut Shard> {
        match &mut self.body {
            Body::Loaded(shard) => Some(shard),
            Body::Unloaded(_) => None,
        }
    }

    /// The shard, loaded if it was not.
    pub fn open(&mut self, place: Place, loader: &mut Loader) -> Result<&mut Shard, TreeError> {
        if let Body::Unloaded(_) = self.body {
            let block = loader.block(&self.link.cid)?;
            self.body = Body::Loaded(loader.shard(&block, place)?);
        }
        self.loaded().ok_or_else(|| TreeError::Need(Vec::new()))
    }
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.replace(Self::default(), other);
    }

    /// Counts `after` where `before` was counted.
    pub fn replace(&mut self, before: Self, after: Self) {
        self.weight = (self.weight + after.weight).saturating_sub(before.weight);
        self.unknown = (self.unknown + after.unknown).saturating_sub(before.unknown);
    }
}

impl Key<'_> {
    /// Whether some level tells the two names apart.
    fn parts_from(&self, other: &Key, fanout: Fanout) -> bool {
        let used = fanout.slots().trailing_zeros() * fanout.max_depth();
        (self.hash ^ other.hash) >> (u64::BITS - used) != 0
    }
}
