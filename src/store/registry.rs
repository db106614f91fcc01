//! What the store knows beyond its rows: who holds which block, what is not written yet, and which
//! rows nothing refers to.
//!
//! The rows do not say whether a block is committed, because a block with one reference has no
//! other row than itself. So the rule is: a row of the blocks table is committed unless there is an
//! entry here that says otherwise. An entry lives as long as a session holds the block, a write of
//! it is in flight, or it waits to be deleted.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map};

use bytes::Bytes;
use futures::channel::oneshot;

use super::key::{Key, MARK_KEY};
use crate::platform::database::{Batch, Op, Table};

/// Most rows that one sweep deletes in one transaction.
const SWEEP_BATCH: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: HashMap<Key, Entry>,
    /// Uncommitted rows that nobody holds.
    garbage: BTreeSet<Key>,
    /// Rows known to be corrupt: they count as existing, but reads pass over them and the next
    /// session that has the block replaces them.
    corrupt: BTreeSet<Key>,
    /// Entries with an uncommitted row that is not being deleted.
    uncommitted: usize,
    /// Batches of sessions and commits in flight.
    in_flight: usize,
    /// The mark may be in the database.
    marked: bool,
    /// The mark is in the database for certain.
    mark_written: bool,
    /// Something below the roots could not be read, so only the next recovery can tell what is
    /// garbage: the mark stays.
    damaged: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct Entry {
    holders: u32,
    /// Writes in flight.
    writes: u32,
    deleting: bool,
    /// Whether the block is committed; `None` until its row was looked at.
    committed: Option<bool>,
    /// The bytes, until they are known to be in the database.
    data: Option<Bytes>,
}

/// What is known about a key without asking the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Committed,
    Uncommitted,
    /// A row in the database is a committed block.
    AskDatabase,
    /// A write that will tell is in flight.
    Wait,
}

impl Registry {
    /// A session takes hold of a block that it has the bytes of. Returns whether they have to be
    /// written.
    pub(super) fn hold(&mut self, key: &Key, data: &Bytes) -> bool {
        let corrupt = self.corrupt.contains(key);
        let entry = self.entries.entry(key.clone()).or_default();
        entry.holders += 1;
        if entry.committed.is_some() && entry.data.is_none() && !entry.deleting && !corrupt {
            return false;
        }
        entry.data.get_or_insert_with(|| data.clone());
        true
    }

    /// A session takes hold of a block that it is about to read.
    pub(super) fn hold_unread(&mut self, key: &Key) {
        self.entries.entry(key.clone()).or_default().holders += 1;
    }

    /// The block that was to be read is there. A row that nothing else is known about is committed.
    pub(super) fn found(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.data.is_none()
        {
            entry.committed.get_or_insert(true);
        }
    }

    /// A session lets go. Returns whether there is something to sweep.
    pub(super) fn release<'k>(&mut self, keys: impl IntoIterator<Item = &'k Key>) -> bool {
        for key in keys {
            self.update(key, |entry| entry.holders = entry.holders.saturating_sub(1));
        }
        self.sweepable()
    }

    pub(super) fn sweepable(&self) -> bool {
        !self.garbage.is_empty() || (self.marked && self.clean())
    }

    /// The bytes of a block that is not known to be in the database.
    pub(super) fn unwritten(&self, key: &Key) -> Option<&Bytes> {
        self.entries.get(key)?.data.as_ref()
    }

    pub(super) fn is_corrupt(&self, key: &Key) -> bool {
        self.corrupt.contains(key)
    }

    pub(super) fn set_corrupt(&mut self, key: Key) {
        self.corrupt.insert(key);
    }

    pub(super) fn known(&self, key: &Key) -> Known {
        match self.entries.get(key) {
            Some(Entry { committed: Some(true), .. }) => Known::Committed,
            Some(Entry { committed: Some(false), .. }) => Known::Uncommitted,
            Some(Entry { writes: 1.., .. }) => Known::Wait,
            _ => Known::AskDatabase,
        }
    }

    /// Whether any session holds the block.
    pub(super) fn is_held(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.holders > 0)
    }

    /// Resolves when the next batch of a session has landed.
    pub(super) fn next_landing(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(sender);
        receiver
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// The batch that writes the unwritten ones of `keys`; `None` if others write them already.
    pub(super) fn start_flush(&mut self, keys: Vec<Key>) -> Option<(Batch, Flush)> {
        let mut batch = Vec::with_capacity(keys.len() + 1);
        let mut flush = Flush { mark: !self.mark_written, ..Flush::default() };
        for key in keys {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let Some(data) = entry.data.clone().filter(|_| entry.writes == 0) else { continue };
            entry.writes += 1;
            let replace = self.corrupt.contains(&key);
            batch.push(write_op(replace, key.clone(), data));
            flush.writes.push((key, replace));
        }
        if batch.is_empty() {
            return None;
        }
        if flush.mark {
            batch.push(self.put_mark());
        }
        self.in_flight += 1;
        Some((batch, flush))
    }

    /// A batch of [`Registry::start_flush`] has landed; `wrote` as the database reported, `None` if
    /// it failed.
    pub(super) fn end_flush(&mut self, flush: Flush, wrote: Option<Vec<bool>>) {
        let mut wrote = wrote.map(Vec::into_iter);
        self.mark_written |= flush.mark && wrote.is_some();
        for (key, replaced) in flush.writes {
            let existed = match &mut wrote {
                None => None,
                Some(_) if replaced => Some(true),
                Some(wrote) => wrote.next().map(|new| !new),
            };
            if replaced && existed.is_some() {
                self.corrupt.remove(&key);
            }
            self.update(&key, |entry| {
                entry.writes = entry.writes.saturating_sub(1);
                if let Some(existed) = existed {
                    // A deletion of this row was started before this write, or not at all.
                    entry.deleting = false;
                    entry.data = None;
                    entry.committed.get_or_insert(existed);
                }
            });
        }
        self.landed();
    }

    /// The operations that write the unwritten ones of `keys` in a commit.
    pub(super) fn commit_ops<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> Batch {
        let op = |key: &Key| {
            let data = self.entries.get(key)?.data.clone()?;
            Some(write_op(self.corrupt.contains(key), key.clone(), data))
        };
        keys.into_iter().filter_map(op).collect()
    }

    /// A commit is about to be issued. Returns what it must do to the mark. The caller issues it
    /// before it lets go of the registry.
    pub(super) fn start_commit(&mut self, outcome: &Outcome) -> Option<Op> {
        let mark = if outcome.kept.is_empty() {
            self.take_mark(&outcome.new)
        } else if self.mark_written {
            None
        } else {
            Some(self.put_mark())
        };
        self.in_flight += 1;
        mark
    }

    /// The commit has succeeded.
    pub(super) fn end_commit(&mut self, outcome: &Outcome) {
        for key in &outcome.repaired {
            self.corrupt.remove(key);
            self.update(key, |entry| entry.data = None);
        }
        for key in &outcome.new {
            self.update(key, |entry| {
                (entry.data, entry.deleting, entry.committed) = (None, false, Some(true));
            });
        }
        for key in &outcome.deleted {
            self.corrupt.remove(key);
        }
        for key in &outcome.kept {
            self.entries.entry(key.clone()).or_default();
            self.update(key, |entry| entry.committed = Some(false));
        }
        self.landed();
    }

    /// The commit has failed, with all that [`Registry::start_commit`] had it do to the mark.
    pub(super) fn fail_commit(&mut self) {
        // It may have been there; to delete it once more does no harm.
        self.marked = true;
        self.landed();
    }

    /// The operation that makes the next [`super::Store::open`] recount everything.
    pub(super) fn set_damaged(&mut self) -> Op {
        self.damaged = true;
        self.put_mark()
    }

    /// The next rows to delete, and the batch that deletes them; `None` if all is swept. The caller
    /// issues it before it lets go of the registry.
    pub(super) fn start_sweep(&mut self) -> Option<(Batch, Sweep)> {
        let mut keys = Vec::new();
        while keys.len() < SWEEP_BATCH
            && let Some(key) = self.garbage.pop_first()
        {
            if let Some(entry) = self.entries.get_mut(&key)
                && entry.is_garbage()
            {
                entry.deleting = true;
                self.uncommitted -= 1;
                keys.push(key);
            }
        }
        let delete = |key: &Key| Op::Delete { table: Table::Blocks, key: key.clone() };
        let mut batch: Batch = keys.iter().map(delete).collect();
        let mark = self.take_mark([]);
        let sweep = Sweep { keys, mark: mark.is_some() };
        batch.extend(mark);
        (!batch.is_empty()).then_some((batch, sweep))
    }

    pub(super) fn end_sweep(&mut self, sweep: Sweep, deleted: bool) {
        self.marked |= sweep.mark && !deleted;
        for key in sweep.keys {
            if deleted {
                self.corrupt.remove(&key);
            }
            self.update(&key, |entry| {
                // If not, a session has written it again in the meantime.
                if entry.deleting {
                    entry.deleting = false;
                    if deleted {
                        entry.committed = None;
                    }
                }
            });
        }
    }

    fn put_mark(&mut self) -> Op {
        self.marked = true;
        Op::Put { table: Table::Meta, key: MARK_KEY, value: Bytes::new() }
    }

    /// The operation that takes the mark away, if nothing unfinished is left but `committing`.
    fn take_mark<'k>(&mut self, committing: impl IntoIterator<Item = &'k Key>) -> Option<Op> {
        let counted = |key: &&Key| self.entries.get(*key).is_some_and(Entry::is_counted);
        if !self.marked || self.uncommitted != committing.into_iter().filter(counted).count() {
            return None;
        }
        if self.in_flight > 0 || self.damaged {
            return None;
        }
        (self.marked, self.mark_written) = (false, false);
        Some(Op::Delete { table: Table::Meta, key: MARK_KEY })
    }

    fn landed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(());
        }
    }

    fn update(&mut self, key: &Key, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(key) {
            let before = entry.is_counted();
            change(entry);
            let after = entry.is_counted();
            self.uncommitted = self.uncommitted + usize::from(after) - usize::from(before);
            self.settle(key);
        }
    }

    /// Drops an entry that nobody needs any more, or marks its row as garbage.
    fn settle(&mut self, key: &Key) {
        if let hash_map::Entry::Occupied(entry) = self.entries.entry(key.clone()) {
            let state = entry.get();
            if state.holders > 0 || state.writes > 0 || state.deleting {
                return;
            }
            if state.is_garbage() {
                self.garbage.insert(key.clone());
            } else {
                entry.remove();
            }
        }
    }

    fn clean(&self) -> bool {
        self.uncommitted == 0 && self.in_flight == 0 && !self.damaged
    }
}

impl Entry {
    fn is_counted(&self) -> bool {
        self.committed == Some(false) && !self.deleting
    }

    fn is_garbage(&self) -> bool {
        self.is_counted() && self.holders == 0 && self.writes == 0
    }
}

/// What a commit does to blocks.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Uncommitted before, committed now, and written if they were not.
    pub(super) new: HashSet<Key>,
    /// Held by its sessions and corrupt: written over.
    pub(super) repaired: Vec<Key>,
    /// Nothing refers to them any more.
    pub(super) deleted: Vec<Key>,
    /// Nothing but sessions that hold them.
    pub(super) kept: Vec<Key>,
}

/// A batch of a session in flight.
#[derive(Debug, Default)]
pub(super) struct Flush {
    /// Keys in the order of the batch, and whether each replaces a corrupt row.
    writes: Vec<(Key, bool)>,
    mark: bool,
}

/// A batch of deletions in flight.
#[derive(Debug)]
pub(super) struct Sweep {
    keys: Vec<Key>,
    mark: bool,
}

fn write_op(replace: bool, key: Key, value: Bytes) -> Op {
    let table = Table::Blocks;
    if replace { Op::Put { table, key, value } } else { Op::PutNew { table, key, value } }
}
