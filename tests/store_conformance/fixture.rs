//! Databases that can be opened again, made to fail and asked what was done to them; blocks.

use std::sync::Arc;

use bytes::Bytes;
use cid::{Cid, Version};
use tabpeer::{
    content::{
        block::{Block, DAG_PB, RAW},
        dagpb::{PbLink, PbNode},
    },
    platform::database::{Database, Table},
    store::{RootChange, Session, Store, StoreError},
};

/// Where a database is: it can be opened any number of times, also at once.
#[allow(async_fn_in_trait, reason = "a test does not care whether it is Send")]
pub trait Place {
    async fn open(&self) -> Arc<dyn Database>;
}

pub async fn open_store(place: &impl Place) -> Store {
    Store::open(place.open().await).await.expect("the store opens")
}

/// Ends `store` as a careful program does, opens it again and checks it; returns how many blocks
/// there are.
pub async fn close_and_count(store: Store, place: &impl Place) -> u64 {
    store.close().await;
    let store = open_store(place).await;
    let blocks = assert_clean(&store).await;
    store.close().await;
    blocks
}

pub async fn assert_clean(store: &Store) -> u64 {
    let audit = store.check().await.expect("check");
    assert!(audit.is_clean(), "{audit:?}");
    audit.blocks
}

/// A raw block of `len` bytes that `seed` tells from all others.
pub fn leaf(seed: u64, len: usize) -> Block {
    let mut data = vec![seed as u8; len.max(8)];
    data[..8].copy_from_slice(&seed.to_be_bytes());
    Block::encode(Version::V1, RAW, data.into())
}

pub fn leaves(seeds: std::ops::Range<u64>) -> Vec<Block> {
    seeds.map(|seed| leaf(seed, 100)).collect()
}

pub fn node<'b>(children: impl IntoIterator<Item = &'b Block>) -> Block {
    node_of(children.into_iter().map(|block| *block.cid()))
}

pub fn node_of(children: impl IntoIterator<Item = Cid>) -> Block {
    let link = |(at, cid)| PbLink { cid, name: format!("{at:05}"), tsize: 0 };
    let node = PbNode {
        links: children.into_iter().enumerate().map(link).collect(),
        data: Some(Bytes::from_static(&[8, 1])),
    };
    Block::encode(Version::V1, DAG_PB, node.encode())
}

pub async fn session_with<'b>(
    store: &Store,
    blocks: impl IntoIterator<Item = &'b Block>,
) -> Session {
    let mut session = store.session();
    for block in blocks {
        session.put(block.clone()).await.expect("put");
    }
    session
}

pub fn change(name: &str, expected: Option<&Block>, new: Option<&Block>) -> RootChange {
    let cid = |block: Option<&Block>| block.map(|block| *block.cid());
    RootChange { name: name.into(), expected: cid(expected), new: cid(new) }
}

pub async fn set_root(
    store: &Store,
    blocks: impl IntoIterator<Item = &Block>,
    name: &str,
    new: &Block,
) -> Result<(), StoreError> {
    let session = session_with(store, blocks).await;
    store.commit(vec![session], vec![change(name, None, Some(new))]).await
}

pub async fn remove_root(store: &Store, name: &str, old: &Block) {
    store.commit(vec![], vec![change(name, Some(old), None)]).await.expect("remove");
}

pub async fn has(store: &Store, block: &Block) -> bool {
    store.has(block.cid()).await.expect("has")
}

pub async fn has_all(store: &Store, blocks: &[Block]) -> bool {
    let cids: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
    store.has_many(&cids).await.expect("has").into_iter().all(|has| has)
}

/// Whether the next opening would clean up.
pub async fn marked(place: &impl Place) -> bool {
    let database = place.open().await;
    let has = database.has_many(Table::Meta, vec!["unfinished".into()]).await.expect("has");
    database.close().await;
    has == [true]
}

pub fn key(block: &Block) -> Bytes {
    Cid::new_v1(block.cid().codec(), *block.cid().hash()).to_bytes().into()
}
