//! Reading blocks and roots. What is read is checked, once as long as the store is open; what is not
//! written yet is read from memory.

use bytes::Bytes;
use cid::Cid;
use futures::future;

use super::{
    Store, StoreError,
    key::{Key, key_of, other_key, root_cid},
};
use crate::{
    content::block::{Block, BlockError},
    platform::{database::Table, sha256},
};

/// Keys asked for in one transaction.
const READ_GROUP: usize = 256;
/// Names of roots read in one go.
const ROOT_PAGE: u32 = 256;

/// Where to look for a block.
enum Place {
    /// Not written yet.
    Memory(Bytes),
    Database,
    /// The row is corrupt.
    Nowhere,
}

impl Store {
    /// The block `cid`, `None` if it is not here. Committed or not makes no difference.
    pub async fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        Ok(self.get_many(std::slice::from_ref(cid)).await?.into_iter().next().flatten())
    }

    /// Each of `cids`, in their order, in as few transactions as possible. Fails as a whole if one
    /// of them is corrupt.
    pub async fn get_many(&self, cids: &[Cid]) -> Result<Vec<Option<Block>>, StoreError> {
        if let [cid] = cids
            && let (Some(key), Some(other)) = (key_of(cid), other_key(cid))
            && matches!(place(&self.registry(), &key), Place::Database)
        {
            // One way to the database instead of two: mostly this asks whether a file is here at all.
            let both = [(*cid, Some(key)), (*cid, Some(other))];
            let found = self.get_rows(both.into_iter()).await?;
            return Ok(vec![found.into_iter().flatten().next()]);
        }
        let mut blocks = Vec::with_capacity(cids.len());
        for group in cids.chunks(READ_GROUP) {
            let mut found = self.get_rows(group.iter().map(|cid| (*cid, key_of(cid)))).await?;
            let missing: Vec<usize> = (0..group.len()).filter(|&at| found[at].is_none()).collect();
            let others = missing.iter().map(|&at| (group[at], other_key(&group[at])));
            for (&at, block) in missing.iter().zip(self.get_rows(others).await?) {
                found[at] = block;
            }
            blocks.append(&mut found);
        }
        Ok(blocks)
    }

    pub async fn has(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.has_many(std::slice::from_ref(cid)).await? == [true])
    }

    /// Whether [`Store::get_many`] would find each of `cids`, without reading them.
    pub async fn has_many(&self, cids: &[Cid]) -> Result<Vec<bool>, StoreError> {
        let mut has = Vec::with_capacity(cids.len());
        for group in cids.chunks(READ_GROUP) {
            // Asking for one key more costs less than a second way to the database.
            let both = group.iter().flat_map(|cid| [(*cid, key_of(cid)), (*cid, other_key(cid))]);
            let found = self.has_rows(both).await?;
            has.extend(found.chunks(2).map(|pair| pair.contains(&true)));
        }
        Ok(has)
    }

    /// After [`StoreError::Corrupt`]: if the row of `cid` is corrupt indeed, it reads as absent from
    /// now on, until a session puts the block again. Returns whether it is corrupt. The bad row
    /// stays until then, because what refers to it still counts; after a restart it is found anew. A row
    /// that was read before is not looked at again unless its length has changed.
    pub async fn evict_corrupt(&self, cid: &Cid) -> Result<bool, StoreError> {
        let mut evicted = false;
        for key in [key_of(cid), other_key(cid)].into_iter().flatten() {
            if let Err(StoreError::Corrupt { .. }) = self.get_row(cid, key.clone()).await {
                self.registry().set_corrupt(key);
                evicted = true;
            }
        }
        Ok(evicted)
    }

    pub async fn root(&self, name: &str) -> Result<Option<Cid>, StoreError> {
        Ok(self.root_many(&[name]).await?.into_iter().next().flatten())
    }

    /// Each of the roots `names`, in their order, in one transaction.
    pub async fn root_many(
        &self,
        names: &[impl AsRef<str>],
    ) -> Result<Vec<Option<Cid>>, StoreError> {
        let name = |name: &_| Bytes::copy_from_slice(AsRef::<str>::as_ref(name).as_bytes());
        self.read_roots(names.iter().map(name).collect()).await
    }

    /// The roots whose names start with `prefix`, by name.
    pub async fn roots(&self, prefix: &str) -> Result<Vec<(String, Cid)>, StoreError> {
        let mut roots = Vec::new();
        let prefix = Bytes::copy_from_slice(prefix.as_bytes());
        let mut names = vec![prefix.clone()];
        loop {
            for (name, cid) in names.iter().zip(self.read_roots(names.clone()).await?) {
                if let Some(cid) = cid {
                    roots.push((String::from_utf8_lossy(name).into_owned(), cid));
                }
            }
            let Some(last) = names.pop() else { return Ok(roots) };
            names = self.database().keys(Table::Roots, Some(last), ROOT_PAGE).await?;
            names.retain(|name| name.starts_with(&prefix));
        }
    }

    /// The values of the roots `names`.
    pub(super) async fn read_roots(
        &self,
        names: Vec<Bytes>,
    ) -> Result<Vec<Option<Cid>>, StoreError> {
        let rows = self.database().get_many(Table::Roots, names.clone()).await?;
        let cid =
            |(name, row): (&Bytes, Option<Bytes>)| row.map(|row| root_cid(name, &row)).transpose();
        names.iter().zip(rows).map(cid).collect()
    }

    /// The block of one row, as the block `cid`.
    pub(super) async fn get_row(&self, cid: &Cid, key: Key) -> Result<Option<Block>, StoreError> {
        Ok(self.get_rows([(*cid, Some(key))].into_iter()).await?.into_iter().next().flatten())
    }

    /// For each CID the block in the row of the key next to it. What is inline needs none.
    async fn get_rows(
        &self,
        wanted: impl ExactSizeIterator<Item = (Cid, Option<Key>)>,
    ) -> Result<Vec<Option<Block>>, StoreError> {
        let mut found = Vec::with_capacity(wanted.len());
        let mut asked = Vec::new();
        let rows = {
            let mut keys = Vec::new();
            let registry = self.registry();
            for (at, (cid, key)) in wanted.enumerate() {
                let Some(key) = key else {
                    found.push(Block::inline(&cid));
                    continue;
                };
                found.push(match place(&registry, &key) {
                    Place::Memory(data) => trusted(cid, data),
                    Place::Nowhere => None,
                    Place::Database => {
                        asked.push((at, cid, key.clone()));
                        keys.push(key);
                        None
                    }
                });
            }
            if keys.is_empty() {
                return Ok(found);
            }
            self.database().get_many(Table::Blocks, keys)
        };
        let rows = rows.await?;
        let there = asked.into_iter().zip(rows).filter_map(|(asked, row)| Some((asked, row?)));
        let checked = there
            .map(|((at, cid, key), data)| async move { (at, self.checked(cid, &key, data).await) });
        for (at, block) in future::join_all(checked).await {
            found[at] = Some(block?);
        }
        Ok(found)
    }

    /// The block of a row, which is hashed at its first read.
    async fn checked(&self, cid: Cid, key: &Key, data: Bytes) -> Result<Block, StoreError> {
        let checked = &self.inner.checked;
        if checked.contains(key, data.len())
            && let Some(block) = trusted(cid, data.clone())
        {
            return Ok(block);
        }
        let block = verified(cid, data).await?;
        checked.add(key, block.data().len());
        Ok(block)
    }

    async fn has_rows(
        &self,
        wanted: impl Iterator<Item = (Cid, Option<Key>)>,
    ) -> Result<Vec<bool>, StoreError> {
        let (mut found, mut asked) = (Vec::new(), Vec::new());
        let rows = {
            let mut keys = Vec::new();
            let registry = self.registry();
            for (at, (cid, key)) in wanted.enumerate() {
                let Some(key) = key else {
                    found.push(Block::inline(&cid).is_some());
                    continue;
                };
                let place = place(&registry, &key);
                if let Place::Database = place {
                    asked.push(at);
                    keys.push(key);
                }
                found.push(matches!(place, Place::Memory(_)));
            }
            if keys.is_empty() {
                return Ok(found);
            }
            self.database().has_many(Table::Blocks, keys)
        };
        for (at, there) in asked.into_iter().zip(rows.await?) {
            found[at] = there;
        }
        Ok(found)
    }
}

fn place(registry: &super::registry::Registry, key: &Key) -> Place {
    match registry.unwritten(key) {
        Some(data) => Place::Memory(data.clone()),
        None if registry.is_corrupt(key) => Place::Nowhere,
        None => Place::Database,
    }
}

/// Bytes that came out of a [`Block`] of the same multihash, or were found to match it.
fn trusted(cid: Cid, data: Bytes) -> Option<Block> {
    let digest = cid.hash().digest().try_into().ok()?;
    Block::verify_digest(cid, digest, data).ok()
}

/// Hashes `data`, off this thread where it pays, and checks it.
pub(super) async fn verified(cid: Cid, data: Bytes) -> Result<Block, StoreError> {
    let digest = sha256(data.clone()).await;
    Block::verify_digest(cid, &digest, data).map_err(|error| match error {
        BlockError::Mismatch { cid }
        | BlockError::TooLarge { cid, .. }
        | BlockError::UnsupportedHash { cid, .. } => StoreError::Corrupt { cid },
    })
}
