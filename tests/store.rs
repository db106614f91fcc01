//! The store's conformance suite over [`MemoryDatabase`].
#![cfg(not(target_family = "wasm"))]

mod store_conformance;

use std::sync::Arc;

use store_conformance::{probe::Probe, *};
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
            database.delay_writes(seed % 20);
            let store = Store::open(Arc::new(database)).await.expect("open");
            random_sequence(&store, seed).await;
            store.close().await;
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.expect("no panic");
    }
}

#[tokio::test]
async fn closing_does_not_wait_for_those_who_go_on_writing() {
    const ROUNDS: u64 = 50;
    let probe = Probe::new(Arc::new(MemoryDatabase::new()));
    let store = Store::open(Arc::new(probe.clone())).await.expect("open");
    probe.delay_writes(1000);
    // Out of step, so that a batch of one is always in flight when one of the other lands.
    let write = async |from: u64, wait: usize| {
        for _ in 0..wait {
            tokio::task::yield_now().await;
        }
        let mut session = store.session();
        for seed in from..from + ROUNDS {
            session.put(leaf(seed, 8)).await?;
            session.flush().await?;
        }
        Ok::<_, StoreError>(())
    };
    let close = async {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        store.close().await;
    };
    let (one, two, ()) = tokio::join!(write(0, 0), write(ROUNDS, 10), close);
    assert!(matches!(one, Err(StoreError::Database(_))), "{one:?}");
    assert!(matches!(two, Err(StoreError::Database(_))), "{two:?}");
}
