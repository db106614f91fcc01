//! Content that is made to hurt whoever fetches it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cid::{Cid, Version};
use futures::StreamExt as _;
use multihash::Multihash;
use tabpeer::{
    content::{
        block::{Block, DAG_PB, IDENTITY, RAW},
        dagpb::{PbLink, PbNode},
        unixfs::{Kind, UnixFs},
    },
    error::{Error, Result},
    exchange::fetch::SourceKind,
    peer::{Content, GetOptions, OpenOptions, Peer},
    platform::{memory::MemoryDatabases, time},
};

use crate::{
    script::{Script, file, peer_with},
    support::noise,
};

/// Long for a debug build; what is refused is refused at once.
const SOON: Duration = Duration::from_secs(20);

fn raw(bytes: &[u8]) -> Block {
    Block::encode(Version::V1, RAW, Bytes::copy_from_slice(bytes))
}

fn node(message: &UnixFs, links: Vec<PbLink>) -> Block {
    let node = PbNode { links, data: Some(message.encode()) };
    Block::encode(Version::V1, DAG_PB, node.encode())
}

/// A node of a file with these children, each of which is said to hold so many bytes.
fn parent(children: &[(Cid, u64)]) -> Block {
    let mut message = UnixFs::new(Kind::File);
    message.block_sizes = children.iter().map(|(_, len)| *len).collect();
    message.file_size = message.block_sizes.iter().try_fold(0u64, |a, b| a.checked_add(*b));
    let link = |(cid, _): &(Cid, u64)| PbLink { cid: *cid, name: String::new(), tsize: 1 };
    node(&message, children.iter().map(link).collect())
}

fn directory(names: &[&str], cid: Cid) -> Block {
    let link = |name: &&str| PbLink { cid, name: (*name).to_owned(), tsize: 1 };
    node(&UnixFs::new(Kind::Directory), names.iter().map(link).collect())
}

/// `width` times the same child, `levels` times over; with its size.
fn bomb(leaf: &Block, width: usize, levels: usize) -> (Vec<Block>, Cid, u64) {
    let mut blocks = vec![leaf.clone()];
    let (mut top, mut len) = (*leaf.cid(), leaf.data().len() as u64);
    for _ in 0..levels {
        let block = parent(&vec![(top, len); width]);
        (top, len) = (*block.cid(), len.saturating_mul(width as u64));
        blocks.push(block);
    }
    (blocks, top, len)
}

struct Scene {
    peer: Peer,
    databases: Arc<MemoryDatabases>,
    source: Script,
}

impl Scene {
    async fn new(blocks: &[Block]) -> Self {
        let databases = Arc::new(MemoryDatabases::default());
        let source = Script::new(SourceKind::Peers, "script", blocks);
        let peer = peer_with(&databases, &[&source]).await;
        Self { peer, databases, source }
    }

    async fn get(&self, cid: Cid) -> Result<Content> {
        let get = self.peer.get_file(cid, None, GetOptions::default());
        time::timeout(SOON, get).await.unwrap_or_else(|_| panic!("{cid} is got for ever"))
    }

    async fn refuses(&self, cid: Cid, code: &str, what: &str) {
        let error = self.get(cid).await.expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        println!("{what}: {error}");
    }

    /// A good file still comes, and what is written is sound, also when it is opened again.
    async fn end(self) {
        let bytes = noise(300_000, 77);
        let (blocks, cid) = file(&bytes, 50_000);
        self.source.set(|state| state.blocks.extend(blocks.into_iter().map(|b| (*b.cid(), b))));
        assert!(
            matches!(self.get(cid).await.expect("good"), Content::File(f) if f.size == 300_000)
        );
        assert!(self.peer.store().check().await.expect("counted").is_clean());
        self.peer.close().await;
        let again = peer_with(&self.databases, &[]).await;
        assert!(again.store().check().await.expect("counted").is_clean());
        again.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_blocks_that_stand_for_more_than_there_is_are_refused() {
    let leaf = raw(&[7; 1000]);
    let (small, one_level, _) = bomb(&leaf, 20_000, 1);
    let (huge, four_levels, len) = bomb(&leaf, 8000, 4);
    let (empty, nothing, none) = bomb(&raw(&[]), 8000, 3);
    assert!(len > 1 << 60 && none == 0);
    let scene = Scene::new(&[small, huge, empty].concat()).await;
    // 20 MB of zeros is an ordinary file.
    let content = scene.get(one_level).await.expect("an ordinary file");
    assert!(matches!(content, Content::File(file) if file.size == 20_000_000));
    scene.refuses(four_levels, "TOO_LARGE", "exabytes").await;
    // Nothing, 8000 times over, is an empty file of four blocks.
    let content = scene.get(nothing).await.expect("an empty file");
    assert!(matches!(content, Content::File(file) if file.size == 0));
    // As a stream it goes on as long as somebody reads, and no longer.
    let opened = scene.peer.open_file(four_levels, OpenOptions::default()).await.expect("opened");
    assert_eq!(opened.info.size, len);
    let mut stream = opened.stream(None);
    let mut read = 0;
    while read < 5_000_000 {
        read += stream.next().await.expect("more").expect("bytes").len();
    }
    drop(stream);
    let opened = scene.peer.open_file(four_levels, OpenOptions::default()).await.expect("opened");
    let mut end = opened.stream(Some(len - 500..u64::MAX));
    assert_eq!(end.next().await.expect("more").expect("bytes").len(), 500);
    assert!(end.next().await.is_none());
    drop(end);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_too_deep_or_lie_about_their_sizes_are_refused() {
    let leaf = raw(b"deep");
    let (deep, bottomless, _) = bomb(&leaf, 1, 100);
    let too_long = parent(&[(*leaf.cid(), 5)]);
    let too_short = parent(&[(*leaf.cid(), 4), (*leaf.cid(), 3)]);
    let overflow = parent(&[(*leaf.cid(), u64::MAX), (*leaf.cid(), u64::MAX)]);
    let link = |cid| parent(&[(cid, 4)]);
    let cbor = Cid::new_v1(0x71, *leaf.cid().hash());
    let blake = Cid::new_v1(RAW, Multihash::wrap(0xb220, &[1; 32]).expect("fits"));
    let into_cbor = link(cbor);
    let into_blake = link(blake);
    let none = Block::encode(Version::V1, DAG_PB, Bytes::from_static(b"\xff\xff\xff"));
    let html = Block::encode(Version::V1, DAG_PB, Bytes::from_static(b"<html>"));
    let mut blocks = deep;
    let bad = [&too_long, &too_short, &overflow, &into_cbor, &into_blake, &none, &html];
    blocks.extend(bad.into_iter().cloned());
    let scene = Scene::new(&blocks).await;
    scene.refuses(bottomless, "BAD_CONTENT", "100 levels").await;
    for (at, block) in bad.into_iter().enumerate() {
        scene.refuses(*block.cid(), "BAD_CONTENT", &format!("case {at}")).await;
    }
    // What could never be verified is not asked of anybody.
    let asked = scene.source.asked().len();
    scene.refuses(cbor, "BAD_CONTENT", "dag-cbor").await;
    scene.refuses(blake, "BAD_CONTENT", "blake2b").await;
    assert_eq!(scene.source.asked().len(), asked);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inline_blocks_in_inline_blocks_are_read() {
    let inline =
        |codec, bytes: &[u8]| Cid::new_v1(codec, Multihash::wrap(IDENTITY, bytes).expect("short"));
    let leaf = inline(RAW, b"inline");
    let mut inner = UnixFs::new(Kind::File);
    (inner.block_sizes, inner.file_size) = (vec![6], Some(6));
    let link = |cid| PbLink { cid, name: String::new(), tsize: 1 };
    let nested = PbNode { links: vec![link(leaf)], data: Some(inner.encode()) }.encode();
    let nested = inline(DAG_PB, nested.get(..).expect("bytes"));
    let root = parent(&[(nested, 6), (leaf, 6)]);
    let scene = Scene::new(std::slice::from_ref(&root)).await;
    let content = scene.get(*root.cid()).await.expect("read");
    assert!(matches!(content, Content::File(file) if file.size == 12));
    assert!(matches!(scene.get(nested).await.expect("read"), Content::File(f) if f.size == 6));
    let garbage = inline(DAG_PB, &[0xff; 60]);
    scene.refuses(garbage, "BAD_CONTENT", "inline garbage").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_with_bad_names_are_refused_and_large_ones_are_read() {
    let leaf = raw(b"x");
    let names = ["..", ".", "a/b", "", "nul\0"];
    let bad: Vec<Block> = names.iter().map(|name| directory(&[name], *leaf.cid())).collect();
    let twice = directory(&["a", "a"], *leaf.cid());
    let many: Vec<String> = (0..30_000).map(|n| format!("{n:06}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let large = directory(&many, *leaf.cid());
    // A shard whose one child is itself such a shard, and so on.
    let mut chain = vec![leaf.clone()];
    for _ in 0..40 {
        let mut shard = UnixFs::new(Kind::HamtShard);
        (shard.hash_type, shard.fanout) = (Some(0x22), Some(256));
        shard.data = Some(Bytes::from_static(&[1]));
        let below = *chain.last().expect("one").cid();
        let link = PbLink { cid: below, name: "00".to_owned(), tsize: 1 };
        chain.push(node(&shard, vec![link]));
    }
    let deep = *chain.last().expect("one").cid();
    let mut blocks = [bad.clone(), chain].concat();
    blocks.extend([leaf.clone(), twice.clone(), large.clone()]);
    let scene = Scene::new(&blocks).await;
    for (block, name) in bad.iter().zip(names) {
        match scene.get(*block.cid()).await {
            Err(error) => assert_eq!(error.code(), "BAD_CONTENT", "{name:?}: {error}"),
            Ok(content) => panic!("{name:?} became {content:?}"),
        }
    }
    scene.refuses(*twice.cid(), "BAD_CONTENT", "a name twice").await;
    scene.refuses(deep, "BAD_CONTENT", "a chain of shards").await;
    let content = scene.get(*large.cid()).await.expect("large");
    assert!(matches!(content, Content::Directory(entries) if entries.len() == 30_000));
    let long = "a/".repeat(3000);
    for (path, codes) in [
        ("../up", &["INVALID_PATH"][..]),
        ("a/../../b", &["INVALID_PATH"]),
        (long.as_str(), &["INVALID_PATH"]),
        ("000001\0", &["INVALID_PATH"]),
        ("%2e%2e/x", &["NOT_FOUND"]),
        ("000001/x", &["NOT_A_DIRECTORY"]),
    ] {
        let resolve = scene.peer.resolve_path(*large.cid(), path, OpenOptions::default());
        let error: Error = time::timeout(SOON, resolve).await.expect("soon").expect_err(path);
        assert!(codes.contains(&error.code()), "{path}: {error}");
    }
    scene.end().await;
}
