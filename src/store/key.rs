//! How blocks, references and roots are written as rows.

use bytes::Bytes;
use cid::Cid;

use super::StoreError;
use crate::content::block::{Block, DAG_PB, IDENTITY, RAW};

/// Key of a block: the version 1 CID of its codec and multihash, so that versions share a row.
pub(super) type Key = Bytes;

/// Key of the identity in [`crate::platform::database::Table::Meta`].
pub(super) const IDENTITY_KEY: Bytes = Bytes::from_static(b"identity");
/// Key of the version of the rows' format.
pub(super) const FORMAT_KEY: Bytes = Bytes::from_static(b"format");
/// Key of the mark that says: there may be blocks that nothing refers to.
pub(super) const MARK_KEY: Bytes = Bytes::from_static(b"unfinished");

/// The key of `cid`, `None` for an identity CID, which is never stored.
pub(super) fn key_of(cid: &Cid) -> Option<Key> {
    (cid.hash().code() != IDENTITY).then(|| Cid::new_v1(cid.codec(), *cid.hash()).to_bytes().into())
}

/// The key of the same multihash as raw for dag-pb and as dag-pb for raw: peers ask by multihash.
pub(super) fn other_key(cid: &Cid) -> Option<Key> {
    let codec = match cid.codec() {
        RAW => DAG_PB,
        DAG_PB => RAW,
        _ => return None,
    };
    key_of(&Cid::new_v1(codec, *cid.hash()))
}

pub(super) fn cid_of_key(key: &Key) -> Result<Cid, StoreError> {
    Cid::try_from(&key[..]).map_err(|_| bad_row("blocks", key))
}

/// Whether the block of `key` may have links.
pub(super) fn is_node(key: &Key) -> bool {
    cid_of_key(key).is_ok_and(|cid| cid.codec() == DAG_PB)
}

/// The keys of the blocks that `block` refers to, each once.
pub(super) fn child_keys(block: &Block) -> Result<Vec<Key>, StoreError> {
    let links =
        block.links().map_err(|reason| StoreError::BadBlock { cid: *block.cid(), reason })?;
    let mut keys: Vec<Key> = links.iter().filter_map(key_of).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// A row of the references table: how many there are beyond the first.
pub(super) fn refs_row(extra: u64) -> Bytes {
    Bytes::copy_from_slice(&extra.to_be_bytes())
}

/// References beyond the first as a row, or its absence, says.
pub(super) fn extra_refs(key: &Key, row: Option<Bytes>) -> Result<u64, StoreError> {
    match row {
        None => Ok(0),
        Some(row) => match <[u8; 8]>::try_from(&row[..]) {
            Ok(count) => Ok(u64::from_be_bytes(count)),
            Err(_) => Err(bad_row("refs", key)),
        },
    }
}

pub(super) fn root_cid(name: &Bytes, row: &Bytes) -> Result<Cid, StoreError> {
    Cid::try_from(&row[..]).map_err(|_| bad_row("roots", name))
}

pub(super) fn bad_row(table: &'static str, key: &Bytes) -> StoreError {
    StoreError::BadRow { table, row: format!("{key:?}") }
}
