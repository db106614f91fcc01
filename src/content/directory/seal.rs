//! From directories in memory to blocks: changed nodes are encoded from the bottom up, each
//! directory in the form that its size demands, and handed out once.

use super::load::Loader;
use super::node::{
    Child, Dir, Flat, Form, Hamt, Link, Seal, State, base_weight, flat_data, pb_link, threshold,
    weight,
};
use super::shard::{Body, Named, Shard, Slot};
use super::{DirParams, MAX_LEARNED, TreeError};
use crate::boxmap::{BoxMap, BoxSet};
use crate::content::block::{Block, Cid, DAG_PB, MAX_BLOCK};
use crate::content::dagpb::PbNode;
use crate::content::hamt::{Fanout, Place, Stat, encode_shard};

impl Child {
    /// Makes the link tell the content again. `false` if blocks are needed for that first, to learn
    /// whether a sharded directory has become small; the loader then knows which.
    pub fn settle(&mut self, loader: &mut Loader) -> Result<bool, TreeError> {
        let Some(dir) = self.dir.as_mut().filter(|dir| dir.seal.is_changed()) else {
            return Ok(true);
        };
        if !dir.settle_entries(loader)? || !dir.choose_form(loader)? {
            return Ok(false);
        }
        self.link = dir.encode(loader.params)?;
        Ok(true)
    }

    /// Hands out the sealed blocks below, children first.
    pub fn collect(&mut self, out: &mut Handout) {
        let Some(dir) = self.dir.as_mut().filter(|dir| !dir.seal.is_saved()) else { return };
        match &mut dir.form {
            Form::Flat(flat) => flat.entries.values_mut().for_each(|child| child.collect(out)),
            Form::Hamt(hamt) => hamt.root.collect(out),
        }
        dir.seal.hand_out(out);
    }

    /// Forgets what is saved, keeping what was learned of the sizes of sharded directories.
    pub fn unload(&mut self, params: DirParams, learned: &mut BoxMap<Cid, u64>) {
        let Some(dir) = &mut self.dir else { return };
        if let (Form::Hamt(hamt), Some(cid)) = (&dir.form, dir.seal.origin)
            && let Some(size) = hamt.learned(params, dir.stat)
            && dir.seal.is_saved()
        {
            if learned.len() >= MAX_LEARNED {
                learned.pop_first();
            }
            learned.insert(cid, size);
        }
        dir.whole = None;
        match &mut dir.form {
            Form::Flat(flat) => {
                flat.entries.values_mut().for_each(|child| child.unload(params, learned));
            }
            Form::Hamt(hamt) => {
                let known = hamt.root.tally.weight + base_weight(params.shard, dir.stat);
                hamt.at_least = hamt.at_least.max(known);
                hamt.root.unload(params, learned);
            }
        }
        if dir.seal.is_saved() {
            self.dir = None;
        }
    }
}

impl Dir {
    fn settle_entries(&mut self, loader: &mut Loader) -> Result<bool, TreeError> {
        let rule = loader.params.shard;
        match &mut self.form {
            Form::Flat(flat) => {
                let mut settled = true;
                for (name, child) in flat.entries.iter_mut().filter(|(_, c)| !c.is_settled()) {
                    let before = weight(rule, name, &child.link);
                    settled &= child.settle(loader)?;
                    flat.weight = flat.weight + weight(rule, name, &child.link) - before;
                }
                Ok(settled)
            }
            Form::Hamt(hamt) => hamt.weighed(|root, _| root.settle_entries(loader)),
        }
    }

    /// Turns a flat directory that is too large into shards, and shards that are small enough into
    /// a flat directory. `false` if more has to be loaded to tell.
    fn choose_form(&mut self, loader: &mut Loader) -> Result<bool, TreeError> {
        let rule = loader.params.shard;
        let base = base_weight(rule, self.stat);
        match &mut self.form {
            Form::Flat(flat) if base + flat.weight > threshold(rule) => {
                let mut hamt = Hamt::empty();
                // All names first: should two of them collide, the flat directory is still whole.
                for name in flat.entries.keys() {
                    hamt.put(name, Child::new(Link::nowhere()), rule)?;
                }
                let mut hamt = Hamt::empty();
                for (name, child) in std::mem::take(&mut flat.entries) {
                    hamt.put(&name, child, rule)?;
                }
                self.form = Form::Hamt(hamt);
            }
            Form::Flat(_) => {}
            Form::Hamt(hamt) => {
                if !hamt.is_decided(base, loader)? {
                    return Ok(false);
                }
                if hamt.root.tally.unknown > 0 || base + hamt.root.tally.weight > threshold(rule) {
                    return Ok(true);
                }
                if !hamt.load_all(loader)? {
                    return Ok(false);
                }
                let mut flat = Flat { weight: hamt.root.tally.weight, ..Flat::default() };
                std::mem::take(&mut hamt.root).into_entries(&mut |Named { name, child }| {
                    flat.entries.insert(name, child);
                });
                self.form = Form::Flat(flat);
            }
        }
        Ok(true)
    }

    fn encode(&mut self, params: DirParams) -> Result<Link, TreeError> {
        let node = match &mut self.form {
            Form::Flat(flat) => {
                let links =
                    flat.entries.iter().map(|(name, c)| pb_link(name.clone(), &c.link)).collect();
                PbNode { links, data: Some(flat_data(self.stat).encode()) }
            }
            Form::Hamt(hamt) => hamt.root.encode(hamt.fanout, self.stat, params)?,
        };
        self.seal.close(&node, params)
    }
}

impl Hamt {
    fn empty() -> Self {
        let (fanout, root) = (Fanout::DEFAULT, Shard::default());
        Self { fanout, root, at_least: 0, goal: 0, seeking: false }
    }

    /// Whether it is known that the directory is above the threshold, or exactly what it has.
    fn is_decided(&mut self, base: u64, loader: &mut Loader) -> Result<bool, TreeError> {
        let limit = threshold(loader.params.shard);
        let goal = self.goal.max(limit);
        self.at_least = self.at_least.max(base + self.root.tally.weight);
        if self.root.tally.unknown == 0 || (self.at_least > limit && !self.seeking) {
            self.seeking = false;
            return Ok(true);
        }
        self.seeking = true;
        // Level by level, because the upper shards hold the most entries.
        let wishes = loader.wishes();
        for level in 1..self.fanout.max_depth() {
            let loaded = self.root.load_level(Place::root(self.fanout), level, false, loader)?;
            let known = base + self.root.tally.weight;
            self.at_least = self.at_least.max(known);
            if self.root.tally.unknown == 0 || known > goal {
                loader.forget_wishes(wishes);
                self.seeking = false;
            }
            if !loaded || !self.seeking {
                break;
            }
        }
        Ok(!self.seeking)
    }

    /// Loads every shard, or wishes for what was not supplied.
    fn load_all(&mut self, loader: &mut Loader) -> Result<bool, TreeError> {
        for level in 1..self.fanout.max_depth() {
            if !self.root.load_level(Place::root(self.fanout), level, true, loader)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Shard {
    fn settle_entries(&mut self, loader: &mut Loader) -> Result<bool, TreeError> {
        let rule = loader.params.shard;
        let mut settled = true;
        for (_, slot) in &mut self.slots {
            match slot {
                Slot::Entry(named) if !named.child.is_settled() => {
                    let before = weight(rule, &named.name, &named.child.link);
                    settled &= named.child.settle(loader)?;
                    let after = weight(rule, &named.name, &named.child.link);
                    self.tally.weight = self.tally.weight + after - before;
                }
                Slot::Shard(sub) if sub.seal.is_changed() => {
                    let before = sub.tally();
                    if let Some(shard) = sub.loaded() {
                        settled &= shard.settle_entries(loader)?;
                    }
                    self.tally.replace(before, sub.tally());
                }
                _ => {}
            }
        }
        Ok(settled)
    }

    /// Loads the shards `level` levels down as far as they were supplied, and wishes for the others;
    /// on request also those of which the weight is known. `true` when none is missing.
    fn load_level(
        &mut self,
        place: Place,
        level: u32,
        weighed_too: bool,
        loader: &mut Loader,
    ) -> Result<bool, TreeError> {
        let mut complete = true;
        for (slot, held) in &mut self.slots {
            let Slot::Shard(sub) = held else { continue };
            let known = matches!(sub.body, Body::Unloaded(Some(_))) && !weighed_too;
            let Some(below) = place.below(*slot).filter(|_| !known) else { continue };
            if loader.is_full() {
                return Ok(false);
            }
            let before = sub.tally();
            if below.depth < level {
                if let Some(shard) = sub.loaded() {
                    complete &= shard.load_level(below, level, weighed_too, loader)?;
                }
            } else {
                loader.visit(1)?;
                let opened = sub.open(below, loader).map(drop);
                complete &= loader.wish(opened)?.is_some();
            }
            let after = sub.tally();
            self.tally.replace(before, after);
        }
        Ok(complete)
    }

    fn encode(
        &mut self,
        fanout: Fanout,
        stat: Stat,
        params: DirParams,
    ) -> Result<PbNode, TreeError> {
        for (_, slot) in &mut self.slots {
            let Slot::Shard(sub) = slot else { continue };
            if !sub.seal.is_changed() {
                continue;
            }
            if let Body::Loaded(shard) = &mut sub.body {
                let node = shard.encode(fanout, Stat::default(), params)?;
                sub.link = sub.seal.close(&node, params)?;
            }
        }
        let links = self.slots.iter().map(|(slot, held)| {
            let (name, link) = match held {
                Slot::Entry(named) => (named.name.as_str(), &named.child.link),
                Slot::Shard(sub) => ("", &sub.link),
            };
            (*slot, pb_link(fanout.link_name(*slot, name), link))
        });
        Ok(encode_shard(fanout, stat, links))
    }

    fn collect(&mut self, out: &mut Handout) {
        for (_, slot) in &mut self.slots {
            match slot {
                Slot::Entry(named) => named.child.collect(out),
                Slot::Shard(sub) if !sub.seal.is_saved() => {
                    if let Some(shard) = sub.loaded() {
                        shard.collect(out);
                    }
                    sub.seal.hand_out(out);
                }
                Slot::Shard(_) => {}
            }
        }
    }

    fn unload(&mut self, params: DirParams, learned: &mut BoxMap<Cid, u64>) {
        self.whole = None;
        for (_, slot) in &mut self.slots {
            match slot {
                Slot::Entry(named) => named.child.unload(params, learned),
                Slot::Shard(sub) => {
                    let tally = sub.tally();
                    let Some(shard) = sub.loaded() else { continue };
                    shard.unload(params, learned);
                    if sub.seal.is_saved() {
                        // What is known of a shard half loaded is lost.
                        sub.body = Body::Unloaded((tally.unknown == 0).then_some(tally.weight));
                    }
                    let after = sub.tally();
                    self.tally.replace(tally, after);
                }
            }
        }
    }
}

impl Seal {
    /// Makes the block of a changed node.
    fn close(&mut self, node: &PbNode, params: DirParams) -> Result<Link, TreeError> {
        let data = node.encode();
        if data.len() > MAX_BLOCK {
            return Err(TreeError::NodeTooLarge { len: data.len() });
        }
        let below = node.links.iter().fold(0u64, |sum, link| sum.saturating_add(link.tsize));
        let tsize = below.saturating_add(data.len() as u64);
        let block = Block::encode(params.version, DAG_PB, data);
        let link = Link { cid: *block.cid(), tsize };
        self.state = State::Sealed(block);
        Ok(link)
    }

    fn hand_out(&mut self, out: &mut Handout) {
        if let State::Sealed(block) = std::mem::replace(&mut self.state, State::Saved) {
            let before = self.origin.replace(*block.cid());
            if before != Some(*block.cid()) && out.seen.insert(*block.cid()) {
                out.blocks.push(block);
            }
        }
    }
}

/// Blocks of a flush, each once.
#[derive(Default)]
pub(super) struct Handout {
    pub blocks: Vec<Block>,
    seen: BoxSet<Cid>,
}

impl Link {
    /// A link of no content.
    fn nowhere() -> Self {
        Self { cid: Cid::default(), tsize: 0 }
    }
}
