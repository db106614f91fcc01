//! Putting and getting, roots and identity.

use bytes::Bytes;
use cid::{Cid, Version};
use tabpeer::{
    content::block::{Block, DAG_PB, MAX_BLOCK, RAW},
    platform::database::{DatabaseError, Op, Table},
    store::{FORMAT, Store, StoreError},
};

use super::fixture::*;

pub async fn blocks_come_back(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..3);
    let root = node(&children);
    let session = session_with(&store, children.iter().chain([&root])).await;
    assert_eq!(store.get(root.cid()).await, Ok(Some(root.clone())), "readable at once");
    store.commit(vec![session], vec![change("tree", None, Some(&root))]).await.expect("commit");
    assert_eq!(store.get(root.cid()).await, Ok(Some(root.clone())));
    store.close().await;

    let store = open_store(place).await;
    let absent = leaf(99, 10);
    let cids = [*children[2].cid(), *absent.cid(), *children[0].cid()];
    let blocks = store.get_many(&cids).await.expect("read");
    assert_eq!(blocks, [Some(children[2].clone()), None, Some(children[0].clone())]);
    assert_eq!(store.has_many(&cids).await, Ok(vec![true, false, true]));
    assert_eq!(store.root("tree").await, Ok(Some(*root.cid())));
    assert_eq!(close_and_count(store, place).await, 4);
}

pub async fn both_cid_versions_and_codecs_find_a_block(place: &impl Place) {
    let store = open_store(place).await;
    let one = node(&[]);
    let zero = Block::verify(Cid::new_v0(*one.cid().hash()).expect("v0"), one.data().clone());
    let zero = zero.expect("the same bytes");
    let raw = Block::encode(Version::V1, RAW, one.data().clone());
    set_root(&store, [&zero], "zero", &zero).await.expect("commit");
    set_root(&store, [&one], "one", &one).await.expect("commit");
    for block in [&zero, &one, &raw] {
        assert_eq!(store.get(block.cid()).await.as_ref(), Ok(&Some(block.clone())));
        assert!(has(&store, block).await);
    }
    assert_eq!(store.root("zero").await, Ok(Some(*zero.cid())));
    assert_eq!(assert_clean(&store).await, 1);
    remove_root(&store, "zero", &zero).await;
    assert!(has(&store, &zero).await, "the other root names it too");
    remove_root(&store, "one", &one).await;
    assert!(!has(&store, &zero).await);

    let leaf = leaf(1, 10);
    let as_node = Cid::new_v1(DAG_PB, *leaf.cid().hash());
    set_root(&store, [&leaf], "leaf", &leaf).await.expect("commit");
    assert_eq!(
        store.get(&as_node).await.map(|b| b.map(|b| b.data().clone())),
        Ok(Some(leaf.data().clone()))
    );
    assert_eq!(close_and_count(store, place).await, 1);
}

pub async fn identity_blocks_take_no_row(place: &impl Place) {
    let store = open_store(place).await;
    let cid: Cid = "bafkqablimvwgy3y".parse().expect("an identity CID");
    let inline = Block::inline(&cid).expect("inline");
    assert_eq!(store.get(&cid).await, Ok(Some(inline.clone())));
    assert_eq!(store.has(&cid).await, Ok(true));
    let root = node([&inline]);
    set_root(&store, [&inline, &root], "tree", &root).await.expect("commit");
    set_root(&store, [], "inline", &inline).await.expect("a root may be inline");
    assert_eq!(store.root("inline").await, Ok(Some(cid)));
    remove_root(&store, "inline", &inline).await;
    assert_eq!(close_and_count(store, place).await, 1);
}

pub async fn a_thousand_small_blocks(place: &impl Place) {
    let store = open_store(place).await;
    let children = leaves(0..1000);
    let root = node(&children);
    set_root(&store, children.iter().chain([&root]), "tree", &root).await.expect("commit");
    let cids: Vec<Cid> = children.iter().map(|block| *block.cid()).collect();
    let read = store.get_many(&cids).await.expect("read");
    assert!(read.iter().flatten().eq(&children));
    assert_eq!(assert_clean(&store).await, 1001);
    remove_root(&store, "tree", &root).await;
    assert_eq!(close_and_count(store, place).await, 0);
}

pub async fn blocks_of_the_largest_size(place: &impl Place) {
    let store = open_store(place).await;
    let children: Vec<Block> = (0..9).map(|seed| leaf(seed, MAX_BLOCK)).collect();
    let root = node(&children);
    set_root(&store, children.iter().chain([&root]), "tree", &root).await.expect("commit");
    for child in &children {
        assert_eq!(store.get(child.cid()).await.as_ref(), Ok(&Some(child.clone())));
    }
    assert_eq!(close_and_count(store, place).await, 10);
}

pub async fn reading_while_writing(place: &impl Place) {
    let store = open_store(place).await;
    let children: Vec<Block> = (0..40).map(|seed| leaf(seed, 1 << 20)).collect();
    let mut session = store.session();
    for (at, child) in children.iter().enumerate() {
        session.put(child.clone()).await.expect("put");
        let earlier = &children[at / 2];
        assert_eq!(store.get(child.cid()).await.as_ref(), Ok(&Some(child.clone())));
        assert_eq!(store.get(earlier.cid()).await.as_ref(), Ok(&Some(earlier.clone())));
    }
    let root = node(&children);
    session.put(root.clone()).await.expect("put");
    let commit = store.commit(vec![session], vec![change("tree", None, Some(&root))]);
    let read = store.get(children[39].cid());
    let (commit, read) = futures::join!(commit, read);
    assert_eq!((commit, read), (Ok(()), Ok(Some(children[39].clone()))));
    assert_eq!(close_and_count(store, place).await, 41);
}

pub async fn roots_by_prefix(place: &impl Place) {
    let store = open_store(place).await;
    let block = leaf(1, 10);
    for name in ["tree", "cache/b", "cache/", "cache/a", "cache0", "", "cach"] {
        set_root(&store, [&block], name, &block).await.expect("commit");
    }
    let names = async |prefix: &str| {
        let roots = store.roots(prefix).await.expect("roots");
        roots.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names("cache/").await, ["cache/", "cache/a", "cache/b"]);
    assert_eq!(names("tree").await, ["tree"]);
    assert_eq!(names("trees").await, [""; 0]);
    assert_eq!(names("").await, ["", "cach", "cache/", "cache/a", "cache/b", "cache0", "tree"]);
    assert_eq!(store.root("cache").await, Ok(None));
    assert_eq!(close_and_count(store, place).await, 1);
}

pub async fn the_identity_is_set_once(place: &impl Place) {
    let store = open_store(place).await;
    assert_eq!(store.identity().await, Ok(None));
    let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    let (first, second) = futures::join!(
        store.set_identity_if_absent(one.clone()),
        store.set_identity_if_absent(two)
    );
    assert_eq!((first, second), (Ok(one.clone()), Ok(one.clone())));
    store.close().await;
    assert!(matches!(store.identity().await, Err(StoreError::Database(DatabaseError::Closed(_)))));
    let store = open_store(place).await;
    assert_eq!(store.identity().await, Ok(Some(one)));
    store.close().await;
}

pub async fn a_newer_format_is_refused(place: &impl Place) {
    open_store(place).await.close().await;
    let database = place.open().await;
    let row = Bytes::copy_from_slice(&(FORMAT + 1).to_be_bytes());
    let newer = Op::Put { table: Table::Meta, key: "format".into(), value: row };
    database.write(vec![newer]).await.expect("written");
    let too_new = DatabaseError::TooNew { found: FORMAT + 1, known: FORMAT };
    let opened = Store::open(database.clone()).await.map(drop);
    assert_eq!(opened, Err(StoreError::Database(too_new)));
    database.close().await;
}
