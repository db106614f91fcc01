//! What has come is not fetched again: after a failure, an abort, a restart; directories too; and what
//! is damaged is fetched at once.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::poll;
use multihash::Multihash;
use tabpeer::{
    content::{
        block::{Block, Cid, DAG_PB, IDENTITY, RAW},
        dagpb::{PbLink, PbNode},
        directory::{DirParams, Entry, EntryKind, Tree},
        path::TreePath,
        profile::Profile,
        unixfs::{Kind, UnixFs},
    },
    exchange::{config::ExchangeConfig, fetch::SourceKind},
    peer::{Content, GetOptions, OpenOptions, Peer},
    platform::{
        database::{Database as _, Op, Table},
        memory::MemoryDatabases,
    },
};

use super::script::{Script, collect, file, peer_on, peer_with, until};
use super::slow::SlowDatabases;
use super::support::noise;

const MIB: usize = 1 << 20;

async fn roots(peer: &Peer, prefix: &str) -> usize {
    peer.store().roots(prefix).await.expect("listed").len()
}

/// How many blocks the parts name.
async fn kept(peer: &Peer) -> usize {
    let mut kept = 0;
    for (_, part) in peer.store().roots("part/").await.expect("listed") {
        let node = peer.store().get(&part).await.expect("read");
        kept += node.map_or(0, |node| node.links().expect("a node").len());
    }
    kept
}

/// Gets a file that a source breaks off after `first` blocks, of which the last few may not have been put
/// away; reopens, where there are as many `parts` or more; gets the rest.
async fn break_off_and_resume(bytes: Bytes, leaf: usize, first: usize, parts: usize, abort: bool) {
    const LOST: usize = 6;
    let (blocks, root) = file(&bytes, leaf);
    let databases = Arc::new(MemoryDatabases::default());
    let source = Script::new(SourceKind::Network, "first", &blocks);
    source.set(|state| (state.allowance, state.dies) = (Some(first), !abort));
    let peer = peer_with(&databases, &[&source]).await;
    let work = peer.get_file(root, None, GetOptions::default());
    if abort {
        let arrived = until(async || source.get(|state| state.allowance == Some(0)));
        tokio::select! {
            _ = work => panic!("it cannot end"),
            () = arrived => {}
        }
        until(async || source.get(|state| state.closed == 1)).await;
        // The last part is written behind the caller's back.
        until(async || kept(&peer).await + LOST >= first).await;
    } else {
        assert_eq!(work.await.expect_err("died").code(), "NOT_FOUND");
    }
    assert!(!peer.has_file(root).await.expect("asked"));
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;

    let second = Script::new(SourceKind::Network, "second", &blocks);
    let peer = peer_with(&databases, &[&second]).await;
    assert!(peer.store().check().await.expect("counted").is_clean());
    let found = roots(&peer, "part/").await;
    assert!(found >= parts, "{found} parts");
    let Ok(Content::File(info)) = peer.get_file(root, None, GetOptions::default()).await else {
        panic!("a file");
    };
    assert_eq!(info.size, bytes.len() as u64);
    let asked = second.asked();
    let rest = blocks.len() - first + LOST;
    assert!(asked.len() <= rest, "{} of {} fetched again", asked.len(), blocks.len());
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len());
    assert_eq!((roots(&peer, "part/").await, roots(&peer, "cache/").await), (0, 1));
    assert!(peer.has_file(root).await.expect("asked"));
    assert!(peer.store().check().await.expect("counted").is_clean());
    assert_eq!(collect(peer.read(root)).await.expect("kept"), bytes);
    peer.close().await;

    // All of it is still there, and nothing else.
    let peer = peer_with(&databases, &[]).await;
    let check = peer.store().check().await.expect("counted");
    assert!(check.is_clean());
    assert_eq!(check.blocks as usize, blocks.len() + 1, "the file and the empty tree");
    assert_eq!(collect(peer.read(root)).await.expect("kept"), bytes);
    peer.close().await;
}

/// Few large blocks, or so many that they make two parts.
async fn break_off_and_resume_all(abort: bool) {
    break_off_and_resume(noise(60 * MIB, 1), MIB, 50, 1, abort).await;
    break_off_and_resume(noise(6000 * 256, 1), 256, 5000, 2, abort).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_failure_is_not_fetched_again_after_a_restart() {
    break_off_and_resume_all(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_an_abort_is_not_fetched_again_after_a_restart() {
    break_off_and_resume_all(true).await;
}

/// At whatever moment after the last block has come.
#[tokio::test]
async fn an_abort_while_the_file_becomes_whole_loses_nothing() {
    // Most of it is written by then, and its nodes have to be read.
    let bytes = noise(10 * MIB, 1);
    let (blocks, root) = file(&bytes, MIB);
    let (mut polls, mut aborted) = (1, 0);
    loop {
        let databases = Arc::new(MemoryDatabases::default());
        let source = Script::new(SourceKind::Network, "first", &blocks);
        let slow = Arc::new(SlowDatabases(databases.clone()));
        let peer = peer_on(slow, &[&source], ExchangeConfig::default()).await;
        let come = Arc::new(AtomicU64::new(0));
        let counted = come.clone();
        let progress = move |done, _| counted.store(done, Ordering::Relaxed);
        let options = GetOptions { progress: Some(Arc::new(progress)), ..GetOptions::default() };
        let mut ended = false;
        {
            let mut work = pin!(peer.get_file(root, None, options));
            for _ in 0..polls {
                ended = ended || poll!(&mut work).is_ready();
                if ended {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        if come.load(Ordering::Relaxed) < bytes.len() as u64 {
            polls += 5;
        } else {
            aborted += usize::from(!ended);
            until(async || roots(&peer, "part/").await + roots(&peer, "cache/").await > 0).await;
            peer.close().await;
            let second = Script::new(SourceKind::Network, "second", &blocks);
            let peer = peer_with(&databases, &[&second]).await;
            peer.get_file(root, None, GetOptions::default()).await.expect("kept");
            assert_eq!(second.asked(), [], "aborted after {polls} turns");
            assert!(peer.store().check().await.expect("counted").is_clean());
            peer.close().await;
            polls += 1;
        }
        if ended {
            break;
        }
    }
    assert!(aborted > 5, "{aborted} aborts came after the last block");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_source_fell_silent_is_kept_though_nobody_says_so() {
    let (blocks, root) = file(&noise(10 * MIB, 1), MIB);
    let source = Script::new(SourceKind::Network, "slow", &blocks);
    source.set(|state| state.allowance = Some(6));
    let databases = Arc::new(MemoryDatabases::default());
    let peer = peer_with(&databases, &[&source]).await;
    let work = peer.get_file(root, None, GetOptions::default());
    tokio::select! {
        _ = work => panic!("it cannot end"),
        () = until(async || roots(&peer, "part/").await == 1) => {}
    }
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

/// A tree with a sharded directory, a flat one and a file in each.
fn tree() -> (Vec<Block>, Cid, Vec<(String, Block)>) {
    let mut tree = Tree::empty(DirParams::from(Profile::default()));
    let mut files = Vec::new();
    for i in 0..1500 {
        files.push((format!("many/{i:0200}"), i));
    }
    files.push(("few/one.txt".to_owned(), 5000));
    let mut leaves = Vec::new();
    for (path, n) in files {
        let bytes = Bytes::from(format!("file {n}"));
        let leaf = Block::encode(cid::Version::V1, 0x55, bytes);
        let entry = Entry { cid: *leaf.cid(), tsize: 8, kind: EntryKind::File };
        tree.insert(&TreePath::parse(&path).expect("a path"), entry).expect("inserted");
        leaves.push((path, leaf));
    }
    let flushed = tree.flush().expect("flushed");
    (flushed.blocks, flushed.root, leaves)
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_kept_and_paths_lead_through_them() {
    let (nodes, root, leaves) = tree();
    let mut blocks = nodes.clone();
    blocks.extend(leaves.iter().map(|(_, leaf)| leaf.clone()));
    let source = Script::new(SourceKind::Network, "all", &blocks);
    let databases = Arc::new(MemoryDatabases::default());
    let peer = peer_with(&databases, &[&source]).await;
    let many = peer.resolve_path(root, "many", OpenOptions::default()).await.expect("there");
    assert_eq!(many.kind, EntryKind::Directory);
    let asked = source.asked().len();
    assert!(asked <= 2, "{asked} asked for to find a directory in the root");
    let Ok(Content::Directory(entries)) =
        peer.get_file(many.cid, None, GetOptions::default()).await
    else {
        panic!("a directory");
    };
    assert_eq!(entries.len(), 1500);
    let (path, leaf) = &leaves[700];
    let entry = peer.resolve_path(root, path, OpenOptions::default()).await.expect("there");
    assert_eq!((entry.cid, entry.kind), (*leaf.cid(), EntryKind::File));
    for (path, code) in [
        ("few/none", "NOT_FOUND"),
        ("few/one.txt/below", "NOT_A_DIRECTORY"),
        ("a//b", "INVALID_PATH"),
    ] {
        let error = peer.resolve_path(root, path, OpenOptions::default()).await;
        assert_eq!(error.expect_err(path).code(), code, "{path}");
    }
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;

    // Offline now.
    let peer = peer_with(&databases, &[]).await;
    let Ok(Content::Directory(kept)) = peer.get_file(many.cid, None, GetOptions::default()).await
    else {
        panic!("a directory");
    };
    assert_eq!(kept, entries);
    let entry = peer.resolve_path(root, path, OpenOptions::default()).await.expect("kept");
    assert_eq!(entry.cid, *leaf.cid());
    let error =
        peer.get_file(entry.cid, None, GetOptions::default()).await.expect_err("the file is not");
    assert_eq!(error.code(), "NOT_FOUND");
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

#[tokio::test]
async fn a_damaged_block_is_fetched_again_within_the_call() {
    let bytes = noise(3 * MIB, 3);
    let (blocks, root) = file(&bytes, MIB);
    let source = Script::new(SourceKind::Network, "all", &blocks);
    let databases = Arc::new(MemoryDatabases::default());
    let peer = peer_with(&databases, &[&source]).await;
    peer.get_file(root, None, GetOptions::default()).await.expect("fetched");
    let database = databases.get(&format!("tabpeer-{}", peer.peer_id()));
    for victim in [&root, blocks[1].cid()] {
        source.set(|state| state.asked.clear());
        let key = Bytes::from(victim.to_bytes());
        let bad = Op::Put { table: Table::Blocks, key, value: Bytes::from_static(b"bad") };
        database.write(vec![bad]).await.expect("damaged");
        let file = peer.open_file(root, OpenOptions::default()).await.expect("opened");
        assert_eq!(collect(file.stream(None)).await.expect("healed"), bytes);
        assert_eq!(source.asked(), [*victim]);
        source.set(|state| state.asked.clear());
        assert_eq!(collect(peer.read(root)).await.expect("healed for good"), bytes);
        assert!(peer.store().check().await.expect("counted").is_clean());
    }
    peer.close().await;
}

/// A whole that is fetched once, whatever its parts are named by and however slow the database is.
async fn is_fetched_once(databases: &Arc<MemoryDatabases>, blocks: &[Block], root: Cid) {
    let source = Script::new(SourceKind::Network, "all", blocks);
    let peer = peer_with(databases, &[&source]).await;
    peer.get_file(root, None, GetOptions::default()).await.expect("fetched");
    let asked = source.asked();
    let distinct: BTreeSet<&Cid> = asked.iter().collect();
    assert_eq!(asked.len(), distinct.len(), "asked for again: {asked:?}");
    assert_eq!(distinct.len(), blocks.iter().map(Block::cid).collect::<BTreeSet<_>>().len());
    assert!(peer.has_file(root).await.expect("asked"));
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_occurs_many_times_is_fetched_once() {
    let (blocks, root) = file(&vec![0; 64 * MIB].into(), MIB);
    is_fetched_once(&Arc::default(), &blocks, root).await;
    // Between others, and in every window.
    let other = noise(20 * MIB, 5);
    let mut bytes = Vec::with_capacity(40 * MIB);
    for piece in other.chunks(MIB) {
        bytes.extend_from_slice(piece);
        bytes.resize(bytes.len() + MIB, 0);
    }
    let (blocks, root) = file(&bytes.into(), MIB);
    is_fetched_once(&Arc::default(), &blocks, root).await;
}

/// A file, some of whose links lead to nothing: an empty leaf of either kind, and a node above
/// nothing but such leaves.
fn with_empty_parts() -> (Vec<Block>, Cid, Bytes) {
    let bytes = noise(3000, 6);
    let mut blocks = Vec::new();
    let mut raw = |bytes: Bytes| {
        let block = Block::encode(cid::Version::V1, 0x55, bytes);
        blocks.push(block.clone());
        (*block.cid(), block.data().len() as u64)
    };
    let (first, second) = (raw(bytes.slice(..1000)), raw(bytes.slice(1000..)));
    let nothing = raw(Bytes::new());
    let mut node = |children: &[(Cid, u64)]| {
        let mut file = UnixFs::new(Kind::File);
        file.block_sizes = children.iter().map(|(_, len)| *len).collect();
        let len = file.block_sizes.iter().sum();
        file.file_size = Some(len);
        let link = |(cid, len): &(Cid, u64)| PbLink { cid: *cid, name: "".into(), tsize: *len };
        let links = children.iter().map(link).collect();
        let node = PbNode { links, data: Some(file.encode()) };
        let block = Block::encode(cid::Version::V1, 0x70, node.encode());
        blocks.push(block.clone());
        (*block.cid(), len)
    };
    let empty = node(&[]);
    let above = node(&[nothing, empty]);
    let inline = ("bafkqaaa".parse().expect("a CID"), 0);
    let (root, _) = node(&[empty, first, above, inline, second, nothing]);
    (blocks, root, bytes)
}

/// A root within its CID, of one block elsewhere.
fn inline_root(leaf: &Block) -> Cid {
    let len = leaf.data().len() as u64;
    let mut file = UnixFs::new(Kind::File);
    (file.block_sizes, file.file_size) = (vec![len], None);
    let link = PbLink { cid: *leaf.cid(), name: String::new(), tsize: 0 };
    let node = PbNode { links: vec![link], data: Some(file.encode()) }.encode();
    Cid::new_v1(DAG_PB, Multihash::wrap(IDENTITY, &node).expect("short"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_below_a_root_within_its_cid_is_missed() {
    let leaf = Block::encode(cid::Version::V1, RAW, noise(3000, 9));
    let node = Block::encode(cid::Version::V1, DAG_PB, Bytes::new());
    let peer = peer_with(&Arc::default(), &[]).await;
    for root in [inline_root(&leaf), inline_root(&node)] {
        let has = tokio::time::timeout(Duration::from_secs(20), peer.has_file(root));
        assert!(!has.await.expect("an answer").expect("asked"));
    }
    let get = peer.get_file(inline_root(&leaf), None, GetOptions::default());
    assert_eq!(get.await.expect_err("nobody has it").code(), "NOT_FOUND");
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_empty_parts_is_read_and_kept_whole() {
    let (blocks, root, bytes) = with_empty_parts();
    let databases = Arc::new(MemoryDatabases::default());
    is_fetched_once(&databases, &blocks, root).await;
    // All of it is here now.
    let peer = peer_with(&databases, &[]).await;
    let Ok(Content::File(info)) = peer.get_file(root, None, GetOptions::default()).await else {
        panic!("a file");
    };
    assert_eq!(info.size, bytes.len() as u64);
    assert_eq!(collect(peer.read(root)).await.expect("kept"), bytes);
    peer.close().await;
    // Read while it comes.
    let source = Script::new(SourceKind::Network, "all", &blocks);
    let peer = peer_with(&Arc::default(), &[&source]).await;
    let file = peer.open_file(root, OpenOptions::default()).await.expect("opened");
    assert_eq!(collect(file.stream(None)).await.expect("read"), bytes);
    assert!(peer.has_file(root).await.expect("asked"));
    peer.close().await;
    // Without its empty parts it is not whole.
    let some: Vec<Block> = blocks.iter().filter(|b| b.cid() != blocks[3].cid()).cloned().collect();
    let source = Script::new(SourceKind::Network, "some", &some);
    let databases = Arc::new(MemoryDatabases::default());
    let peer = peer_with(&databases, &[&source]).await;
    let error = peer.get_file(root, None, GetOptions::default()).await.expect_err("not whole");
    assert_eq!(error.code(), "NOT_FOUND");
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
    // What had come is not fetched again.
    let source = Script::new(SourceKind::Network, "all", &blocks);
    let peer = peer_with(&databases, &[&source]).await;
    peer.get_file(root, None, GetOptions::default()).await.expect("the rest");
    let asked = source.asked();
    assert!(asked.contains(blocks[3].cid()));
    for had in [&blocks[0], &blocks[1], &blocks[5]] {
        assert!(!asked.contains(had.cid()), "{asked:?}");
    }
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_fetch_the_same_at_once_share_what_comes() {
    let bytes = noise(20 * MIB, 4);
    let (blocks, root) = file(&bytes, MIB);
    let source = Script::new(SourceKind::Network, "all", &blocks);
    let peer = peer_with(&Arc::default(), &[&source]).await;
    let whole = peer.get_file(root, None, GetOptions::default());
    let read = |range| {
        let peer = peer.clone();
        async move {
            let file = peer.open_file(root, OpenOptions::default()).await?;
            collect(file.stream(range)).await
        }
    };
    let part = 5_000_000..19_000_000u64;
    let (whole, all, some) = tokio::join!(whole, read(None), read(Some(part.clone())));
    whole.expect("fetched");
    assert_eq!(all.expect("read"), bytes);
    assert_eq!(some.expect("read"), bytes.slice(part.start as usize..part.end as usize));
    assert_eq!((roots(&peer, "part/").await, roots(&peer, "cache/").await), (0, 1));
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}
