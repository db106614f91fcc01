//! Which blocks may be in the database: a Bloom filter of their keys. Most of what a fetch looks for is not
//! here, and this says so without asking the browser. It knows what is written through its own connection
//! and what [`learn`] has read, so it is for the only user of a database, who says so by
//! [`expect_use`](crate::platform::database::Database::expect_use).

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

use wasm_bindgen_futures::spawn_local;

use super::connection::Connection;
use crate::platform::database::{Op, Table};

/// 128 KiB. With 52 thousand blocks, it is wrong about 1 in 1000 others; with 131 thousand, about 24.
const BITS: usize = 1 << 20;
/// Bits of a key.
const POSITIONS: usize = 4;
/// Where there are more to begin with, the database is asked.
const MAX_KEYS: usize = 1 << 17;
/// Keys read in one transaction.
const PAGE: u32 = 4096;

#[derive(Default)]
pub struct Present {
    /// Allocated when the first key is added. What is deleted stays in it until the next visit.
    bits: RefCell<Vec<u64>>,
    learning: Cell<bool>,
    /// Every key in the database has been added.
    complete: Cell<bool>,
}

impl Present {
    /// `false`: it certainly is not there.
    pub fn may_have(&self, key: &[u8]) -> bool {
        let bits = self.bits.borrow();
        let set = |(word, mask)| bits.get(word).is_some_and(|bits: &u64| bits & mask != 0);
        !self.complete.get() || positions(key).all(set)
    }

    pub fn add(&self, key: &[u8]) {
        let mut bits = self.bits.borrow_mut();
        bits.resize(BITS / 64, 0);
        for (word, mask) in positions(key) {
            if let Some(bits) = bits.get_mut(word) {
                *bits |= mask;
            }
        }
    }

    /// What is written may be there from now on. Says for each step whether its key may have been before.
    pub fn add_all(&self, batch: &[Op]) -> Vec<bool> {
        let before = |op: &Op| op.table() != Table::Blocks || self.may_have(op.key());
        let before = batch.iter().map(before).collect();
        batch.iter().filter(|op| op.table() == Table::Blocks).for_each(|op| self.add(op.key()));
        before
    }
}

/// Begins to read all keys, once, unless there are too many. What is written meanwhile is added by whoever
/// writes.
pub fn learn(connection: &Rc<Connection>) {
    if !connection.present.learning.replace(true) {
        spawn_local(read_keys(Rc::downgrade(connection)));
    }
}

async fn read_keys(connection: Weak<Connection>) {
    let (mut after, mut read) = (None, 0);
    while read <= MAX_KEYS
        && let Some(connection) = connection.upgrade()
    {
        let Ok(keys) = connection.keys(Table::Blocks, after, PAGE).await else { return };
        keys.iter().for_each(|key| connection.present.add(key));
        if keys.len() < PAGE as usize {
            connection.present.complete.set(true);
            return;
        }
        read += keys.len();
        after = keys.into_iter().next_back();
    }
}

/// A key ends with a digest, whose bytes are as good as any hash of it.
fn positions(key: &[u8]) -> impl Iterator<Item = (usize, u64)> {
    let bit = |part: &[u8]| part.iter().fold(0, |bit, byte| (bit << 8) | usize::from(*byte)) % BITS;
    key.rchunks(4).take(POSITIONS).map(bit).map(|bit| (bit / 64, 1 << (bit % 64)))
}
