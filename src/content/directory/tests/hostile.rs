//! Nodes as an attacker may serve them, and oddities that are honest but not ours.

use super::*;
use crate::content::hamt::{Fanout, HamtError, Stat, encode_shard};
use crate::content::unixfs::Mtime;
use proptest::prelude::*;

fn link(name: &str, cid: Cid) -> PbLink {
    PbLink { cid, name: name.into(), tsize: 1 }
}

fn directory(links: Vec<PbLink>) -> Block {
    node(Version::V1, links, &UnixFs::new(Kind::Directory))
}

fn shard(links: impl IntoIterator<Item = (u8, Cid)>) -> Block {
    let links = links
        .into_iter()
        .map(|(slot, cid)| (slot, link(&Fanout::DEFAULT.link_name(slot, ""), cid)));
    let node = encode_shard(Fanout::DEFAULT, Stat::default(), links);
    Block::encode(Version::V1, DAG_PB, node.encode())
}

/// What a call on a tree of these blocks says, the last being the root.
fn with<T>(
    blocks: impl IntoIterator<Item = Block>,
    call: impl FnMut(&mut Tree) -> Result<T, TreeError>,
) -> Result<T, TreeError> {
    let mut store = Store::default();
    let root = blocks.into_iter().map(|block| store.add(block)).last().expect("a root");
    store.run(&mut Tree::open(root, V1_LINKS), call)
}

fn list(tree: &mut Tree) -> Result<Vec<(TreePath, Entry)>, TreeError> {
    tree.list(&path(""))
}

fn why<T: std::fmt::Debug>(result: Result<T, TreeError>) -> NodeError {
    match result {
        Err(TreeError::BadNode { why, .. }) => *why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_that_are_no_names_are_refused() {
    for name in ["", ".", "..", "a/b", "../../etc/passwd", "a\0"] {
        let bad = directory(vec![link("fine", raw("x").cid), link(name, raw("x").cid)]);
        let why = Box::new(NodeError::BadName(name.into()));
        let error = TreeError::BadNode { cid: *bad.cid(), why };
        assert_eq!(with([bad], list), Err(error), "{name:?}");
    }
    let long = "x".repeat(300);
    for name in ["a\nb", &long] {
        let odd = directory(vec![link(name, raw("x").cid), link("fine", raw("x").cid)]);
        assert!(matches!(with([odd.clone()], list), Err(TreeError::BadPath(_))), "{name:?}");
        assert_eq!(with([odd], |t| t.get(&path("fine"))).map(|e| e.cid), Ok(raw("x").cid));
    }
    let twice = directory(vec![link("a", raw("x").cid), link("a", raw("y").cid)]);
    let why = Box::new(NodeError::Duplicate("a".into()));
    let error = TreeError::BadNode { cid: *twice.cid(), why };
    assert_eq!(with([twice], list), Err(error));
    // ".." belongs in some slot, too.
    let slot = (0..=255).find_map(|slot| {
        let entry = link(&Fanout::DEFAULT.link_name(slot, ".."), raw("x").cid);
        let node = encode_shard(Fanout::DEFAULT, Stat::default(), [(slot, entry)].into_iter());
        let block = Block::encode(Version::V1, DAG_PB, node.encode());
        match self::why(with([block], list)) {
            NodeError::BadName(name) => Some(name),
            NodeError::Hamt(HamtError::Misplaced(_)) => None,
            other => panic!("{other}"),
        }
    });
    assert_eq!(slot.as_deref(), Some(".."));
}

#[test]
fn sub_shards_that_do_not_belong_are_refused() {
    let empty = shard([]);
    let root = shard([(3, *empty.cid())]);
    assert_eq!(why(with([empty, root], list)), NodeError::NotAShard);
    let flat = directory(vec![]);
    let root = shard([(3, *flat.cid())]);
    assert_eq!(why(with([flat, root], list)), NodeError::NotAShard);
    let mut data = UnixFs::new(Kind::HamtShard);
    (data.hash_type, data.fanout) = (Some(0x22), Some(16));
    data.data = Some(Bytes::from_static(&[1]));
    let narrow = node(Version::V1, vec![link("0", raw("x").cid)], &data);
    let root = shard([(3, *narrow.cid())]);
    assert_eq!(why(with([narrow, root], list)), NodeError::Hamt(HamtError::Fanout));
    // A chain as long as the hash has bits, and one longer.
    let mut chain = vec![shard([(0, raw("x").cid)])];
    for _ in 0..7 {
        let last = *chain[chain.len() - 1].cid();
        chain.push(shard([(0, last)]));
    }
    assert_eq!(why(with(chain, list)), NodeError::Hamt(HamtError::TooDeep));
}

#[test]
fn few_blocks_that_claim_endless_content_are_given_up() {
    let mut doubling = vec![directory(vec![link("a", raw("x").cid), link("b", raw("x").cid)])];
    for _ in 0..40 {
        let last = *doubling[doubling.len() - 1].cid();
        doubling.push(directory(vec![link("a", last), link("b", last)]));
    }
    assert_eq!(with(doubling, list), Err(TreeError::TooMany));
    let mut shards = vec![shard([(0, raw("x").cid)])];
    for _ in 0..6 {
        let last = *shards[shards.len() - 1].cid();
        shards.push(shard((0..=255).map(|slot| (slot, last))));
    }
    assert_eq!(with(shards.clone(), list), Err(TreeError::TooMany));
    // The search for entries that make the directory large meets the same end.
    let gone = with(shards, |t| {
        t.remove(&path("x")).or_else(|error| match error {
            TreeError::NotFound { .. } => t.flush().map(drop),
            other => Err(other),
        })
    });
    assert!(gone.is_err() || gone == Ok(()), "{gone:?}");
    let mut deep = vec![directory(vec![])];
    for _ in 0..70 {
        let last = *deep[deep.len() - 1].cid();
        deep.push(directory(vec![link("d", last)]));
    }
    assert_eq!(with(deep, list), Err(TreeError::TooDeep));
}

/// Two names with one murmur3 hash, found by solving the hash's second block for the first's state.
const TWINS: [&str; 2] = ["collides-with-a-name-like-this01", "hash-00029915572J7RBf'E@>R}0,ua9"];

#[test]
fn names_with_one_hash_are_refused_where_they_matter_and_nothing_is_lost() {
    let [one, other] = TWINS;
    for blocks in [false, true] {
        let shard = if blocks { ShardRule::BlockBytes(150) } else { ShardRule::LinkBytes(150) };
        let params = DirParams { version: Version::V1, shard };
        // Sharded already: at the insertion.
        let base: Vec<(&str, Entry)> = ["a", "b", "c", "d", one].map(|n| (n, raw(n))).to_vec();
        let mut tree = build(params, base.clone());
        let root = root_of(&mut tree);
        let collision = tree.insert(&path(other), raw("x"));
        assert!(matches!(collision, Err(TreeError::Collision { .. })), "{collision:?}");
        assert_eq!(tree.remove(&path(other)), Err(TreeError::NotFound { path: other.into() }));
        assert_eq!(root_of(&mut tree), root);
        // Flat so far: when it has to be sharded.
        let mut tree = build(params, [(one, raw(one)), (other, raw("x"))]);
        let rest = base.iter().filter(|(name, _)| *name != one);
        for (name, entry) in rest {
            tree.insert(&path(name), *entry).expect("an insertion");
        }
        assert!(matches!(tree.flush(), Err(TreeError::Collision { .. })));
        assert_eq!(tree.get(&path(other)), Ok(raw("x")));
        tree.remove(&path(other)).expect("a removal");
        assert_eq!(root_of(&mut tree), root);
    }
}

#[test]
fn what_is_no_unixfs_is_an_entry_of_its_own_kind() {
    let cbor = Cid::new_v1(0x71, *raw("x").cid.hash());
    let bare = Block::encode(Version::V1, DAG_PB, Bytes::from_static(&[0x0a, 1, 0xff]));
    let mut target = UnixFs::new(Kind::Symlink);
    target.data = Some(Bytes::from_static(b"elsewhere"));
    let symlink = node(Version::V0, vec![], &target);
    let links = [("bare", *bare.cid()), ("cbor", cbor), ("link", *symlink.cid())];
    let root = directory(links.map(|(name, cid)| link(name, cid)).to_vec());
    let kinds = |t: &mut Tree| list(t).map(|l| l.iter().map(|(_, e)| e.kind).collect::<Vec<_>>());
    let expected = vec![EntryKind::Other, EntryKind::Other, EntryKind::Symlink];
    let blocks = [bare, symlink, root];
    assert_eq!(with(blocks.clone(), kinds), Ok(expected));
    let below = with(blocks.clone(), |t| t.get(&path("cbor/x")));
    assert_eq!(below, Err(TreeError::NotADirectory { path: "cbor".into() }));
    assert!(with(blocks, |t| t.insert(&path("link"), raw("x"))).is_ok());
    let file = with([wrapped(Version::V1, "a file")], list);
    assert_eq!(file, Err(TreeError::NotADirectory { path: String::new() }));
}

#[test]
fn the_inline_empty_directory_needs_no_block() {
    let inline: Cid = "bafyaabakaieac".parse().expect("a CID");
    let mut tree = Tree::open(inline, V1_LINKS);
    assert_eq!(tree.list(&path("")), Ok(Vec::new()));
    assert_eq!(tree.flush(), Ok(Flushed { root: inline, blocks: Vec::new() }));
    tree.insert(&path("a"), raw("a")).expect("an insertion");
    assert_eq!(root_of(&mut tree), root_of(&mut build(V1_LINKS, [("a", raw("a"))])));
}

#[test]
fn mode_and_mtime_are_kept_through_edits_and_switches() {
    let stat = |data: &mut UnixFs| {
        data.mode = Some(0o755);
        data.mtime = Some(Mtime { seconds: 1_700_000_000, nanos: Some(5) });
    };
    let mut data = UnixFs::new(Kind::Directory);
    stat(&mut data);
    let mut store = Store::default();
    let root = store.add(node(Version::V0, vec![link("b", raw("b").cid)], &data));
    let params = DirParams { version: Version::V1, shard: ShardRule::BlockBytes(199) };
    let mut tree = Tree::open(root, params);
    let put = |store: &mut Store, tree: &mut Tree, name: &str| {
        store.run(tree, |t| t.insert(&path(name), raw(name))).expect("an insertion");
        let root = store.flush(tree).0;
        let node = PbNode::decode(store.blocks[&root].data()).expect("dag-pb");
        (UnixFs::decode(&node.data.expect("data")).expect("UnixFS"), root)
    };
    assert_eq!(put(&mut store, &mut tree, "a").0, data);
    let (flat, root) = put(&mut store, &mut tree, "c");
    assert_eq!(flat, data);
    // Four links of 45 bytes each, and 20 of data that would be 4 without mode and time.
    let mut sharded = put(&mut store, &mut tree, "e").0;
    assert_eq!(sharded.kind, Kind::HamtShard);
    (sharded.kind, sharded.data) = (Kind::Directory, None);
    (sharded.hash_type, sharded.fanout) = (None, None);
    assert_eq!(sharded, data);
    store.run(&mut tree, |t| t.remove(&path("e"))).expect("a removal");
    assert_eq!(store.flush(&mut tree).0, root);
}

/// A tree with a flat and a sharded directory, and its nodes.
fn honest() -> Vec<Block> {
    let params = DirParams { version: Version::V1, shard: ShardRule::LinkBytes(300) };
    let names: Vec<String> = (0..40).map(|n| format!("d/{n}")).collect();
    let mut tree = build(params, names.iter().map(|name| (name.as_str(), raw("x"))));
    tree.flush().expect("a flush").blocks
}

proptest! {
    #[test]
    fn no_node_makes_a_tree_panic(
        garbage in prop::collection::vec(any::<u8>(), 0..200),
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = honest()[which.index(honest().len())].data().to_vec();
        for (at, with) in flips {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        for data in [garbage, bytes] {
            let block = Block::encode(Version::V1, DAG_PB, data.into());
            let mut tree = Tree::open(*block.cid(), DirParams {
                version: Version::V1,
                shard: ShardRule::BlockBytes(300),
            });
            for call in [
                &mut |t: &mut Tree| t.list(&path("")).map(drop) as _,
                &mut |t: &mut Tree| t.insert(&path("d/e"), raw("x")),
                &mut |t: &mut Tree| t.remove(&path("d")),
                &mut |t: &mut Tree| t.flush().map(drop),
            ] as [&mut dyn FnMut(&mut Tree) -> Result<(), TreeError>; 4] {
                let _ = call(&mut tree);
                let _ = tree.supply(&block);
                let _ = call(&mut tree);
            }
            tree.unload();
        }
    }
}
