//! Sessions, commits, references, and what is freed when.

use cid::Cid;
use tabpeer::{content::block::Block, store::StoreError};

use super::{fixture::*, probe::Probe};

pub async fn a_discarded_session_leaves_nothing(place: &impl Place) {
    let store = open_store(place).await;
    let blocks = leaves(0..10);
    let mut session = session_with(&store, &blocks[..5]).await;
    session.flush().await.expect("flush");
    for block in &blocks[5..] {
        session.put(block.clone()).await.expect("put");
    }
    assert!(has_all(&store, &blocks).await);
    session.discard().await;
    for block in &blocks {
        assert!(!has(&store, block).await);
    }
    assert_eq!(assert_clean(&store).await, 0);
    store.close().await;
}

pub async fn a_dropped_session_leaves_nothing(place: &impl Place) {
    let store = open_store(place).await;
    let mut flushed = session_with(&store, &leaves(0..5)).await;
    flushed.flush().await.expect("flush");
    let mut flushing = session_with(&store, &leaves(5..10)).await;
    assert!(futures::poll!(Box::pin(flushing.flush())).is_pending());
    drop((flushed, flushing));
    assert_eq!(close_and_count(store, place).await, 0);
}

pub async fn only_what_a_root_reaches_is_committed(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..4);
    let (root, stray) = (node(&children[..2]), node(&children));
    let mut session = session_with(&store, children.iter().chain([&root, &stray])).await;
    session.flush().await.expect("flush");
    session.put(leaf(9, 10)).await.expect("put");
    store.commit(vec![session], vec![change("tree", None, Some(&root))]).await.expect("commit");
    assert!(!has(&store, &stray).await && !has(&store, &children[2]).await);
    assert!(has_all(&store, &children[..2]).await);
    assert_eq!(close_and_count(store, place).await, 3);
}

/// What each of two sessions with the same blocks does, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    PutA,
    PutB,
    FlushA,
    FlushB,
    EndA(bool),
    EndB(bool),
}

pub async fn two_sessions_with_the_same_blocks_in_every_order(place: &impl Place) {
    use Step::*;
    let store = open_store(place).await;
    let children = leaves(0..3);
    let root = node(&children);
    let blocks: Vec<&Block> = children.iter().chain([&root]).collect();
    for flushes in [vec![], vec![FlushA], vec![FlushB], vec![FlushA, FlushB], vec![FlushB, FlushA]]
    {
        for (a, b) in [(true, true), (true, false), (false, true), (false, false)] {
            for ends in [[EndA(a), EndB(b)], [EndB(b), EndA(a)]] {
                let mut steps = vec![PutA, PutB];
                steps.extend(&flushes);
                steps.extend(ends);
                // Once with both putting first, once with B starting when A has flushed.
                two_sessions(&store, &blocks, &root, &steps).await;
                if flushes.first() == Some(&FlushA) {
                    steps.swap(1, 2);
                    two_sessions(&store, &blocks, &root, &steps).await;
                }
            }
        }
    }
    assert_eq!(close_and_count(store, place).await, 0);
}

async fn two_sessions(
    store: &tabpeer::store::Store,
    blocks: &[&Block],
    root: &Block,
    steps: &[Step],
) {
    let (mut a, mut b) = (None, None);
    let (mut left_a, mut left_b) = (false, false);
    for step in steps {
        match *step {
            Step::PutA => a = Some(session_with(store, blocks.iter().copied()).await),
            Step::PutB => b = Some(session_with(store, blocks.iter().copied()).await),
            Step::FlushA => a.as_mut().expect("a").flush().await.expect("flush"),
            Step::FlushB => b.as_mut().expect("b").flush().await.expect("flush"),
            Step::EndA(commit) => {
                let session = a.take().expect("a");
                left_a = commit;
                match commit {
                    true => {
                        let changes = vec![change("a", None, Some(root))];
                        store.commit(vec![session], changes).await.expect("commit");
                    }
                    false => session.discard().await,
                }
            }
            Step::EndB(commit) => {
                let session = b.take().expect("b");
                left_b = commit;
                match commit {
                    true => {
                        let changes = vec![change("b", None, Some(root))];
                        store.commit(vec![session], changes).await.expect("commit");
                    }
                    false => session.discard().await,
                }
            }
        }
        let alive = a.is_some() || b.is_some() || left_a || left_b;
        for block in blocks {
            assert_eq!(has(store, block).await, alive, "{step:?} of {steps:?}");
        }
        assert_clean(store).await;
    }
    for (name, left) in [("a", left_a), ("b", left_b)] {
        if left {
            remove_root(store, name, root).await;
        }
    }
    assert_eq!(assert_clean(store).await, 0, "{steps:?}");
}

pub async fn a_held_block_outlives_its_removal(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..3);
    let (root, other) = (node(&children), node(&children[1..]));
    let blocks: Vec<&Block> = children.iter().chain([&root]).collect();
    for (flush_first, flush_later, commit) in [
        (true, false, true),
        (false, false, true),
        (false, true, true),
        (true, false, false),
        (false, true, false),
    ] {
        set_root(&store, blocks.iter().copied(), "old", &root).await.expect("commit");
        let mut session = session_with(&store, children[1..].iter().chain([&other])).await;
        if flush_first {
            session.flush().await.expect("flush");
        }
        remove_root(&store, "old", &root).await;
        assert!(has_all(&store, &children[1..]).await, "held");
        assert!(!has(&store, &children[0]).await, "not held");
        if flush_later {
            session.flush().await.expect("flush");
        }
        if commit {
            let changes = vec![change("new", None, Some(&other))];
            store.commit(vec![session], changes).await.expect("commit");
            assert!(has_all(&store, &children[1..]).await);
            assert_eq!(assert_clean(&store).await, 3);
            remove_root(&store, "new", &other).await;
        } else {
            session.discard().await;
        }
        assert_eq!(assert_clean(&store).await, 0);
    }
    assert_eq!(close_and_count(store, place).await, 0);
}

pub async fn shared_blocks_live_until_the_last_reference(place: &impl Place) {
    let store = open_store(place).await;
    let shared = leaf(0, 10);
    let below = node([&shared]);
    let one = node([&below, &leaf(1, 10)]);
    // Links twice to the same block: still one reference.
    let two = node([&below, &below, &shared, &shared]);
    let blocks = [shared.clone(), below.clone(), leaf(1, 10)];
    set_root(&store, blocks.iter().chain([&one]), "one", &one).await.expect("commit");
    set_root(&store, [&two], "two", &two).await.expect("its children are committed");
    set_root(&store, [], "leaf", &shared).await.expect("commit");
    assert_eq!(assert_clean(&store).await, 5);
    remove_root(&store, "one", &one).await;
    assert!(!has(&store, &one).await && has(&store, &below).await);
    assert_eq!(assert_clean(&store).await, 3);
    remove_root(&store, "two", &two).await;
    assert!(!has(&store, &below).await && has(&store, &shared).await);
    assert_eq!(assert_clean(&store).await, 1);
    remove_root(&store, "leaf", &shared).await;
    assert_eq!(close_and_count(store, place).await, 0);
}

pub async fn removing_a_tree_frees_all_of_it(place: &impl Place) {
    let store = open_store(place).await;
    let leaves = leaves(0..100);
    let files: Vec<Block> = leaves.chunks(4).map(node).collect();
    let folders: Vec<Block> = files.chunks(5).map(node).collect();
    let root = node(&folders);
    let kept = files[7].clone();
    let all = leaves.iter().chain(&files).chain(&folders).chain([&root]);
    set_root(&store, all, "tree", &root).await.expect("commit");
    set_root(&store, [], "cache/kept", &kept).await.expect("commit");
    remove_root(&store, "tree", &root).await;
    assert!(has_all(&store, &leaves[28..32]).await);
    assert_eq!(close_and_count(store, place).await, 5);
}

pub async fn a_directory_edit_costs_what_changed(place: &impl Place) {
    const ENTRIES: u64 = 2000;
    /// Reads and writes that an edit may take, whatever the directory's size.
    const MAX_COST: u64 = 30;
    let probe = Probe::new(place.open().await);
    let store =
        tabpeer::store::Store::open(std::sync::Arc::new(probe.clone())).await.expect("open");
    let files = leaves(0..ENTRIES);
    let old = node(&files);
    set_root(&store, files.iter().chain([&old]), "tree", &old).await.expect("commit");
    let added = leaf(ENTRIES, 10);
    let new = node(files[1..].iter().chain([&added]));
    let session = session_with(&store, [&added, &new]).await;
    probe.take_cost();
    let edit = vec![change("tree", Some(&old), Some(&new))];
    store.commit(vec![session], edit).await.expect("commit");
    let cost = probe.take_cost();
    assert!(cost <= MAX_COST, "{cost}");
    assert!(!has(&store, &files[0]).await && !has(&store, &old).await);
    assert_eq!(close_and_count(store, place).await, ENTRIES + 1);
}

pub async fn a_root_that_moved_is_a_conflict(place: &impl Place) {
    let store = open_store(place).await;
    let (one, two) = (leaf(1, 10), leaf(2, 10));
    set_root(&store, [&one], "tree", &one).await.expect("commit");
    let conflict = StoreError::RootConflict { name: "tree".into(), found: Some(*one.cid()) };
    for expected in [None, Some(&two)] {
        let mut session = session_with(&store, [&two]).await;
        session.flush().await.expect("flush");
        let changes = vec![change("other", None, Some(&two)), change("tree", expected, Some(&two))];
        assert_eq!(store.commit(vec![session], changes).await, Err(conflict.clone()));
        assert!(!has(&store, &two).await);
    }
    assert_eq!(store.roots("").await, Ok(vec![("tree".into(), *one.cid())]));
    let twice = vec![change("x", None, None), change("x", None, Some(&one))];
    assert!(matches!(store.commit(vec![], twice).await, Err(StoreError::RootConflict { .. })));
    // Two at once: one wins.
    let a = session_with(&store, [&two]).await;
    let b = session_with(&store, [&leaf(3, 10)]).await;
    let (a, b) = futures::join!(
        store.commit(vec![a], vec![change("tree", Some(&one), Some(&two))]),
        store.commit(vec![b], vec![change("tree", Some(&one), Some(&leaf(3, 10)))])
    );
    assert!(a.is_ok() && matches!(b, Err(StoreError::RootConflict { .. })));
    assert_eq!(close_and_count(store, place).await, 1);
}

pub async fn an_incomplete_tree_is_refused(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..3);
    let (middle, root) = (node(&children), node([&node(&children)]));
    let missing = |block: &Block| Err(StoreError::Incomplete { missing: vec![*block.cid()] });
    assert_eq!(set_root(&store, [], "tree", &root).await, missing(&root));
    assert_eq!(set_root(&store, [&root], "tree", &root).await, missing(&middle));
    let most = [&root, &middle, &children[0], &children[2]];
    assert_eq!(set_root(&store, most, "tree", &root).await, missing(&children[1]));
    // What another session has does not count: it may go away.
    let mut other = session_with(&store, [&children[1]]).await;
    assert_eq!(set_root(&store, most, "tree", &root).await, missing(&children[1]));
    other.flush().await.expect("flush");
    assert_eq!(set_root(&store, most, "tree", &root).await, missing(&children[1]));
    assert_eq!(store.root("tree").await, Ok(None));
    // Two sessions committed together complete each other.
    let session = session_with(&store, most).await;
    let changes = vec![change("tree", None, Some(&root))];
    store.commit(vec![other, session], changes).await.expect("commit");
    let many = leaves(100..200);
    let root = node(&many);
    match set_root(&store, [&root], "many", &root).await {
        Err(StoreError::Incomplete { missing }) => {
            let known: Vec<Cid> = many.iter().map(|block| *block.cid()).collect();
            assert!(missing.len() == 16 && missing.iter().all(|cid| known.contains(cid)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(close_and_count(store, place).await, 5);
}

pub async fn a_block_read_by_a_session_is_held(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..2);
    let old = node(&children);
    set_root(&store, children.iter().chain([&old]), "old", &old).await.expect("commit");
    let mut session = store.session();
    assert_eq!(session.get(leaf(9, 10).cid()).await, Ok(None));
    assert_eq!(session.get(children[0].cid()).await, Ok(Some(children[0].clone())));
    remove_root(&store, "old", &old).await;
    assert!(has(&store, &children[0]).await && !has(&store, &children[1]).await);
    let new = node(&children[..1]);
    session.put(new.clone()).await.expect("put");
    store.commit(vec![session], vec![change("new", None, Some(&new))]).await.expect("commit");
    let mut session = store.session();
    session.get(new.cid()).await.expect("get");
    session.discard().await;
    assert_eq!(close_and_count(store, place).await, 2);
}
