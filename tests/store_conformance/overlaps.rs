//! What sessions, commits and sweeps do to each other while a write is in flight.

use std::sync::Arc;

use cid::Cid;
use tabpeer::{content::block::Block, store::Store};

use super::{fixture::*, probe::Probe};

/// Long enough that whatever is done meanwhile is done first.
const LONG: u64 = 2000;

async fn slow_store(place: &impl Place) -> (Probe, Store) {
    let probe = Probe::new(place.open().await);
    let store = Store::open(Arc::new(probe.clone())).await.expect("open");
    (probe, store)
}

pub async fn a_commit_beside_a_flush_leaves_the_mark(place: &impl Place) {
    let (probe, store) = slow_store(place).await;
    let mut flushing = session_with(&store, &leaves(0..3)).await;
    probe.delay_writes(LONG);
    assert!(futures::poll!(Box::pin(flushing.flush())).is_pending());
    probe.delay_writes(0);
    let block = leaf(9, 10);
    set_root(&store, [&block], "other", &block).await.expect("commit");
    assert!(marked(place).await);
    flushing.discard().await;
    assert!(!marked(place).await);
    assert_eq!(close_and_count(store, place).await, 1);
}

pub async fn a_commit_of_what_another_session_is_writing(place: &impl Place) {
    let (probe, store) = slow_store(place).await;
    let children = leaves(0..3);
    let root = node(&children);
    let blocks: Vec<&Block> = children.iter().chain([&root]).collect();
    for both in [false, true] {
        let mut flushing = session_with(&store, blocks.iter().copied()).await;
        let other = session_with(&store, blocks.iter().copied()).await;
        probe.delay_writes(LONG);
        assert!(futures::poll!(Box::pin(flushing.flush())).is_pending());
        probe.delay_writes(0);
        let changes = vec![change("tree", None, Some(&root))];
        store.commit(vec![other], changes).await.expect("commit");
        match both {
            true => {
                let changes = vec![change("cache", None, Some(&root))];
                store.commit(vec![flushing], changes).await.expect("commit");
            }
            false => flushing.discard().await,
        }
        assert_eq!(assert_clean(&store).await, 4);
        assert!(has_all(&store, &children).await && has(&store, &root).await);
        remove_root(&store, "tree", &root).await;
        if both {
            assert_eq!(assert_clean(&store).await, 4);
            remove_root(&store, "cache", &root).await;
        }
    }
    assert_eq!(close_and_count(store, place).await, 0);
}

pub async fn a_block_put_while_it_is_being_deleted(place: &impl Place) {
    let (probe, store) = slow_store(place).await;
    let children = leaves(0..3);
    let root = node(&children);
    let blocks: Vec<&Block> = children.iter().chain([&root]).collect();
    for (turns, flush, commit) in (0..40).step_by(3).flat_map(|turns| {
        [(turns, true, true), (turns, true, false), (turns, false, true), (turns, false, false)]
    }) {
        let mut old = session_with(&store, blocks.iter().copied()).await;
        old.flush().await.expect("flush");
        probe.delay_writes(turns);
        let put = async {
            probe.delay_writes(0);
            let mut new = session_with(&store, blocks.iter().copied()).await;
            if flush {
                new.flush().await.expect("flush");
            }
            match commit {
                true => {
                    let changes = vec![change("tree", None, Some(&root))];
                    store.commit(vec![new], changes).await.expect("commit");
                }
                false => new.discard().await,
            }
        };
        // Let the deletion get under way first.
        let mut discard = Box::pin(futures::future::maybe_done(old.discard()));
        for _ in 0..3 {
            let _ = futures::poll!(&mut discard);
            // Something else takes a turn of the executor.
            assert!(!has(&store, &leaf(99, 10)).await);
        }
        futures::join!(discard, put);
        let blocks = assert_clean(&store).await;
        assert_eq!(blocks, if commit { 4 } else { 0 }, "{turns} {flush} {commit}");
        if commit {
            remove_root(&store, "tree", &root).await;
        }
        assert!(!marked(place).await, "{turns} {flush} {commit}");
    }
    assert_eq!(close_and_count(store, place).await, 0);
}

pub async fn both_versions_of_a_link_are_one_reference(place: &impl Place) {
    let store = open_store(place).await;
    let below = node(&leaves(0..1));
    let zero = Cid::new_v0(*below.cid().hash()).expect("version 0");
    let root = node_of([*below.cid(), zero]);
    let blocks = [leaf(0, 100), below.clone(), root.clone()];
    set_root(&store, &blocks, "tree", &root).await.expect("commit");
    assert_eq!(assert_clean(&store).await, 3);
    remove_root(&store, "tree", &root).await;
    assert_eq!(close_and_count(store, place).await, 0);
}
