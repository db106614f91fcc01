//! Reading while it comes: in order, no more than is read, only what a range needs.

use std::{collections::BTreeSet, sync::Arc};

use futures::{FutureExt as _, StreamExt as _};
use tabpeer::{
    content::{block::Cid, import::import_bytes, profile::Profile},
    exchange::fetch::SourceKind,
    peer::{GetOptions, OpenOptions},
    platform::memory::MemoryDatabases,
};

use super::script::{Script, collect, file, peer_with};
use super::support::{noise, store};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_while_it_comes_and_is_whole_when_it_has_gone_by() {
    let bytes = noise(60 * MIB, 1);
    let (blocks, root) = file(&bytes, MIB);
    let source = Script::new(SourceKind::Network, "all", &blocks);
    // The root, a node, and the first leaf.
    source.set(|state| state.allowance = Some(3));
    let peer = peer_with(&Arc::default(), &[&source]).await;
    let opened = peer.open_file(root, OpenOptions::default()).await.expect("the rest may be late");
    assert_eq!(
        (opened.info.size, &*opened.info.mime_type),
        (bytes.len() as u64, "application/octet-stream")
    );
    let mut stream = opened.stream(None);
    let first = stream.next().await.expect("a piece").expect("good");
    assert_eq!(first, bytes.slice(..MIB));
    assert!(stream.next().now_or_never().is_none(), "the next leaf is not here");

    // As much as it may; it does not run ahead of a reader who does not read.
    source.set(|state| state.allowance = None);
    let second = stream.next().await.expect("a piece").expect("good");
    assert_eq!(second, bytes.slice(MIB..2 * MIB));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let asked = source.asked().len();
    assert!(asked <= 2 + 2 + 16 + 8, "{asked} blocks asked for when two were read");
    assert!(!peer.has_file(root).await.expect("asked"));

    let rest = collect(stream).await.expect("read");
    assert_eq!(rest, bytes.slice(2 * MIB..));
    assert!(peer.has_file(root).await.expect("asked"));
    assert_eq!(source.asked().len(), blocks.len(), "each block once");
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_fetches_what_it_needs_and_what_it_fetched_counts_later() {
    let bytes = noise(50 * MIB, 2);
    let (blocks, root) = file(&bytes, MIB);
    let source = Script::new(SourceKind::Network, "all", &blocks);
    let peer = peer_with(&Arc::default(), &[&source]).await;
    let read = async |range: std::ops::Range<u64>| {
        let file = peer.open_file(root, OpenOptions::default()).await.expect("opened");
        collect(file.stream(Some(range))).await.expect("read")
    };
    let (start, end) = (30 * MIB as u64 + 5, 33 * MIB as u64 + 7);
    assert_eq!(read(start..end).await, bytes.slice(start as usize..end as usize));
    // The root, three nodes, the first leaf for the MIME type, four leaves of the range.
    assert!(source.asked().len() <= 9, "{} blocks asked for", source.asked().len());
    assert_eq!(read(start..end).await, bytes.slice(start as usize..end as usize));
    assert!(source.asked().len() <= 9, "the second time nothing");
    for (range, expected) in [
        (0..0, 0..0),
        (bytes.len() as u64..u64::MAX, 0..0),
        (bytes.len() as u64 - 3..u64::MAX, bytes.len() - 3..bytes.len()),
    ] {
        assert_eq!(read(range).await, bytes.slice(expected));
    }
    peer.get_file(root, None, GetOptions::default()).await.expect("the rest");
    let asked = source.asked();
    assert_eq!(asked.len(), blocks.len(), "each block once");
    assert_eq!(asked.iter().collect::<BTreeSet<&Cid>>().len(), asked.len());
    assert!(peer.store().roots("part/").await.expect("listed").is_empty());
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_a_stream_goes_on_and_a_call_that_keeps_fails() {
    let bytes = noise(30 * MIB, 3);
    let (blocks, root) = file(&bytes, MIB);
    let source = Script::new(SourceKind::Network, "all", &blocks);
    let databases = Arc::new(MemoryDatabases::default());
    let peer = peer_with(&databases, &[&source]).await;
    let used = peer.usage().await.expect("usage").used;
    let database = databases.get(&format!("tabpeer-{}", peer.peer_id()));
    database.set_quota(Some(used + 6 * MIB as u64));
    let error = peer.get_file(root, None, GetOptions::default()).await.expect_err("no room");
    assert_eq!(error.code(), "QUOTA_EXCEEDED");
    let file = peer.open_file(root, OpenOptions::default()).await.expect("opened");
    assert_eq!(collect(file.stream(None)).await.expect("read all the same"), bytes);
    assert!(!peer.has_file(root).await.expect("asked"));
    database.set_quota(None);
    peer.get_file(root, None, GetOptions::default()).await.expect("room");
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

#[tokio::test]
async fn files_of_all_makes_are_read_through_the_chain() {
    for profile in Profile::ALL {
        for size in [0, 1, 300_000, 3_000_001] {
            let bytes = noise(size, 7);
            let (blocks, root) = import_bytes(profile, &bytes);
            let source = Script::new(SourceKind::Gateway, "all", &blocks);
            let peer = peer_with(&Arc::default(), &[&source]).await;
            let file = peer.open_file(root.cid, OpenOptions::default()).await.expect("opened");
            assert_eq!(file.info.size, size as u64);
            assert_eq!(collect(file.stream(None)).await.expect("read"), bytes);
            assert!(peer.has_file(root.cid).await.expect("asked"), "{profile} {size}");
            let error = peer.open_file(peer.root(), OpenOptions::default()).await.err();
            assert_eq!(error.map(|error| error.code()), Some("IS_A_DIRECTORY"));
            assert!(peer.store().check().await.expect("counted").is_clean());
            peer.close().await;
        }
    }
}

#[tokio::test]
async fn reading_what_is_here_writes_nothing() {
    let peer = peer_with(&Arc::default(), &[]).await;
    let bytes = noise(3 * MIB, 8);
    let cid = store(&peer, "f", &bytes).await.file;
    let root = peer.root();
    for range in [None, Some(5..MIB as u64)] {
        let end = range.clone().map_or(bytes.len(), |range| range.end as usize);
        let start = range.clone().map_or(0, |range| range.start as usize);
        let file = peer.open_file(cid, OpenOptions::default()).await.expect("opened");
        assert_eq!(collect(file.stream(range)).await.expect("read"), bytes.slice(start..end));
    }
    peer.get_file(cid, None, GetOptions::default()).await.expect("here");
    let roots = peer.store().roots("").await.expect("listed");
    assert_eq!(roots, [("tree".to_owned(), root)]);
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_cover_all_make_the_file_whole() {
    let bytes = noise(5 * MIB, 9);
    let (blocks, root) = file(&bytes, MIB);
    let source = Script::new(SourceKind::Network, "all", &blocks);
    let peer = peer_with(&Arc::default(), &[&source]).await;
    for start in 0..5u64 {
        let range = start * MIB as u64..(start + 1) * MIB as u64;
        let file = peer.open_file(root, OpenOptions::default()).await.expect("opened");
        collect(file.stream(Some(range))).await.expect("read");
    }
    assert!(peer.has_file(root).await.expect("asked"));
    peer.get_file(root, None, GetOptions::default()).await.expect("here");
    assert_eq!(source.asked().len(), blocks.len(), "each block once");
    let roots = peer.store().roots("").await.expect("listed");
    let names: Vec<String> = roots.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [format!("cache/{root}"), "tree".to_owned()]);
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}
