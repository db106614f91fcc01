//! Crashes, full disks, wrong bytes, callers that go away.

use std::sync::Arc;

use bytes::Bytes;
use tabpeer::{
    platform::database::{DatabaseError, Op, Table},
    store::{Store, StoreError},
};

use super::{fixture::*, probe::Probe};

pub async fn a_crash_leaves_only_what_was_committed(place: &impl Place) {
    let children = leaves(0..4);
    let kept = node(&children[..2]);
    let lost = node(&children[1..]);
    let crashed = open_store(place).await;
    set_root(&crashed, children[..2].iter().chain([&kept]), "kept", &kept).await.expect("commit");
    let mut session = session_with(&crashed, children.iter().chain([&lost])).await;
    session.flush().await.expect("flush");
    assert!(marked(place).await);
    // The first store does nothing any more, as if its process had ended here.
    let store = open_store(place).await;
    assert!(!marked(place).await);
    assert!(!has(&store, &lost).await && !has(&store, &children[2]).await);
    assert!(has_all(&store, &children[..2]).await);
    assert_eq!(assert_clean(&store).await, 3);
    set_root(&store, children.iter().chain([&lost]), "lost", &lost).await.expect("commit");
    assert_eq!(close_and_count(store, place).await, 6);
    session.discard().await;
    crashed.close().await;
}

pub async fn a_recount_repairs_wrong_counts(place: &impl Place) {
    let store = open_store(place).await;
    let shared = leaf(0, 10);
    let (one, two, three) =
        (node([&shared]), node([&shared, &leaf(1, 10)]), node([&shared, &leaf(2, 10)]));
    let blocks = [shared.clone(), leaf(1, 10), leaf(2, 10)];
    for (name, root) in [("1", &one), ("2", &two), ("3", &three)] {
        set_root(&store, blocks.iter().chain([root]), name, root).await.expect("commit");
    }
    store.close().await;
    let database = place.open().await;
    let table = Table::Refs;
    let wrong = |block, count: u64| Op::Put {
        table,
        key: key(block),
        value: Bytes::copy_from_slice(&count.to_be_bytes()),
    };
    let mark = Op::Put { table: Table::Meta, key: "unfinished".into(), value: Bytes::new() };
    for damage in [wrong(&shared, 7), Op::Delete { table, key: key(&shared) }] {
        let stray = Op::Put { table: Table::Blocks, key: key(&leaf(5, 9)), value: "x".into() };
        database.write(vec![damage, wrong(&one, 1), stray]).await.expect("written");
        let store = open_store(place).await;
        let audit = store.check().await.expect("check");
        assert_eq!((audit.miscounted.len(), audit.unreferenced.len()), (2, 1), "{audit:?}");
        store.close().await;
        database.write(vec![mark.clone()]).await.expect("written");
        let store = open_store(place).await;
        assert_eq!(assert_clean(&store).await, 6);
        store.close().await;
    }
    database.close().await;
}

pub async fn the_mark_is_there_exactly_while_needed(place: &impl Place) {
    let store = open_store(place).await;
    let blocks = leaves(0..6);
    set_root(&store, [&blocks[0]], "small", &blocks[0]).await.expect("commit");
    assert!(!marked(place).await, "a commit alone needs none");
    let mut one = session_with(&store, [&blocks[1]]).await;
    assert!(!marked(place).await);
    let mut two = session_with(&store, [&blocks[2]]).await;
    one.flush().await.expect("flush");
    two.flush().await.expect("flush");
    assert!(marked(place).await);
    let changes = vec![change("one", None, Some(&blocks[1]))];
    store.commit(vec![one], changes).await.expect("commit");
    assert!(marked(place).await, "the other session is still open");
    two.discard().await;
    assert!(!marked(place).await);
    // Only blocks that were there already.
    let mut three = session_with(&store, &blocks[..2]).await;
    three.flush().await.expect("flush");
    three.discard().await;
    assert!(!marked(place).await);
    // A removal that leaves a block to a session which never wrote anything.
    let held = session_with(&store, &blocks[..1]).await;
    remove_root(&store, "small", &blocks[0]).await;
    assert!(marked(place).await);
    held.discard().await;
    assert!(!marked(place).await);
    assert_eq!(close_and_count(store, place).await, 1);
}

pub async fn a_full_quota_leaves_nothing_half_written(place: &impl Place) {
    let probe = Probe::new(place.open().await);
    let store = Store::open(Arc::new(probe.clone())).await.expect("open");
    let kept = leaf(0, 10);
    set_root(&store, [&kept], "kept", &kept).await.expect("commit");
    let children = leaves(1..10);
    let root = node(&children);
    let changes = || vec![change("tree", None, Some(&root)), change("kept", Some(&kept), None)];
    // In the commit itself, with some written before.
    let mut session = session_with(&store, &children[..4]).await;
    session.flush().await.expect("flush");
    for block in children.iter().chain([&root]) {
        session.put(block.clone()).await.expect("put");
    }
    probe.fail(Some(DatabaseError::QuotaExceeded));
    assert_eq!(store.commit(vec![session], changes()).await, Err(StoreError::QuotaExceeded));
    assert_eq!(store.root("kept").await, Ok(Some(*kept.cid())));
    assert_eq!(assert_clean(&store).await, 1);
    // In a flush: the session is spoilt, and so is what would be committed with it.
    let mut session = session_with(&store, &children).await;
    assert_eq!(session.flush().await, Err(StoreError::QuotaExceeded));
    assert_eq!(session.put(root.clone()).await, Err(StoreError::QuotaExceeded));
    assert_eq!(store.commit(vec![session], changes()).await, Err(StoreError::QuotaExceeded));
    assert_eq!(assert_clean(&store).await, 1);
    // Behind the back of a caller who puts more than one batch.
    let mut session = store.session();
    let mut result = Ok(());
    for seed in 0..100 {
        result = session.put(leaf(1000 + seed, 1 << 20)).await;
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(StoreError::QuotaExceeded));
    session.discard().await;
    probe.fail(None);
    set_root(&store, children.iter().chain([&root]), "tree", &root).await.expect("commit");
    assert_eq!(close_and_count(store, place).await, 11);
}

pub async fn a_corrupt_block_is_replaced(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..3);
    let root = node(&children);
    let all = || children.iter().chain([&root]);
    set_root(&store, all(), "tree", &root).await.expect("commit");
    for (round, victim) in [&children[1], &root, &children[1], &root].into_iter().enumerate() {
        let database = place.open().await;
        let bad = Op::Put { table: Table::Blocks, key: key(victim), value: "bad".into() };
        database.write(vec![bad]).await.expect("written");
        database.close().await;
        let corrupt = Err(StoreError::Corrupt { cid: *victim.cid() });
        assert_eq!(store.get(victim.cid()).await, corrupt);
        let cids: Vec<_> = all().map(|block| *block.cid()).collect();
        assert_eq!(store.get_many(&cids).await.map(drop), corrupt.map(drop));
        assert_eq!(store.evict_corrupt(children[0].cid()).await, Ok(false));
        assert_eq!(store.evict_corrupt(victim.cid()).await, Ok(true));
        assert_eq!(store.get(victim.cid()).await, Ok(None));
        assert!(!has(&store, victim).await);
        let mut session = session_with(&store, [victim]).await;
        assert!(has(&store, victim).await);
        match round {
            // Repaired by a flush, kept although the session is discarded.
            0 | 1 => {
                session.flush().await.expect("flush");
                session.discard().await;
            }
            // Repaired by a commit that changes nothing else.
            _ => store.commit(vec![session], vec![]).await.expect("commit"),
        }
        assert_eq!(store.get(victim.cid()).await, Ok(Some(victim.clone())));
        assert_eq!(assert_clean(&store).await, 4);
    }
    remove_root(&store, "tree", &root).await;
    assert_eq!(close_and_count(store, place).await, 0);
}

pub async fn a_removed_node_that_is_corrupt_is_cleaned_up_later(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..3);
    let (root, other) = (node(&children), node(&children[..1]));
    set_root(&store, children.iter().chain([&root]), "tree", &root).await.expect("commit");
    set_root(&store, [&other], "other", &other).await.expect("commit");
    let database = place.open().await;
    let bad = Op::Put { table: Table::Blocks, key: key(&root), value: "bad".into() };
    database.write(vec![bad]).await.expect("written");
    database.close().await;
    remove_root(&store, "tree", &root).await;
    assert!(!has(&store, &root).await);
    let mut session = session_with(&store, [&leaf(9, 10)]).await;
    session.flush().await.expect("flush");
    session.discard().await;
    assert!(marked(place).await, "the next opening is to count anew");
    assert_eq!(close_and_count(store, place).await, 2);
    assert!(!marked(place).await);
}

pub async fn a_dropped_commit_runs_to_its_end(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..3);
    let root = node(&children);
    for polls in 0..8 {
        let session = session_with(&store, children.iter().chain([&root])).await;
        let mut commit =
            Box::pin(store.commit(vec![session], vec![change("tree", None, Some(&root))]));
        for _ in 0..polls {
            let _ = futures::poll!(&mut commit);
        }
        drop(commit);
        // Waits its turn behind the commit that was dropped, if it had begun.
        let blocks = assert_clean(&store).await;
        match store.root("tree").await.expect("root") {
            Some(_) => {
                assert_eq!(blocks, 4);
                remove_root(&store, "tree", &root).await;
            }
            None => assert!(polls == 0, "it had begun"),
        }
        assert_eq!(assert_clean(&store).await, 0);
    }
    assert_eq!(close_and_count(store, place).await, 0);
}
