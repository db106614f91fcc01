//! Directories of many entries: what edits cost, counted in blocks.

use super::*;
use crate::content::block::{cid_of, sha256};

fn names(entries: usize) -> impl DoubleEndedIterator<Item = TreePath> {
    (0..entries).map(|n| path(&format!("photos/IMG_{n:06}.jpeg")))
}

/// In a store, and the root.
fn large(entries: usize, params: DirParams) -> (Store, Tree, Cid) {
    let file = Entry {
        cid: cid_of(Version::V1, RAW, &sha256(b"x")),
        tsize: 1_000_000,
        kind: EntryKind::File,
    };
    let mut tree = Tree::empty(params);
    for name in names(entries) {
        tree.insert(&name, file).expect("an insertion");
    }
    let mut store = Store::default();
    let (root, _) = store.flush(&mut tree);
    (store, tree, root)
}

#[test]
fn edits_of_a_large_directory_touch_few_nodes() {
    const ENTRIES: usize = 100_000;
    let (mut store, mut tree, root) = large(ENTRIES, V1_LINKS);
    let nodes = store.blocks.len();
    // In memory nothing is asked for, down to the last entry, and a flush writes a path of nodes.
    let file = tree.get(&path("photos/IMG_000007.jpeg")).expect("a file");
    tree.remove(&path("photos/IMG_000007.jpeg")).expect("a removal");
    assert!(tree.flush().expect("a flush").blocks.len() <= 5);
    tree.insert(&path("photos/IMG_000007.jpeg"), file).expect("an insertion");
    assert_eq!(root_of(&mut tree), root);
    assert_eq!(tree.list(&path("photos")).map(|list| list.len()), Ok(ENTRIES));
    for (count, name) in names(ENTRIES).enumerate() {
        tree.remove(&name).expect("a removal without loading");
        if count % 20_000 == 0 {
            let blocks = tree.flush().expect("a flush without loading").blocks.len();
            assert!(blocks < nodes, "{blocks} of {nodes}");
        }
    }
    let empty = node(Version::V1, Vec::new(), &UnixFs::new(Kind::Directory));
    let empty = entry(&empty, EntryKind::Directory);
    assert_eq!(root_of(&mut tree), root_of(&mut build(V1_LINKS, [("photos", empty)])));

    // From a cold start, one entry costs its path, and learning that the directory stays large.
    let mut cold = Tree::open(root, V1_LINKS);
    store.run(&mut cold, |t| t.insert(&path("photos/new"), file)).expect("an insertion");
    store.flush(&mut cold);
    assert!(store.loads <= 4, "{} loads for an insertion", store.loads);
    store.loads = 0;
    let mut cold = Tree::open(root, V1_LINKS);
    store.run(&mut cold, |t| t.remove(&path("photos/IMG_000000.jpeg"))).expect("a removal");
    store.flush(&mut cold);
    assert!(store.loads <= 4 + MAX_NEED, "{} loads for a removal", store.loads);
}

#[test]
fn removing_all_from_a_cold_tree_with_little_memory_is_not_quadratic() {
    const ENTRIES: usize = 10_000;
    // Sixty times as much as may be flat.
    let params = DirParams { version: Version::V1, shard: ShardRule::LinkBytes(8 << 10) };
    let (mut store, _, root) = large(ENTRIES, params);
    let mut tree = Tree::open(root, params);
    for (count, name) in names(ENTRIES).rev().enumerate() {
        store.run(&mut tree, |t| t.remove(&name)).expect("a removal");
        if count % 10 == 0 {
            store.flush(&mut tree);
            tree.unload();
        }
    }
    // Ten removals share most of a path; now and then twice the threshold is searched for.
    assert!(store.loads < 2 * ENTRIES, "{} loads", store.loads);
    store.flush(&mut tree);
    assert_eq!(store.run(&mut tree, |t| t.list(&path("photos"))), Ok(Vec::new()));
}
