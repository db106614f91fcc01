//! Peers that ask for too much, or take nothing of what they asked for: everybody else is served.

use std::{collections::BTreeMap, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{AsyncWriteExt as _, future};
use libp2p::PeerId;
use tabpeer::{
    content::block::{Cid, MAX_BLOCK},
    exchange::bitswap::message::{Message, Presence, WantKind},
    network::{IncomingStreams, Stream},
    platform::{
        native::redb::{RedbDatabases, RedbOptions},
        time,
    },
};

use crate::{
    PATIENCE,
    evil::{Evil, bytes_of, presences, trickle, want},
    node::{Node, cid_of, fetch_from},
    support::noise,
};

const BLOCK: usize = 100_000;

async fn with_blocks(count: usize, seed: u64) -> (Node, Vec<Cid>) {
    let node = Node::listening().await;
    let bytes = noise(count * BLOCK, seed);
    let cids = node.put((0..count).map(|n| bytes.slice(n * BLOCK..(n + 1) * BLOCK))).await;
    (node, cids)
}

/// An honest peer gets all blocks; how long it took.
async fn served(victim: &Node, cids: &[Cid]) -> Duration {
    let honest = Node::listening().await;
    let started = time::Instant::now();
    let fetched = run_fetch(&honest, cids, victim);
    let got = time::timeout(PATIENCE, fetched).await.expect("served in time");
    assert_eq!(got.values().sum::<usize>(), cids.len());
    honest.close().await;
    started.elapsed()
}

fn wants(cids: impl IntoIterator<Item = Cid>, kind: WantKind, full: bool) -> Bytes {
    let wants = cids.into_iter().map(|cid| want(cid, kind)).collect();
    bytes_of(&Message { wants, full, pending_bytes: i32::MIN, ..Message::default() })
}

fn unknown(count: usize, seed: u64) -> Vec<Cid> {
    let bytes = noise(count * 8, seed);
    (0..count).map(|n| cid_of(&bytes.slice(n * 8..(n + 1) * 8))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_for_too_much_do_not_keep_others_from_being_served() {
    passes_alone("server::floods");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_do_not_read_their_answers_do_not_fill_the_memory() {
    passes_alone("server::unread_answers");
}

/// Runs a test in a process of its own, so that its memory is what this takes.
fn passes_alone(test: &str) {
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output();
    let output = child.expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "the child failed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above in a process of its own"]
async fn floods() {
    let (victim, cids) = with_blocks(60, 1).await;
    served(&victim, &cids).await;
    let mut evils = Vec::new();
    for _ in 0..6 {
        let evil = Arc::new(Evil::new().await);
        evil.answer(|_| Ok(Vec::new())).await;
        evils.push(evil);
    }
    let million: Vec<Bytes> =
        (0..2).map(|seed| wants(unknown(30_000, 10 + seed), WantKind::Block, false)).collect();
    let answers = presences(unknown(30_000, 21), Presence::Have);
    let before = resident();
    // A million wants, over eight streams.
    for at in 0..8 {
        let stream = evils[0].stream(&victim).await;
        evils[0].repeat(stream, million[at % 2].clone(), 5);
    }
    // The same block 10^5 times.
    let same = wants(vec![cids[0]; 10_000], WantKind::Block, false);
    evils[1].repeat(evils[1].stream(&victim).await, same, 10);
    // Whole wantlists, again and again.
    let full = wants(cids.iter().copied().chain(unknown(500, 20)), WantKind::Have, true);
    evils[2].repeat(evils[2].stream(&victim).await, full, 500);
    // Answers to no question.
    for _ in 0..8 {
        evils[3].repeat(evils[3].stream(&victim).await, answers.clone(), 10);
    }
    // Many short wants in the smallest messages.
    let inline = Cid::new_v1(0x55, multihash::Multihash::wrap(0, &[]).expect("fits"));
    let short = wants(vec![inline; 14_000], WantKind::Have, false);
    for _ in 0..30 {
        evils[4].repeat(evils[4].stream(&victim).await, short.clone(), 4);
    }
    // Streams that are opened and left.
    let mut left = Vec::new();
    for _ in 0..64 {
        let mut stream = evils[5].stream(&victim).await;
        // That one may be refused.
        if stream.write_all(&[0x80]).await.is_ok() && stream.flush().await.is_ok() {
            left.push(stream);
        }
    }
    let mut most = 0;
    let watching = async {
        let mut samples = tokio::time::interval(Duration::from_millis(20));
        loop {
            samples.tick().await;
            most = most.max(resident());
        }
    };
    let serving = async {
        let mut took = Vec::new();
        for _ in 0..3 {
            took.push(served(&victim, &cids).await);
        }
        took
    };
    tokio::select! {
        () = watching => {}
        took = serving => println!("served in {took:?}"),
    }
    let grown = most.saturating_sub(before) >> 20;
    println!("{} MiB before, {grown} MiB more at most", before >> 20);
    assert!(grown < 150, "{grown} MiB");
    drop(left);
    victim.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a test above in a process of its own"]
async fn unread_answers() {
    // On a disk: what is read from there is a copy in memory.
    let folder = tempfile::tempdir().expect("a temporary directory");
    let options = RedbOptions { cache_bytes: 4 << 20, ..RedbOptions::default() };
    let victim = Node::listening_on(&RedbDatabases::with_options(folder.path(), options)).await;
    let bytes = noise(8 * MAX_BLOCK, 5);
    let cids = victim.put((0..8).map(|n| bytes.slice(n * MAX_BLOCK..(n + 1) * MAX_BLOCK))).await;
    served(&victim, &cids[..2]).await;
    let evils = future::join_all((0..12).map(|_| Evil::new())).await;
    let before = resident();
    let mut unread = Vec::new();
    for evil in &evils {
        unread.push(ask_and_not_read(evil, &victim, &cids).await);
    }
    let mut most = 0;
    let watching = async {
        loop {
            most = most.max(resident());
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = watching => {}
        took = served(&victim, &cids[..2]) => println!("served in {took:?}"),
    }
    let grown = most.saturating_sub(before) >> 20;
    println!("{} MiB before, {grown} MiB more at most", before >> 20);
    // The answers of all (64 MiB), what is on its way in both networks, and what is fetched.
    assert!(grown < 130, "{grown} MiB");
    victim.close().await;
}

/// Asks for `cids`, and accepts streams that are not read while what this returns is kept.
async fn ask_and_not_read(evil: &Evil, victim: &Node, cids: &[Cid]) -> (IncomingStreams, Stream) {
    let protocol = libp2p::StreamProtocol::new(tabpeer::exchange::bitswap::message::PROTOCOL);
    let unread = evil.network.accept(protocol).await.expect("accepts");
    let mut stream = evil.stream(victim).await;
    let bytes = wants(cids.iter().copied(), WantKind::Block, true);
    stream.write_all(&bytes).await.expect("asks");
    stream.flush().await.expect("asks");
    (unread, stream)
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = status.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_do_not_read_their_answers_do_not_hold_up_others() {
    let (victim, cids) = with_blocks(80, 2).await;
    let evils = future::join_all((0..3).map(|_| Evil::new())).await;
    let mut unread = Vec::new();
    for evil in &evils {
        unread.push(ask_and_not_read(evil, &victim, &cids).await);
    }
    let took = served(&victim, &cids).await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(unread);
    for evil in &evils {
        evil.network.close().await;
    }
    assert!(victim.store.check().await.expect("counted").is_clean());
    victim.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_hold_large_messages_back_do_not_hold_up_others() {
    let (victim, _) = with_blocks(1, 3).await;
    let (honest, cids) = {
        let node = Node::listening().await;
        let bytes = noise(20 << 20, 4);
        let cids = node.put((0..20).map(|n| bytes.slice(n << 20..(n + 1) << 20))).await;
        (node, cids)
    };
    // Enough to take every place that there is for large messages.
    let evils = future::join_all((0..14).map(|_| Evil::new())).await;
    let mut head = vec![0xff, 0xff, 0xff, 0x01, 0x1a, 0xf0, 0xff, 0xff, 0x01];
    // More than a stream's first window (256 KiB): it is gone when half a window has been read, and
    // what was read of the message needs a place.
    head.resize(300_000, 0);
    let mut heads = Vec::new();
    for evil in &evils {
        for _ in 0..5 {
            let mut stream = evil.stream(&victim).await;
            let head = &head;
            heads.push(async move {
                stream.write_all(head).await.expect("is read in part");
                stream.flush().await.expect("is read in part");
                stream
            });
        }
    }
    let held =
        time::timeout(PATIENCE, future::join_all(heads)).await.expect("all are read in part");
    for stream in held {
        let rest = std::iter::repeat(Bytes::from_static(&[0]));
        tokio::spawn(trickle(stream, rest, Duration::from_millis(500)));
    }
    let started = time::Instant::now();
    let fetched = run_fetch(&victim, &cids, &honest);
    let got = time::timeout(Duration::from_secs(30), fetched).await.expect("in time");
    println!("in {:?}", started.elapsed());
    assert_eq!(got.values().sum::<usize>(), 20);
    for node in [victim, honest] {
        node.close().await;
    }
}

async fn run_fetch(to: &Node, cids: &[Cid], from: &Node) -> BTreeMap<PeerId, usize> {
    fetch_from(to, cids, &[from]).await
}
