//! How keys and values are rows of redb, and a batch one change of them.
//!
//! redb gives a large value pages of its own, as many as the next power of two: a block of 1 MiB
//! with its key would take 2 MiB on the disk. So a value is cut into pieces that fill what they get.
//! The first is in the table itself, the others in a table of pieces. A piece of full length says
//! that another may follow.

use ::redb::{
    ReadTransaction, ReadableTable, StorageError, TableDefinition, TableError, WriteTransaction,
};
use bytes::{Bytes, BytesMut};

use crate::platform::database::{DatabaseError, Op, Table};

/// Longest piece of a value: 256 KiB with room for the key and what redb writes beside it.
pub(super) const PIECE: usize = (256 << 10) - 512;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

const PIECES: Rows = TableDefinition::new("pieces");
const TOTALS: TableDefinition<'static, &'static str, u64> = TableDefinition::new("totals");
/// Bytes of all keys and values.
const USED: &str = "used";

/// What a transaction of redb can fail with.
type RowsResult<T> = Result<T, ::redb::Error>;

fn rows_of(table: Table) -> Rows {
    TableDefinition::new(match table {
        Table::Blocks => "blocks",
        Table::Refs => "refs",
        Table::Roots => "roots",
        Table::Meta => "meta",
    })
}

pub(super) fn get_many(
    snapshot: &ReadTransaction,
    table: Table,
    keys: &[Bytes],
) -> RowsResult<Vec<Option<Bytes>>> {
    let (rows, pieces) = (snapshot.open_table(rows_of(table))?, snapshot.open_table(PIECES)?);
    keys.iter().map(|key| Ok(value(&rows, &pieces, table, key)?)).collect()
}

pub(super) fn has_many(
    snapshot: &ReadTransaction,
    table: Table,
    keys: &[Bytes],
) -> RowsResult<Vec<bool>> {
    let rows = snapshot.open_table(rows_of(table))?;
    keys.iter().map(|key| Ok(rows.get(&key[..])?.is_some())).collect()
}

pub(super) fn keys(
    snapshot: &ReadTransaction,
    table: Table,
    after: Option<&[u8]>,
    limit: usize,
) -> RowsResult<Vec<Bytes>> {
    use std::ops::Bound;
    let rows = snapshot.open_table(rows_of(table))?;
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let range = rows.range::<&[u8]>((start, Bound::Unbounded))?;
    range.take(limit).map(|row| Ok(Bytes::copy_from_slice(row?.0.value()))).collect()
}

pub(super) fn used(snapshot: &ReadTransaction) -> RowsResult<u64> {
    Ok(snapshot.open_table(TOTALS)?.get(USED)?.map_or(0, |used| used.value()))
}

/// Makes the tables, so that no reader has to ask whether they are there.
pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), TableError> {
    for table in Table::ALL {
        transaction.open_table(rows_of(table))?;
    }
    transaction.open_table(PIECES)?;
    transaction.open_table(TOTALS)?;
    Ok(())
}

/// One transaction of redb in which several batches are applied, each wholly or not at all.
pub(super) struct Writer<'t> {
    tables: [::redb::Table<'t, &'static [u8], &'static [u8]>; 4],
    pieces: ::redb::Table<'t, &'static [u8], &'static [u8]>,
    totals: ::redb::Table<'t, &'static str, u64>,
    used: u64,
    quota: Option<u64>,
    changed: bool,
}

impl<'t> Writer<'t> {
    pub fn new(transaction: &'t WriteTransaction, quota: Option<u64>) -> RowsResult<Self> {
        let [blocks, refs, roots, meta] = Table::ALL.map(rows_of);
        let tables = [
            transaction.open_table(blocks)?,
            transaction.open_table(refs)?,
            transaction.open_table(roots)?,
            transaction.open_table(meta)?,
        ];
        let totals = transaction.open_table(TOTALS)?;
        let used = totals.get(USED)?.map_or(0, |used| used.value());
        let pieces = transaction.open_table(PIECES)?;
        Ok(Self { tables, pieces, totals, used, quota, changed: false })
    }

    /// Applies a batch. The inner error refuses it and leaves everything as it was; after the outer
    /// one the transaction has to be given up.
    pub fn apply(&mut self, batch: &[Op]) -> RowsResult<Result<Vec<bool>, DatabaseError>> {
        let mut used = self.used;
        let mut wrote = Vec::new();
        // Everything is looked at before anything is changed.
        let mut skip = vec![false; batch.len()];
        for (at, op) in batch.iter().enumerate() {
            let (table, key) = (op.table(), op.key());
            if let Op::Expect { value: expected, .. } = op {
                let found = match batch.get(..at).and_then(|before| written(before, table, key)) {
                    Some(found) => found,
                    None => value(self.table(table), &self.pieces, table, key)?,
                };
                if found != *expected {
                    return Ok(Err(DatabaseError::Conflict));
                }
                continue;
            }
            let old = stored_len(self.table(table), &self.pieces, table, key)?;
            let freed = old.map_or(0, |len| key.len() as u64 + len);
            let taken = |value: &Bytes| (key.len() + value.len()) as u64;
            match op {
                Op::Put { value, .. } => used = used.saturating_sub(freed) + taken(value),
                Op::PutNew { value, .. } => {
                    wrote.push(old.is_none());
                    skip[at] = old.is_some();
                    used += if old.is_none() { taken(value) } else { 0 };
                }
                Op::Delete { .. } => {
                    skip[at] = old.is_none();
                    used = used.saturating_sub(freed);
                }
                Op::Expect { .. } => {}
            }
        }
        if used > self.used && self.quota.is_some_and(|quota| used > quota) {
            return Ok(Err(DatabaseError::QuotaExceeded));
        }
        for (op, skip) in batch.iter().zip(skip) {
            match op {
                _ if skip => {}
                Op::Put { table, key, value } => {
                    self.remove(*table, key)?;
                    self.insert(*table, key, value)?;
                }
                Op::PutNew { table, key, value } => self.insert(*table, key, value)?,
                Op::Delete { table, key } => self.remove(*table, key)?,
                Op::Expect { .. } => {}
            }
        }
        self.used = used;
        Ok(Ok(wrote))
    }

    /// Whether there is anything to commit.
    pub fn finish(mut self) -> RowsResult<bool> {
        if self.changed {
            self.totals.insert(USED, self.used)?;
        }
        Ok(self.changed)
    }

    fn table(&self, table: Table) -> &::redb::Table<'t, &'static [u8], &'static [u8]> {
        &self.tables[index(table)]
    }

    fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.changed = true;
        let (first, mut rest) = value.split_at(value.len().min(PIECE));
        self.tables[index(table)].insert(key, first)?;
        let mut at = 1;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(PIECE));
            self.pieces.insert(&piece_key(table, key, at)[..], piece)?;
            (rest, at) = (after, at + 1);
        }
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StorageError> {
        let old = self.tables[index(table)].remove(key)?;
        let Some(mut len) = old.map(|piece| piece.value().len()) else { return Ok(()) };
        self.changed = true;
        let mut at = 1;
        while len == PIECE {
            let old = self.pieces.remove(&piece_key(table, key, at)[..])?;
            (len, at) = (old.map_or(0, |piece| piece.value().len()), at + 1);
        }
        Ok(())
    }
}

/// In the order of [`Table::ALL`].
fn index(table: Table) -> usize {
    match table {
        Table::Blocks => 0,
        Table::Refs => 1,
        Table::Roots => 2,
        Table::Meta => 3,
    }
}

/// What the operations before an expectation have made of its key, if they touch it.
fn written(before: &[Op], table: Table, key: &Bytes) -> Option<Option<Bytes>> {
    before.iter().rev().find(|op| op.table() == table && op.key() == key).and_then(|op| match op {
        Op::Put { value, .. } => Some(Some(value.clone())),
        Op::Delete { .. } => Some(None),
        // Either changes nothing about what is to be compared with, or is not known before it is done.
        Op::PutNew { .. } | Op::Expect { .. } => None,
    })
}

fn value(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    pieces: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: Table,
    key: &[u8],
) -> Result<Option<Bytes>, StorageError> {
    let Some(first) = rows.get(key)? else { return Ok(None) };
    let first = first.value();
    if first.len() < PIECE {
        return Ok(Some(Bytes::copy_from_slice(first)));
    }
    let mut value = BytesMut::from(first);
    let mut at = 1;
    while let Some(piece) = pieces.get(&piece_key(table, key, at)[..])? {
        value.extend_from_slice(piece.value());
        if piece.value().len() < PIECE {
            break;
        }
        at += 1;
    }
    Ok(Some(value.freeze()))
}

fn stored_len(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    pieces: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: Table,
    key: &[u8],
) -> Result<Option<u64>, StorageError> {
    let Some(first) = rows.get(key)? else { return Ok(None) };
    let (mut len, mut last, mut at) = (first.value().len(), first.value().len(), 1);
    while last == PIECE {
        let piece = pieces.get(&piece_key(table, key, at)[..])?;
        last = piece.map_or(0, |piece| piece.value().len());
        (len, at) = (len + last, at + 1);
    }
    Ok(Some(len as u64))
}

/// The key of a further piece. Of two keys neither can make the other's: what follows has one length.
fn piece_key(table: Table, key: &[u8], at: u32) -> Vec<u8> {
    let mut piece = Vec::with_capacity(key.len() + 5);
    piece.push(index(table) as u8);
    piece.extend_from_slice(key);
    piece.extend_from_slice(&at.to_be_bytes());
    piece
}
