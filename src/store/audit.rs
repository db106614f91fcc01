//! Counting all references anew, from the roots: to clean up after a crash, and to check the counts.

use std::collections::HashMap;

use bytes::Bytes;
use cid::Cid;

use super::{
    Store, StoreError,
    key::{Key, MARK_KEY, child_keys, cid_of_key, extra_refs, is_node, key_of, refs_row},
    read::verified,
    registry::Known,
};
use crate::platform::database::{Op, Table};

/// Rows looked at, and written, together.
const PAGE: u32 = 1024;
/// Nodes read together.
const WALK_GROUP: usize = 32;

/// What [`Store::check`] found. Everything but `blocks` should be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Rows of blocks.
    pub blocks: u64,
    /// Blocks that no root reaches and no session accounts for.
    pub unreferenced: Vec<Cid>,
    /// Blocks that a root reaches and that are not there.
    pub missing: Vec<Cid>,
    /// Nodes whose links could not be read.
    pub unreadable: Vec<Cid>,
    /// Blocks with their stored and their true number of references beyond the first.
    pub miscounted: Vec<(Cid, u64, u64)>,
}

impl Audit {
    pub fn is_clean(&self) -> bool {
        *self == Self { blocks: self.blocks, ..Self::default() }
    }
}

impl Store {
    /// Walks from the roots and compares what it counts with what is stored. Reads every node, so
    /// it is for tests and for repair, not for every day. Commits wait for it.
    pub async fn check(&self) -> Result<Audit, StoreError> {
        let _turn = self.inner.committing.lock().await;
        let mut recount = self.recount().await?;
        let mut audit = Audit { unreadable: recount.unreadable.clone(), ..Audit::default() };
        let mut unreached = Vec::new();
        let mut pages = Pages::new(self, Table::Blocks);
        while let Some(keys) = pages.next().await? {
            for key in keys {
                audit.blocks += 1;
                match recount.references.get_mut(&key) {
                    Some(reached) => reached.there = true,
                    None if self.is_accounted_for(&key) => (),
                    None => unreached.push(key),
                }
            }
        }
        // A session may have let go of it between that look at the table and that at the registry.
        let there = self.database().has_many(Table::Blocks, unreached.clone()).await?;
        for (key, there) in unreached.iter().zip(there) {
            if there && !self.is_accounted_for(key) {
                audit.unreferenced.push(cid_of_key(key)?);
            }
        }
        let mut pages = Pages::new(self, Table::Refs);
        while let Some(keys) = pages.next().await? {
            let rows = self.database().get_many(Table::Refs, keys.clone()).await?;
            for (key, row) in keys.into_iter().zip(rows) {
                let stored = extra_refs(&key, row)?;
                let extra = recount.references.get_mut(&key).map_or(0, Reached::take_extra);
                if stored != extra || extra == 0 {
                    audit.miscounted.push((cid_of_key(&key)?, stored, extra));
                }
            }
        }
        for (key, reached) in recount.references {
            if !reached.there {
                audit.missing.push(cid_of_key(&key)?);
            }
            if reached.extra > 0 {
                audit.miscounted.push((cid_of_key(&key)?, 0, reached.extra));
            }
        }
        Ok(audit)
    }

    /// Whether the row of `key`, which no root reaches, is some session's or about to be deleted.
    fn is_accounted_for(&self, key: &Key) -> bool {
        matches!(self.registry().known(key), Known::Uncommitted | Known::Wait)
    }

    /// Deletes what no root reaches and writes the counts anew. Can be interrupted anywhere: the
    /// mark goes last.
    pub(super) async fn recover(&self) -> Result<(), StoreError> {
        let mut recount = self.recount().await?;
        if !recount.unreadable.is_empty() {
            // What hangs below those nodes looks like garbage, but is not. The mark stays, so the
            // next time tries again: they may have been fetched by then.
            tracing::warn!(nodes = recount.unreadable.len(), "unreadable nodes: no clean-up");
            let _ = self.registry().set_damaged();
            return Ok(());
        }
        let mut deleted = 0;
        let mut pages = Pages::new(self, Table::Blocks);
        while let Some(keys) = pages.next().await? {
            let lost = keys.into_iter().filter(|key| !recount.references.contains_key(key));
            let batch: Vec<Op> = lost.map(|key| Op::Delete { table: Table::Blocks, key }).collect();
            deleted += batch.len();
            self.database().write(batch).await?;
        }
        let mut pages = Pages::new(self, Table::Refs);
        while let Some(keys) = pages.next().await? {
            let rows = self.database().get_many(Table::Refs, keys.clone()).await?;
            let mut batch = Vec::new();
            for (key, row) in keys.into_iter().zip(rows) {
                let extra = recount.references.get_mut(&key).map_or(0, Reached::take_extra);
                if extra_refs(&key, row).ok() != Some(extra) || extra == 0 {
                    batch.push(refs_op(key, extra));
                }
            }
            self.database().write(batch).await?;
        }
        let mut uncounted: Vec<Op> = recount
            .references
            .into_iter()
            .filter(|(_, reached)| reached.extra > 0)
            .map(|(key, reached)| refs_op(key, reached.extra))
            .collect();
        while !uncounted.is_empty() {
            let rest = uncounted.split_off(uncounted.len().min(PAGE as usize));
            self.database().write(std::mem::replace(&mut uncounted, rest)).await?;
        }
        self.database().write(vec![Op::Delete { table: Table::Meta, key: MARK_KEY }]).await?;
        tracing::info!(deleted, "cleaned up after unfinished work");
        Ok(())
    }

    /// Every block that the roots reach. Memory is what its keys take; nodes are read in groups.
    async fn recount(&self) -> Result<Recount, StoreError> {
        let mut recount = Recount::default();
        let mut level = Vec::new();
        for (_, cid) in self.roots("").await? {
            recount.reach(key_of(&cid), &mut level);
        }
        while !level.is_empty() {
            let nodes = std::mem::take(&mut level);
            for group in nodes.chunks(WALK_GROUP) {
                let rows = self.database().get_many(Table::Blocks, group.to_vec()).await?;
                for (key, row) in group.iter().zip(rows) {
                    let cid = cid_of_key(key)?;
                    match self.children_of(cid, row).await {
                        Some(children) => {
                            for child in children {
                                recount.reach(Some(child), &mut level);
                            }
                        }
                        None => recount.unreadable.push(cid),
                    }
                }
            }
        }
        Ok(recount)
    }

    async fn children_of(&self, cid: Cid, row: Option<Bytes>) -> Option<Vec<Key>> {
        let block = verified(cid, row?).await.ok()?;
        child_keys(&block).ok()
    }
}

/// The keys of a table, a page at a time; those of the last page may be deleted.
struct Pages<'s> {
    store: &'s Store,
    table: Table,
    after: Option<Bytes>,
}

impl<'s> Pages<'s> {
    fn new(store: &'s Store, table: Table) -> Self {
        Self { store, table, after: None }
    }

    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, StoreError> {
        let keys = self.store.database().keys(self.table, self.after.take(), PAGE).await?;
        self.after = keys.last().cloned();
        Ok((!keys.is_empty()).then_some(keys))
    }
}

#[derive(Default)]
struct Recount {
    references: HashMap<Key, Reached>,
    unreadable: Vec<Cid>,
}

struct Reached {
    /// References beyond the first, until they were compared.
    extra: u64,
    /// Its row was seen.
    there: bool,
}

impl Recount {
    /// Counts one reference to `key`; a node reached for the first time goes on to `level`.
    fn reach(&mut self, key: Option<Key>, level: &mut Vec<Key>) {
        let Some(key) = key else { return };
        if let Some(reached) = self.references.get_mut(&key) {
            reached.extra += 1;
            return;
        }
        self.references.insert(key.clone(), Reached { extra: 0, there: false });
        if is_node(&key) {
            level.push(key);
        }
    }
}

impl Reached {
    fn take_extra(&mut self) -> u64 {
        std::mem::take(&mut self.extra)
    }
}

fn refs_op(key: Key, extra: u64) -> Op {
    match extra {
        0 => Op::Delete { table: Table::Refs, key },
        _ => Op::Put { table: Table::Refs, key, value: refs_row(extra) },
    }
}
