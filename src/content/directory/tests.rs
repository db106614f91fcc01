//! The tests of a tree: against published CIDs, against another implementation, against itself built
//! afresh, and against hostile nodes.

mod edits;
mod golden;
mod hostile;
mod large;
mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cid::Version;

use super::*;
use crate::content::block::{DAG_PB, RAW};
use crate::content::dagpb::{PbLink, PbNode};
use crate::content::unixfs::{Kind, UnixFs};

pub(super) const V1_LINKS: DirParams =
    DirParams { version: Version::V1, shard: ShardRule::LinkBytes(256 << 10) };

/// A store of blocks that counts what it is asked for.
#[derive(Default)]
pub(super) struct Store {
    pub blocks: BTreeMap<Cid, Block>,
    pub loads: usize,
}

impl Store {
    pub fn add(&mut self, block: Block) -> Cid {
        let cid = *block.cid();
        self.blocks.insert(cid, block);
        cid
    }

    /// Repeats a call until it has all the blocks that it asks for.
    pub fn run<T>(
        &mut self,
        tree: &mut Tree,
        mut call: impl FnMut(&mut Tree) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        loop {
            let cids = match call(tree) {
                Err(TreeError::Need(cids)) => cids,
                result => return result,
            };
            assert!(!cids.is_empty() && cids.len() <= MAX_NEED);
            for cid in cids {
                let block = self.blocks.get(&cid).unwrap_or_else(|| panic!("{cid} is not there"));
                tree.supply(block).expect("it was asked for");
                self.loads += 1;
            }
        }
    }

    /// Flushes into the store; the root and the blocks that came.
    pub fn flush(&mut self, tree: &mut Tree) -> (Cid, Vec<Block>) {
        let flushed = self.run(tree, Tree::flush).expect("a flush");
        for block in &flushed.blocks {
            self.add(block.clone());
        }
        (flushed.root, flushed.blocks)
    }

    /// The CIDs of all directory nodes from `root` down.
    pub fn nodes(&self, root: &Cid) -> BTreeSet<Cid> {
        let mut found = BTreeSet::new();
        let mut rest = vec![*root];
        while let Some(cid) = rest.pop() {
            let Some(block) = self.blocks.get(&cid).filter(|_| cid.codec() == DAG_PB) else {
                continue;
            };
            let node = PbNode::decode(block.data()).expect("dag-pb");
            let data = UnixFs::decode(&node.data.unwrap_or_default()).expect("UnixFS");
            if matches!(data.kind, Kind::Directory | Kind::HamtShard) && found.insert(cid) {
                rest.extend(node.links.iter().map(|link| link.cid));
            }
        }
        found
    }
}

pub(super) fn path(text: &str) -> TreePath {
    TreePath::parse_or_root(text).expect("a path")
}

/// A file that is one raw block with this content.
pub(super) fn raw(content: &str) -> Entry {
    let block = Block::encode(Version::V1, RAW, Bytes::copy_from_slice(content.as_bytes()));
    Entry { cid: *block.cid(), tsize: content.len() as u64, kind: EntryKind::File }
}

/// A dag-pb node with this UnixFS message.
pub(super) fn node(version: Version, links: Vec<PbLink>, data: &UnixFs) -> Block {
    let node = PbNode { links, data: Some(data.encode()) };
    Block::encode(version, DAG_PB, node.encode())
}

/// A file that is one dag-pb block.
pub(super) fn wrapped(version: Version, content: &str) -> Block {
    let mut data = UnixFs::new(Kind::File);
    data.data = Some(Bytes::copy_from_slice(content.as_bytes()));
    data.file_size = Some(content.len() as u64);
    node(version, Vec::new(), &data)
}

pub(super) fn entry(block: &Block, kind: EntryKind) -> Entry {
    Entry { cid: *block.cid(), tsize: block.data().len() as u64, kind }
}

/// A tree of these entries, built from nothing.
pub(super) fn build<'a>(
    params: DirParams,
    entries: impl IntoIterator<Item = (&'a str, Entry)>,
) -> Tree {
    let mut tree = Tree::empty(params);
    for (name, entry) in entries {
        tree.insert(&path(name), entry).expect("an insertion");
    }
    tree
}

pub(super) fn root_of(tree: &mut Tree) -> Cid {
    tree.flush().expect("a flush").root
}

#[test]
fn a_tree_answers_what_was_put_in() {
    let mut tree = build(V1_LINKS, [("a/b/c.txt", raw("c")), ("z", raw("z"))]);
    assert_eq!(tree.get(&path("a/b/c.txt")), Ok(raw("c")));
    tree.create_directory(&path("a/empty")).expect("a directory");
    tree.create_directory(&path("a/b")).expect("nothing to do");
    tree.create_directory(&path("")).expect("nothing to do");
    let listed = tree.list(&path("")).expect("a list");
    let names: Vec<&str> = listed.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["a", "a/b", "a/b/c.txt", "a/empty", "z"]);
    assert!(listed.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let below = tree.list(&path("a/b")).expect("a list");
    assert_eq!(below, [(path("a/b/c.txt"), raw("c"))]);
    let empty = tree.get(&path("a/empty")).expect("a directory");
    let known = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
    assert_eq!((empty.cid.to_string().as_str(), empty.tsize), (known, 4));
    assert_eq!(tree.get(&path("")).map(|root| root.cid), Ok(root_of(&mut tree)));
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let not_a_directory = |p: &str| Err(TreeError::NotADirectory { path: p.into() });
    let is_a_directory = |p: &str| Err(TreeError::IsADirectory { path: p.into() });
    let not_found = |p: &str| TreeError::NotFound { path: p.into() };
    let mut tree = build(V1_LINKS, [("a/file", raw("x"))]);
    let before = root_of(&mut tree);
    assert_eq!(tree.insert(&path("a/file/b/c"), raw("y")), not_a_directory("a/file"));
    assert_eq!(tree.insert(&path("a"), raw("y")), is_a_directory("a"));
    let directory = Entry { kind: EntryKind::Directory, ..raw("y") };
    assert_eq!(tree.insert(&path("a/file"), directory), not_a_directory("a/file"));
    assert_eq!(tree.create_directory(&path("a/file")), not_a_directory("a/file"));
    assert_eq!(tree.create_directory(&path("a/file/b")), not_a_directory("a/file"));
    assert_eq!(tree.remove(&path("a/nothing/here")), Err(not_found("a/nothing/here")));
    assert_eq!(tree.remove(&path("a/file/b")), not_a_directory("a/file"));
    assert_eq!(tree.get(&path("b")), Err(not_found("b")));
    assert_eq!(tree.list(&path("a/file")).map(drop), not_a_directory("a/file"));
    assert_eq!(tree.remove(&path("")), Err(TreeError::Root));
    assert_eq!(tree.insert(&path(""), raw("y")), Err(TreeError::Root));
    assert_eq!(tree.flush(), Ok(Flushed { root: before, blocks: Vec::new() }));
}

#[test]
fn a_removed_file_leaves_its_directory_and_a_removed_directory_takes_all_with_it() {
    let mut tree = build(V1_LINKS, [("a/b/c", raw("c")), ("a/d", raw("d"))]);
    tree.remove(&path("a/b/c")).expect("a removal");
    assert_eq!(tree.get(&path("a/b")).map(|e| e.kind), Ok(EntryKind::Directory));
    tree.remove(&path("a")).expect("a removal");
    assert_eq!(tree.list(&path("")), Ok(Vec::new()));
    assert_eq!(root_of(&mut tree), root_of(&mut Tree::empty(V1_LINKS)));
}

#[test]
fn a_flush_hands_out_changed_nodes_once() {
    let mut tree = build(V1_LINKS, [("a/x", raw("x")), ("b/y", raw("y"))]);
    assert_eq!(tree.flush().expect("a flush").blocks.len(), 3);
    assert_eq!(tree.flush().expect("a flush").blocks.len(), 0);
    tree.insert(&path("a/x"), raw("x")).expect("the same again");
    assert_eq!(tree.flush().expect("a flush").blocks.len(), 0);
    tree.insert(&path("a/z"), raw("z")).expect("an insertion");
    assert_eq!(tree.flush().expect("a flush").blocks.len(), 2);
    tree.insert(&path("a/w"), raw("w")).expect("an insertion");
    tree.remove(&path("a/w")).expect("a removal");
    assert_eq!(tree.flush().expect("a flush").blocks.len(), 0);
}

#[test]
fn a_cold_tree_asks_for_what_it_passes_and_no_more() {
    let mut store = Store::default();
    let mut tree = build(V1_LINKS, [("a/b/c", raw("c")), ("d/e", raw("e"))]);
    let (root, _) = store.flush(&mut tree);
    let mut cold = Tree::open(root, V1_LINKS);
    assert_eq!(cold.get(&path("a/b/c")), Err(TreeError::Need(vec![root])));
    let stranger = wrapped(Version::V1, "x");
    assert_eq!(cold.supply(&stranger), Err(TreeError::NotAsked { cid: *stranger.cid() }));
    assert_eq!(store.run(&mut cold, |t| t.get(&path("a/b/c"))), Ok(raw("c")));
    assert_eq!(store.loads, 3);
    cold.unload();
    store.run(&mut cold, |t| t.insert(&path("d/f"), raw("f"))).expect("an insertion");
    assert_eq!(store.loads, 5);
    tree.insert(&path("d/f"), raw("f")).expect("an insertion");
    assert_eq!(store.flush(&mut cold).0, root_of(&mut tree));
}
