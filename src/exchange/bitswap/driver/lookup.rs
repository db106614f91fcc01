//! Reading from the store what a peer is to be given, in as few transactions as possible.

use cid::Cid;

use crate::{
    content::block::{Block, MAX_BLOCK},
    exchange::bitswap::{
        message::WantKind,
        server::{Found, Lookup, SMALL_BLOCK},
    },
    store::{Store, StoreError},
};

/// Blocks of one lookup that are read only to see whether they are small enough to be sent to a peer
/// that asked whether they are here. The store does not know sizes.
const MAX_PROBED: usize = 4;

/// What is in the store, item by item. What cannot be read is absent: another peer may have it. At no
/// time more than `lookup.read` bytes are in memory, of which `lookup.keep` are brought back.
pub(super) async fn look_up(store: &Store, lookup: &Lookup) -> Vec<Found> {
    let items = &lookup.items;
    let mut found = vec![Found::Absent; items.len()];
    let of = |kind| move |at: &usize| items[*at].kind == kind;
    let blocks: Vec<usize> = (0..items.len()).filter(of(WantKind::Block)).collect();
    let mut haves: Vec<usize> = (0..items.len()).filter(of(WantKind::Have)).collect();
    let cids = |places: &[usize]| places.iter().map(|at| items[*at].cid).collect::<Vec<Cid>>();

    let (mut rest, mut kept) = (blocks.as_slice(), 0);
    // As many as there is room for if each is as large as can be.
    let room = |kept: usize| lookup.read.saturating_sub(kept) / MAX_BLOCK;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(room(kept).min(rest.len()));
        let mut full = now.is_empty();
        for (at, block) in now.iter().zip(read(store, &cids(now)).await) {
            let Some(block) = block else { continue };
            let len = block.data().len();
            full |= kept > 0 && kept + len > lookup.keep;
            if full {
                found[*at] = Found::Unread;
            } else {
                kept += len;
                found[*at] = Found::Block(block);
            }
        }
        if full {
            later.iter().for_each(|at| found[*at] = Found::Unread);
            break;
        }
        rest = later;
    }
    if haves.is_empty() {
        return found;
    }
    let mut here = store.has_many(&cids(&haves)).await.unwrap_or_default().into_iter();
    haves.retain(|_| here.next() == Some(true));
    for at in &haves {
        found[*at] = Found::Here;
    }
    haves.truncate(MAX_PROBED.min(room(kept)));
    for (at, block) in haves.iter().zip(read(store, &cids(&haves)).await) {
        found[*at] = match block {
            Some(block) if block.data().len() <= SMALL_BLOCK => Found::Block(block),
            Some(_) => Found::Here,
            None => Found::Absent,
        };
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
