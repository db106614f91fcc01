//! What is to be got for a chunk and for a file.

use std::{collections::HashMap, ops::Range, sync::Arc};

use multihash::Multihash;

use super::{Run, Unit, bad_file};
use crate::{
    content::block::{Block, Cid},
    error::{Error, Result},
    exchange::chunks::{ChunkKeeper, DownloadEnd, outline::Outline},
};

/// Chunks whose presence is looked up at a time.
const LOOK_UP: usize = 1024;

impl Run {
    /// Gets one chunk.
    pub(in crate::exchange::chunks) async fn chunk(
        &mut self,
        keeper: &Arc<dyn ChunkKeeper>,
        cid: Cid,
        index: u32,
        range: Option<Range<u64>>,
    ) -> Result<DownloadEnd> {
        let size = range.as_ref().map_or(1 << 20, |range| range.end.saturating_sub(range.start));
        let unit = Unit { cid, size, indexes: vec![index], range };
        let stored = Block::inline(&cid).is_some() || keeper.has_many(vec![cid]).await? == [true];
        self.add(unit, stored)?;
        self.settle(keeper, cid).await
    }

    /// Gets all of a file.
    pub(in crate::exchange::chunks) async fn file(
        &mut self,
        keeper: &Arc<dyn ChunkKeeper>,
        root: Cid,
    ) -> Result<DownloadEnd> {
        self.outline = Some(Outline::new(root));
        while let Some(outline) = self.outline.as_mut().filter(|outline| !outline.is_done()) {
            for (cid, size) in outline.wants() {
                match keeper.get(cid).await? {
                    Some(block) => self.supply(&block)?,
                    None => {
                        self.add(Unit { cid, size, indexes: Vec::new(), range: None }, false)?
                    }
                }
            }
            if let DownloadEnd::Cancelled = self.settle(keeper, root).await? {
                return Ok(DownloadEnd::Cancelled);
            }
        }
        let leaves = self.outline.take().map_or(Ok(Vec::new()), |outline| outline.leaves());
        let mut chunks: Vec<Unit> = Vec::new();
        let mut places: HashMap<Multihash<64>, usize> = HashMap::new();
        for (index, leaf) in (0u32..).zip(leaves.map_err(|error| bad_file(root, &error))?) {
            let place = *places.entry(*leaf.cid.hash()).or_insert(chunks.len());
            match chunks.get_mut(place) {
                Some(chunk) => chunk.indexes.push(index),
                None => {
                    let (cid, size, range) = (leaf.cid, leaf.size, leaf.range);
                    chunks.push(Unit { cid, size, indexes: vec![index], range });
                }
            }
        }
        drop(places);
        let mut chunks = chunks.into_iter().peekable();
        while chunks.peek().is_some() {
            let some: Vec<Unit> = chunks.by_ref().take(LOOK_UP).collect();
            let stored = keeper.has_many(some.iter().map(|chunk| chunk.cid).collect()).await?;
            for (unit, stored) in some.into_iter().zip(stored) {
                let stored = stored || Block::inline(&unit.cid).is_some();
                self.add(unit, stored)?;
            }
        }
        self.settle(keeper, root).await
    }

    fn add(&mut self, unit: Unit, stored: bool) -> Result<()> {
        let hash = *unit.cid.hash();
        let reason = || Error::BadContent { cid: unit.cid, reason: "too many chunks".to_owned() };
        let chunk = self.coordinator.add(unit.size, stored).ok_or_else(reason)?;
        if !stored {
            self.by_hash.insert(hash, chunk);
        }
        self.units.push(unit);
        Ok(())
    }
}
