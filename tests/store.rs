//! The store's conformance suite over [`MemoryDatabase`].
#![cfg(not(target_family = "wasm"))]

mod store_conformance;

use std::sync::Arc;

use store_conformance::*;
use tabpeer::{
    content::block::Block,
    platform::{database::Database, memory::MemoryDatabase},
    store::{Store, StoreError},
};

impl Place for MemoryDatabase {
    async fn open(&self) -> Arc<dyn Database> {
        Arc::new(self.reopen())
    }
}

macro_rules! run_natively {
    ($($case:ident)*) => {$(
        #[tokio::test]
        async fn $case() {
            store_conformance::$case(&MemoryDatabase::new()).await;
        }
    )*};
}
for_each_case!(run_natively);

#[tokio::test]
async fn a_real_quota_leaves_nothing_half_written() {
    let database = MemoryDatabase::with_quota(20 << 20);
    let store = Store::open(Arc::new(database.reopen())).await.expect("open");
    let blocks: Vec<Block> = (0..30).map(|seed| leaf(seed, 1 << 20)).collect();
    let root = node(&blocks);
    let mut session = store.session();
    let mut result = Ok(());
    for block in blocks.iter().chain([&root]) {
        result = session.put(block.clone()).await;
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        result = store.commit(vec![session], vec![change("tree", None, Some(&root))]).await;
    } else {
        session.discard().await;
    }
    assert_eq!(result, Err(StoreError::QuotaExceeded));
    assert_eq!(close_and_count(store, &database).await, 0);
    let used = database.reopen().usage().await.expect("usage").used;
    assert!(used < 100, "{used} bytes left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_random_sequences_on_threads() {
    let runs = (100..160).map(|seed| {
        tokio::spawn(async move {
            let database = Probe::new(Arc::new(MemoryDatabase::new()));
            database.delay(seed % 20);
            let store = Store::open(Arc::new(database)).await.expect("open");
            random_sequence(&store, seed).await;
            store.close().await;
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.expect("no panic");
    }
}
