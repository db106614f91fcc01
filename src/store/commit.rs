//! Making blocks reachable and freeing what no longer is, in one batch.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use cid::Cid;

use super::{
    Session, Store, StoreError,
    key::{Key, child_keys, cid_of_key, extra_refs, is_node, key_of, refs_row},
    read::verified,
    registry::{Known, Outcome},
};
use crate::platform::{
    database::{DatabaseError, Op, Table},
    task,
};

/// Missing blocks that [`StoreError::Incomplete`] names.
pub const MAX_REPORTED_MISSING: usize = 16;
/// Blocks read together while looking for what a removal frees.
const FREE_GROUP: usize = 32;

/// A root from `expected` to `new`, if it is `expected` still; `None` is no root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootChange {
    pub name: String,
    pub expected: Option<Cid>,
    pub new: Option<Cid>,
}

impl Store {
    /// Changes roots, commits the blocks of `sessions` that the new roots reach, frees the blocks
    /// that no root reaches any more: all of it or nothing. Either way the sessions end. What they
    /// had beyond the new roots is discarded, and all of it on an error.
    ///
    /// Once it has begun, it runs to its end even if the future is dropped.
    pub async fn commit(
        &self,
        sessions: Vec<Session>,
        changes: Vec<RootChange>,
    ) -> Result<(), StoreError> {
        let turn = self.inner.committing.clone().lock_owned().await;
        let store = self.clone();
        let work = task::spawn(async move {
            let _turn = turn;
            let mut sessions = sessions;
            let result = commit(&store, &mut sessions, changes).await;
            for session in &mut sessions {
                let _ = session.land_all().await;
            }
            drop(sessions);
            store.sweep().await;
            result
        });
        work.await.unwrap_or_else(|_| Err(DatabaseError::Closed("the program ends".into()).into()))
    }

    /// Whether the block of each key is committed, as far as `keys` are not `Known::Uncommitted`.
    async fn committed(&self, keys: &[Key]) -> Result<HashSet<Key>, StoreError> {
        let (mut committed, mut unknown) = (HashSet::new(), Vec::new());
        let answer = loop {
            let landing = {
                let mut registry = self.registry();
                if keys.iter().any(|key| registry.known(key) == Known::Wait) {
                    registry.next_landing()
                } else {
                    for key in keys {
                        match registry.known(key) {
                            Known::Committed => drop(committed.insert(key.clone())),
                            Known::AskDatabase => unknown.push(key.clone()),
                            Known::Uncommitted | Known::Wait => (),
                        }
                    }
                    break self.database().has_many(Table::Blocks, unknown.clone());
                }
            };
            let _ = landing.await;
        };
        if !unknown.is_empty() {
            let there = unknown.into_iter().zip(answer.await?).filter(|(_, there)| *there);
            committed.extend(there.map(|(key, _)| key));
        }
        Ok(committed)
    }
}

async fn commit(
    store: &Store,
    sessions: &mut [Session],
    changes: Vec<RootChange>,
) -> Result<(), StoreError> {
    for session in sessions.iter_mut() {
        session.land_all().await?;
    }
    let keys: Vec<Key> =
        sessions.iter().flat_map(|session| session.blocks().keys().cloned()).collect();
    let names: Vec<Bytes> =
        changes.iter().map(|change| Bytes::copy_from_slice(change.name.as_bytes())).collect();
    let (roots, committed) =
        futures::join!(store.read_roots(names.clone()), store.committed(&keys));
    check_roots(&changes, roots?)?;

    let mut plan = Plan::default();
    plan.add(sessions, &committed?, &changes);
    plan.free(store).await?;
    plan.check_complete(store).await?;
    plan.carry_out(store, &changes, names, &keys).await
}

fn check_roots(changes: &[RootChange], found: Vec<Option<Cid>>) -> Result<(), StoreError> {
    let mut names = HashSet::new();
    for (change, found) in changes.iter().zip(found) {
        if change.expected != found || !names.insert(&change.name) {
            return Err(StoreError::RootConflict { name: change.name.clone(), found });
        }
    }
    Ok(())
}

/// What a commit is going to do.
#[derive(Default)]
struct Plan {
    /// Blocks that become committed.
    new: HashSet<Key>,
    /// References gained and lost by each block.
    delta: HashMap<Key, i64>,
    /// References beyond the first of blocks committed before, as far as they were looked up.
    extra: HashMap<Key, u64>,
    /// Blocks that lose their last reference.
    freed: BTreeSet<Key>,
    /// A freed block could not be read, so what it referred to is not known.
    damaged: bool,
}

impl Plan {
    /// Counts the references that appear and disappear with the roots and the new blocks.
    fn add(&mut self, sessions: &[Session], committed: &HashSet<Key>, changes: &[RootChange]) {
        let children = |key: &Key| sessions.iter().find_map(|session| session.blocks().get(key));
        let mut reached = Vec::new();
        for change in changes {
            if let Some(key) = change.expected.as_ref().and_then(key_of) {
                *self.delta.entry(key).or_default() -= 1;
            }
            if let Some(key) = change.new.as_ref().and_then(key_of) {
                *self.delta.entry(key.clone()).or_default() += 1;
                reached.push(key);
            }
        }
        while let Some(key) = reached.pop() {
            let Some(children) = children(&key).filter(|_| !committed.contains(&key)) else {
                continue;
            };
            if self.new.insert(key) {
                for child in children {
                    *self.delta.entry(child.clone()).or_default() += 1;
                    reached.push(child.clone());
                }
            }
        }
    }

    /// Finds, level by level, the blocks that lose their last reference, and takes away theirs.
    /// All that is gained is counted already, so what comes to nothing here stays nothing.
    async fn free(&mut self, store: &Store) -> Result<(), StoreError> {
        let losing = |(key, delta): (&Key, &i64)| (*delta < 0).then(|| key.clone());
        let mut level: BTreeSet<Key> = self.delta.iter().filter_map(losing).collect();
        while !level.is_empty() {
            let keys: Vec<Key> = std::mem::take(&mut level).into_iter().collect();
            for group in keys.chunks(FREE_GROUP) {
                // What loses a reference mostly loses its last: read the nodes in the same turn.
                let nodes: Vec<Key> = group.iter().filter(|key| is_node(key)).cloned().collect();
                let rows = store.database().get_many(Table::Blocks, nodes.clone());
                let (refs, rows) = futures::join!(self.look_up_refs(store, group), rows);
                refs?;
                let mut rows: HashMap<Key, Option<Bytes>> = nodes.into_iter().zip(rows?).collect();
                for key in group {
                    if self.count(key) > 0 || !self.freed.insert(key.clone()) {
                        continue;
                    }
                    let Some(row) = rows.remove(key) else { continue };
                    for child in self.children(key, row).await? {
                        let delta = self.delta.entry(child.clone()).or_default();
                        *delta -= 1;
                        if *delta < 0 {
                            level.insert(child);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The children of a committed node, as its row says.
    async fn children(&mut self, key: &Key, row: Option<Bytes>) -> Result<Vec<Key>, StoreError> {
        let cid = cid_of_key(key)?;
        let children = match row {
            Some(data) => verified(cid, data).await.and_then(|block| child_keys(&block)),
            None => Err(StoreError::Incomplete { missing: vec![cid] }),
        };
        Ok(children.unwrap_or_else(|error| {
            tracing::warn!(%cid, %error, "removing a block whose links cannot be read");
            self.damaged = true;
            Vec::new()
        }))
    }

    /// Looks at the committed blocks that gain references: they must be there.
    async fn check_complete(&mut self, store: &Store) -> Result<(), StoreError> {
        let gains = |(key, delta): (&Key, &i64)| {
            (*delta > 0 && !self.new.contains(key)).then(|| key.clone())
        };
        let gaining: Vec<Key> = self.delta.iter().filter_map(gains).collect();
        if gaining.is_empty() {
            return Ok(());
        }
        let there = store.committed(&gaining).await?;
        let missing = gaining.iter().filter(|key| !there.contains(*key));
        let missing: Vec<Cid> =
            missing.take(MAX_REPORTED_MISSING).map(cid_of_key).collect::<Result<_, _>>()?;
        if !missing.is_empty() {
            return Err(StoreError::Incomplete { missing });
        }
        self.look_up_refs(store, &gaining).await
    }

    async fn look_up_refs(&mut self, store: &Store, keys: &[Key]) -> Result<(), StoreError> {
        let unknown: Vec<Key> =
            keys.iter().filter(|key| !self.extra.contains_key(*key)).cloned().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let rows = store.database().get_many(Table::Refs, unknown.clone()).await?;
        for (key, row) in unknown.into_iter().zip(rows) {
            let extra = extra_refs(&key, row)?;
            self.extra.insert(key, extra);
        }
        Ok(())
    }

    /// The references that `key` is going to have.
    fn count(&self, key: &Key) -> u64 {
        let before = match self.new.contains(key) {
            true => 0,
            false => 1 + self.extra.get(key).copied().unwrap_or_default(),
        };
        before.saturating_add_signed(self.delta.get(key).copied().unwrap_or_default())
    }

    /// Writes it all.
    async fn carry_out(
        self,
        store: &Store,
        changes: &[RootChange],
        names: Vec<Bytes>,
        held: &[Key],
    ) -> Result<(), StoreError> {
        let mut batch = Vec::new();
        for (change, key) in changes.iter().zip(names) {
            batch.extend(root_ops(change, key));
        }
        batch.extend(self.refs_ops());
        let (write, outcome) = {
            let mut registry = store.registry();
            let (kept, deleted): (Vec<Key>, Vec<Key>) =
                self.freed.iter().cloned().partition(|key| registry.is_held(key));
            let repaired: Vec<Key> =
                held.iter().filter(|key| registry.is_corrupt(key)).cloned().collect();
            let also = repaired.iter().filter(|key| !self.new.contains(*key));
            batch.extend(registry.commit_ops(self.new.iter().chain(also)));
            let delete = |key: &Key| Op::Delete { table: Table::Blocks, key: key.clone() };
            batch.extend(deleted.iter().map(delete));
            let damage = self.damaged.then(|| registry.set_damaged());
            let outcome = Outcome { new: self.new, repaired, deleted, kept };
            let mark = registry.start_commit(&outcome);
            batch.extend(mark.or(damage));
            (store.database().write(batch), outcome)
        };
        let written = write.await;
        let mut registry = store.registry();
        match written {
            Ok(_) => {
                registry.end_commit(&outcome);
                Ok(())
            }
            Err(error) => {
                registry.fail_commit();
                Err(match (error, changes.first()) {
                    (DatabaseError::Conflict, Some(change)) => {
                        StoreError::RootConflict { name: change.name.clone(), found: None }
                    }
                    (error, _) => error.into(),
                })
            }
        }
    }

    /// The changed rows of the references table.
    fn refs_ops(&self) -> impl Iterator<Item = Op> {
        self.delta.keys().filter_map(|key| {
            let before = self.extra.get(key).copied().unwrap_or_default();
            let after = self.count(key).saturating_sub(1);
            let (table, key) = (Table::Refs, key.clone());
            match after {
                _ if after == before => None,
                0 => Some(Op::Delete { table, key }),
                _ => Some(Op::Put { table, key, value: refs_row(after) }),
            }
        })
    }
}

fn root_ops(change: &RootChange, key: Bytes) -> [Op; 2] {
    let table = Table::Roots;
    let row = |cid: &Cid| Bytes::from(cid.to_bytes());
    let expect = Op::Expect { table, key: key.clone(), value: change.expected.as_ref().map(row) };
    let set = match &change.new {
        Some(cid) => Op::Put { table, key, value: row(cid) },
        None => Op::Delete { table, key },
    };
    [expect, set]
}
