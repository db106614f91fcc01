//! Reading from the store what a peer is to be given, in as few transactions as possible.

use cid::Cid;

use crate::{
    content::block::Block,
    exchange::bitswap::{
        message::WantKind,
        server::{Found, LookupItem},
    },
    store::{Store, StoreError},
};

/// Blocks of one lookup that are read only to see whether they are small enough to be sent to a peer
/// that asked whether they are here. The store does not know sizes.
const MAX_PROBED: usize = 4;

/// What is in the store, item by item. What cannot be read is absent: another peer may have it.
pub(super) async fn look_up(store: &Store, items: &[LookupItem]) -> Vec<Found> {
    let mut found = vec![Found::Absent; items.len()];
    let of = |kind| move |at: &usize| items[*at].kind == kind;
    let blocks: Vec<usize> = (0..items.len()).filter(of(WantKind::Block)).collect();
    let mut haves: Vec<usize> = (0..items.len()).filter(of(WantKind::Have)).collect();
    let cids = |places: &[usize]| places.iter().map(|at| items[*at].cid).collect::<Vec<Cid>>();

    for (at, block) in blocks.iter().zip(read(store, &cids(&blocks)).await) {
        if let Some(block) = block {
            found[*at] = Found::Block(block);
        }
    }
    if haves.is_empty() {
        return found;
    }
    let mut here = store.has_many(&cids(&haves)).await.unwrap_or_default().into_iter();
    haves.retain(|_| here.next() == Some(true));
    for at in &haves {
        found[*at] = Found::Here;
    }
    haves.truncate(MAX_PROBED);
    for (at, block) in haves.iter().zip(read(store, &cids(&haves)).await) {
        found[*at] = block.map_or(Found::Absent, Found::Block);
    }
    found
}

async fn read(store: &Store, cids: &[Cid]) -> Vec<Option<Block>> {
    if cids.is_empty() {
        return Vec::new();
    }
    match store.get_many(cids).await {
        Ok(blocks) => return blocks,
        Err(StoreError::Corrupt { .. }) => {}
        Err(error) => {
            tracing::debug!(%error, "blocks that a peer wants cannot be read");
            return vec![None; cids.len()];
        }
    }
    // One of them is damaged: the others are sent all the same.
    let mut blocks = Vec::with_capacity(cids.len());
    for cid in cids {
        blocks.push(match store.get(cid).await {
            Ok(block) => block,
            Err(StoreError::Corrupt { cid }) => {
                tracing::warn!(%cid, "a stored block is damaged");
                let _ = store.evict_corrupt(&cid).await;
                None
            }
            Err(_) => None,
        });
    }
    blocks
}
