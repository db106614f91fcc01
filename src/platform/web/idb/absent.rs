//! Blocks that were looked for a moment ago and are not in the database, so that nobody asks once more
//! before their bytes are appended to a segment. Were one there after all, its row would stay, and the
//! bytes appended would be dead.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use bytes::Bytes;

use crate::platform::database::{Op, Table};

/// Keys remembered at a time: what one file looks for ahead, under two keys each, twice.
const MAX_KEYS: usize = 4 * 4096;

#[derive(Default)]
pub struct Absent {
    keys: RefCell<BTreeSet<Bytes>>,
    writes: Cell<u64>,
}

impl Absent {
    /// How many batches have written blocks so far.
    pub fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// These are not there, as was asked after `writes` batches; if there were more, they may be by now.
    pub fn learn(&self, writes: u64, keys: impl Iterator<Item = Bytes>) {
        if writes != self.writes() {
            return;
        }
        let mut absent = self.keys.borrow_mut();
        for key in keys {
            if absent.len() >= MAX_KEYS {
                absent.clear();
            }
            absent.insert(key);
        }
    }

    /// What is written is there from now on. Says of which it was known that they were not.
    pub fn take(&self, batch: &[Op]) -> BTreeSet<Bytes> {
        let mut absent = self.keys.borrow_mut();
        let mut blocks = batch.iter().filter(|op| op.table() == Table::Blocks).peekable();
        if blocks.peek().is_some() {
            self.writes.set(self.writes() + 1);
        }
        blocks.filter_map(|op| absent.take(op.key())).collect()
    }
}
