//! Between real peers: Bitswap moves the bytes, whoever has them, wherever they are found.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use tabpeer::{
    content::{
        block::{Block, Cid, DAG_PB},
        dagpb::{PbLink, PbNode},
        unixfs::{Kind, UnixFs},
    },
    error::Result,
    peer::{Content, GetOptions, OpenOptions, Peer},
    store::RootChange,
};

use super::script::{collect, file};
use super::support::{by_websocket, get, noise, peer, relay, store};

/// Puts single blocks into a peer's store.
async fn put(peer: &Peer, blocks: &[Block]) {
    for block in blocks {
        let mut session = peer.store().session();
        // As raw bytes, so that what a node links to need not be here.
        let raw = Block::encode(cid::Version::V1, 0x55, block.data().clone());
        let cid = *raw.cid();
        session.put(raw).await.expect("put");
        let change = RootChange { name: format!("test/{cid}"), expected: None, new: Some(cid) };
        peer.store().commit(vec![session], vec![change]).await.expect("committed");
    }
}

async fn received(peer: &Peer, from: PeerId) -> u64 {
    peer.exchange_stats().await.get(&from).map_or(0, |traffic| traffic.received)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_come_by_bitswap_and_once() {
    let (relay, _data) = relay().await;
    let a = peer(by_websocket(&relay)).await;
    let b = peer(by_websocket(&relay)).await;
    let bytes = noise(6_000_000, 1);
    let cid = store(&a, "f", &bytes).await.file;
    assert_eq!(get(&b, cid, Some(a.peer_id())).await.expect("fetched"), bytes);
    let came = received(&b, a.peer_id()).await;
    assert!((6_000_000..6_300_000).contains(&came), "{came} bytes");
    for peer in [a, b] {
        peer.close().await;
    }
    relay.stop().await;
}

/// A file as nobody's importer makes it: two leaves of different sizes, one of them twice.
fn odd() -> (Vec<Block>, Cid, Bytes) {
    let leaves: Vec<Block> = [noise(70_000, 1), noise(300, 2)]
        .into_iter()
        .map(|bytes| {
            let mut leaf = UnixFs::new(Kind::File);
            leaf.data = Some(bytes.clone());
            leaf.file_size = Some(bytes.len() as u64);
            let node = PbNode { links: Vec::new(), data: Some(leaf.encode()) };
            Block::encode(cid::Version::V1, DAG_PB, node.encode())
        })
        .collect();
    let order = [1, 0, 1];
    let mut root = UnixFs::new(Kind::File);
    root.block_sizes = order.iter().map(|at| [70_000, 300][*at]).collect();
    root.file_size = Some(70_600);
    let link = |at: &usize| PbLink { cid: *leaves[*at].cid(), name: String::new(), tsize: 1 };
    let node = PbNode { links: order.iter().map(link).collect(), data: Some(root.encode()) };
    let root = Block::encode(cid::Version::V1, DAG_PB, node.encode());
    let cid = *root.cid();
    let bytes = [noise(300, 2), noise(70_000, 1), noise(300, 2)].concat();
    ([leaves, vec![root]].concat(), cid, bytes.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_any_make_comes_and_is_served_on() {
    let (relay, _data) = relay().await;
    let a = peer(by_websocket(&relay)).await;
    let b = peer(by_websocket(&relay)).await;
    let c = peer(by_websocket(&relay)).await;
    let (blocks, cid, bytes) = odd();
    put(&a, &blocks).await;
    assert_eq!(get(&b, cid, Some(a.peer_id())).await.expect("fetched"), bytes);
    a.close().await;
    assert_eq!(get(&c, cid, Some(b.peer_id())).await.expect("served on"), bytes);
    for peer in [b, c] {
        assert!(peer.store().check().await.expect("counted").is_clean());
        peer.close().await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_peers_have_a_third_each() {
    let (relay, _data) = relay().await;
    let bytes = noise(8_000_000, 3);
    let (blocks, cid) = file(&bytes, 100_000);
    let fetching = peer(by_websocket(&relay)).await;
    let mut holders = Vec::new();
    for third in 0..3 {
        let holder = peer(by_websocket(&relay)).await;
        let its: Vec<Block> = blocks.iter().skip(third).step_by(3).cloned().collect();
        put(&holder, &its).await;
        fetching.network().dial(holder.peer_id()).await.expect("connected");
        holders.push(holder);
    }
    assert_eq!(get(&fetching, cid, None).await.expect("together"), bytes);
    let mut came = 0;
    for holder in &holders {
        came += received(&fetching, holder.peer_id()).await;
        holder.close().await;
    }
    assert!(came < 8_400_000, "{came} bytes for 8 MB");
    assert!(fetching.store().check().await.expect("counted").is_clean());
    fetching.close().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_found_in_the_network() {
    let (relay, _data) = relay().await;
    let a = peer(by_websocket(&relay)).await;
    let b = peer(by_websocket(&relay)).await;
    let bytes = noise(2_000_000, 4);
    let cid = store(&a, "f", &bytes).await.file;
    a.provide(cid).await.expect("told");
    assert_eq!(get(&b, cid, None).await.expect("found"), bytes);
    for peer in [a, b] {
        peer.close().await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_nobody_has_it_is_known_soon() {
    let (relay, _data) = relay().await;
    let a = peer(by_websocket(&relay)).await;
    let b = peer(by_websocket(&relay)).await;
    let (_, cid) = file(&noise(1000, 5), 100_000);
    let gone = libp2p::identity::Keypair::generate_ed25519().public().to_peer_id();
    for fallback in [None, Some(a.peer_id()), Some(gone)] {
        let started = tokio::time::Instant::now();
        let error = get(&b, cid, fallback).await.expect_err("nobody has it");
        let took = started.elapsed();
        assert_eq!(error.code(), "NOT_FOUND");
        let text = error.to_string();
        assert!(fallback.is_none_or(|peer| text.contains(&peer.to_string())), "{text}");
        assert!(took < Duration::from_secs(8), "{took:?} for {text}");
        println!("{took:?} {text}");
    }
    for peer in [a, b] {
        peer.close().await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_from_a_peer_that_goes_away_is_taken_up_by_another() -> Result<()> {
    let (relay, _data) = relay().await;
    let a = peer(by_websocket(&relay)).await;
    let other = peer(by_websocket(&relay)).await;
    let b = peer(by_websocket(&relay)).await;
    let bytes = noise(40_000_000, 6);
    let cid = store(&a, "f", &bytes).await.file;
    store(&other, "f", &bytes).await;
    b.network().dial(other.peer_id()).await.expect("connected");
    let options = OpenOptions { fallback: Some(a.peer_id()), ..OpenOptions::default() };
    let opened = b.open_file(cid, options).await?;
    assert_eq!(opened.info.size, 40_000_000);
    a.close().await;
    assert_eq!(collect(opened.stream(None)).await?, bytes);
    let Ok(Content::File(_)) = b.get_file(cid, None, GetOptions::default()).await else {
        panic!("kept");
    };
    assert!(b.store().check().await.expect("counted").is_clean());
    for peer in [b, other] {
        peer.close().await;
    }
    relay.stop().await;
    Ok(())
}
