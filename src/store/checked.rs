//! Which rows were found to match their CIDs since the store was opened: hashing a block again at every
//! read is a quarter of what serving it costs. What a disk does to a row after that goes unnoticed here
//! until the store is opened again, unless the row changes its length or is lost; a peer that is given
//! the block checks it.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::key::Key;

/// Slots, half a MiB of them: enough for most of 64 GiB in blocks of 1 MiB.
const SLOTS: usize = 1 << 16;
/// Length of a SHA-256 digest, with which each key ends.
const DIGEST: usize = 32;

/// Each row has one slot; a later row takes it from an earlier one.
#[derive(Default)]
pub(super) struct Checked(OnceLock<Box<[AtomicU64]>>);

impl Checked {
    /// The row of `key`, `length` bytes long, matches it.
    pub(super) fn add(&self, key: &Key, length: usize) {
        let slots = self.0.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        if let Some((slot, mark)) = mark(key, length)
            && let Some(slot) = slots.get(slot)
        {
            slot.store(mark, Ordering::Relaxed);
        }
    }

    pub(super) fn contains(&self, key: &Key, length: usize) -> bool {
        let mark = mark(key, length);
        let slots = self.0.get();
        mark.zip(slots).is_some_and(|((slot, mark), slots)| {
            slots.get(slot).is_some_and(|found| found.load(Ordering::Relaxed) == mark)
        })
    }
}

/// The slot of a row, and what is in it if the row was checked: parts of the digest that have nothing in
/// common, with the codec and the length. `None`: it is not remembered.
fn mark(key: &Key, length: usize) -> Option<(usize, u64)> {
    let (kind, digest) = key.split_at_checked(key.len().checked_sub(DIGEST)?)?;
    let part = |at: usize| Some(u64::from_le_bytes(digest.get(at..at + 8)?.try_into().ok()?));
    let kind = kind.iter().fold(0_u64, |kind, byte| (kind << 8) | u64::from(*byte));
    // Of an empty block nothing is gained.
    (length > 0).then_some(())?;
    Some((part(0)? as usize % SLOTS, part(8)? ^ kind.rotate_left(32) ^ length as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::block::{Block, DAG_PB, RAW},
        store::key::{key_of, other_key},
    };

    #[test]
    fn a_row_is_known_by_its_key_and_its_length() {
        let checked = Checked::default();
        let block = Block::encode(cid::Version::V1, RAW, vec![7; 100].into());
        let (key, other) =
            (key_of(block.cid()).expect("a key"), other_key(block.cid()).expect("a key"));
        assert!(!checked.contains(&key, 100));
        checked.add(&key, 100);
        assert!(checked.contains(&key, 100));
        assert!(!checked.contains(&key, 99), "it was cut");
        assert!(!checked.contains(&key, 0), "it was lost");
        assert!(!checked.contains(&other, 100), "the row of the other codec is another");
        let more = Block::encode(cid::Version::V1, DAG_PB, vec![8; 100].into());
        assert!(!checked.contains(&key_of(more.cid()).expect("a key"), 100));
    }

    #[test]
    fn an_empty_row_is_never_known() {
        let checked = Checked::default();
        let key =
            key_of(Block::encode(cid::Version::V1, RAW, Vec::new().into()).cid()).expect("a key");
        checked.add(&key, 0);
        assert!(!checked.contains(&key, 0));
    }
}
