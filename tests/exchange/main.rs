//! Bitswap between native peers on this machine, for real: TCP, circuits, hostile peers; and the
//! DHT that says who has what.
#![cfg(not(target_family = "wasm"))]

mod dht;
mod hostile;

mod node;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use futures::future;
use node::{Node, fetch, fetch_from};
use support::{by_websocket, noise};
use tabpeer::{
    content::block::Cid,
    exchange::bitswap::SessionEvent,
    platform::time::{self, Duration, Instant},
};

/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(60);
const BLOCK: usize = 256 << 10;

/// `count` blocks that differ from those of other seeds, and their CIDs.
async fn some_blocks(node: &Node, count: usize, size: usize, seed: u64) -> Vec<Cid> {
    let bytes = noise(count * size, seed);
    let pieces = (0..count).map(|n| bytes.slice(n * size..(n + 1) * size));
    node.put(pieces).await
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_go_from_peer_to_peer_directly() {
    let (a, b) = future::join(Node::listening(), Node::listening()).await;
    let cids = some_blocks(&a, 200, BLOCK, 1).await;
    let started = Instant::now();
    let got = fetch_from(&b, &cids, &[&a]).await;
    let seconds = started.elapsed().as_secs_f64();
    println!("50 MiB over TCP: {:.1} MB/s", (200 * BLOCK) as f64 / 1e6 / seconds);
    assert_eq!(got.values().sum::<usize>(), 200);
    // The other way, over the same connection, at the same time as the first again.
    let back = some_blocks(&b, 20, BLOCK, 2).await;
    let (c, d) = tokio::join!(fetch(&a, &back), fetch(&b, &cids[..20]));
    assert_eq!((c.len(), d.len()), (1, 1));
    tokio::join!(a.close(), b.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_go_through_a_relay() {
    let (relay, _data) = support::relay().await;
    let relays = by_websocket(&relay);
    let (a, b) = future::join(Node::at(relays.clone()), Node::at(relays)).await;
    let cids = some_blocks(&a, 200, BLOCK, 3).await;
    let started = Instant::now();
    fetch_from(&b, &cids, &[&a]).await;
    let seconds = started.elapsed().as_secs_f64();
    println!("50 MiB through a relay: {:.1} MB/s", (200 * BLOCK) as f64 / 1e6 / seconds);
    tokio::join!(a.close(), b.close());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_providers_share_the_work() {
    let nodes = future::join_all((0..4).map(|_| Node::listening())).await;
    let (me, providers) = nodes.split_first().expect("four");
    let mut cids = Vec::new();
    for provider in providers {
        cids = some_blocks(provider, 160, 64 << 10, 4).await;
    }
    let names: Vec<&Node> = providers.iter().collect();
    let got = fetch_from(me, &cids, &names).await;
    assert_eq!(got.values().sum::<usize>(), 160);
    assert!(got.len() >= 2, "all came from one peer");
    let sent = future::join_all(providers.iter().map(|node| node.bytes_sent_to(me))).await;
    let sent: u64 = sent.into_iter().sum();
    let content = 160 * (64 << 10);
    assert!(sent <= content + content / 10, "{sent} bytes were sent for {content}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_spread_over_peers_are_all_found() {
    let nodes = future::join_all((0..4).map(|_| Node::listening())).await;
    let (me, providers) = nodes.split_first().expect("four");
    let mut cids = Vec::new();
    for (seed, provider) in (10..).zip(providers) {
        cids.extend(some_blocks(provider, 20, 10_000, seed).await);
    }
    let names: Vec<&Node> = providers.iter().collect();
    assert_eq!(fetch_from(me, &cids, &names).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_provider_goes_the_others_go_on() {
    let nodes = future::join_all((0..3).map(|_| Node::listening())).await;
    let Ok([me, stays, goes]) = <[Node; 3]>::try_from(nodes) else { panic!("three") };
    for provider in [&stays, &goes] {
        some_blocks(provider, 160, 64 << 10, 5).await;
    }
    let cids = some_blocks(&stays, 160, 64 << 10, 5).await;
    me.dial(&stays).await;
    me.dial(&goes).await;
    let mut session = me.session(&[&stays, &goes]);
    session.want(cids.clone()).await;
    let mut missing: BTreeSet<Cid> = cids.into_iter().collect();
    let all = async {
        let mut goes = Some(goes);
        while !missing.is_empty() {
            match session.next().await.expect("open") {
                SessionEvent::Block { block, .. } => drop(missing.remove(block.cid())),
                SessionEvent::Exhausted { .. } => {}
            }
            if missing.len() < 120
                && let Some(goes) = goes.take()
            {
                goes.network.close().await;
            }
        }
    };
    time::timeout(PATIENCE, all).await.expect("goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_want_is_answered_as_soon_as_the_block_is_stored() {
    let (a, b) = future::join(Node::listening(), Node::listening()).await;
    b.dial(&a).await;
    let late = noise(5000, 6);
    let cid = node::cid_of(&late);
    let mut session = b.session(&[&a]);
    session.want(vec![cid]).await;
    let first = time::timeout(PATIENCE, session.next()).await.expect("soon").expect("open");
    assert!(matches!(&first, SessionEvent::Exhausted { cids } if *cids == [cid]), "{first:?}");
    a.put([late]).await;
    let next = time::timeout(PATIENCE, session.next()).await.expect("soon").expect("open");
    let SessionEvent::Block { block, from } = next else { panic!("{next:?}") };
    assert_eq!((*block.cid(), from), (cid, a.network.peer_id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_does_not_come() {
    let (a, b) = future::join(Node::listening(), Node::listening()).await;
    b.dial(&a).await;
    let (first, second) = (noise(5000, 7), noise(5000, 8));
    let cids = [&first, &second].map(node::cid_of);
    let mut session = b.session(&[&a]);
    session.want(cids.to_vec()).await;
    let mut no = BTreeSet::new();
    while no.len() < 2 {
        let event = time::timeout(PATIENCE, session.next()).await.expect("soon").expect("open");
        let SessionEvent::Exhausted { cids } = event else { panic!("{event:?}") };
        no.extend(cids);
    }
    session.cancel(vec![cids[0]]).await;
    // The cancel is on its way before this want, on the same stream.
    let marker = a.put([noise(5000, 9)]).await;
    session.want(marker.clone()).await;
    let event = time::timeout(PATIENCE, session.next()).await.expect("soon").expect("open");
    assert!(matches!(&event, SessionEvent::Block { block, .. } if *block.cid() == marker[0]));
    a.put([first, second]).await;
    let event = time::timeout(PATIENCE, session.next()).await.expect("soon").expect("open");
    assert!(matches!(&event, SessionEvent::Block { block, .. } if *block.cid() == cids[1]));
    drop(session);
    // Only the marker and the second were sent.
    let sent = a.bytes_sent_to(&b).await;
    assert!((10_000..15_000).contains(&sent), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_bounds_what_comes() {
    let (a, b) = future::join(Node::listening(), Node::listening()).await;
    b.dial(&a).await;
    let cids = some_blocks(&a, 100, BLOCK, 11).await;
    let mut session = b.session(&[&a]);
    // One by one, as a caller without a window of its own would.
    let mut got: BTreeMap<Cid, usize> = BTreeMap::new();
    for cid in &cids {
        session.want(vec![*cid]).await;
        tokio::task::yield_now().await;
    }
    // Another fetch goes on meanwhile.
    let other = some_blocks(&a, 10, BLOCK, 12).await;
    fetch_from(&b, &other, &[&a]).await;
    while got.len() < cids.len() {
        let event = time::timeout(PATIENCE, session.next()).await.expect("soon").expect("open");
        if let SessionEvent::Block { block, .. } = event {
            *got.entry(*block.cid()).or_default() += 1;
        }
    }
    assert!(got.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_has_only_just_connected_is_asked() {
    let me = Node::listening().await;
    for seed in 0..5 {
        let other = Node::listening().await;
        let cids = some_blocks(&other, 1, 1000, seed).await;
        me.dial(&other).await;
        let mut session = me.session(&[]);
        session.want(cids).await;
        let event = time::timeout(PATIENCE, session.next()).await.expect("soon");
        assert!(matches!(event, Some(SessionEvent::Block { .. })), "{event:?}");
        other.close().await;
    }
    me.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_that_cannot_be_asked_are_not_awaited() {
    let (me, mute) =
        (Node::listening().await, support::network(Vec::new(), &["/ip4/127.0.0.1/tcp/0"]).await);
    let address = mute.status().current().listen_addresses.first().cloned().expect("it listens");
    me.network.dial(address).await.expect("connects");
    for provider in [mute.peer_id(), me.network.peer_id()] {
        let mut session = me.bitswap.session().expect("opens");
        session.providers_only(true);
        session.add_provider(provider, 1.0);
        let cid = node::cid_of(&noise(10, 1));
        session.want(vec![cid]).await;
        let event = time::timeout(PATIENCE, session.next()).await.expect("soon");
        let nobody = matches!(&event, Some(SessionEvent::Exhausted { cids }) if *cids == [cid]);
        assert!(nobody, "{event:?}");
    }
    tokio::join!(me.close(), mute.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_the_network() {
    let a = Node::listening().await;
    let mut session = a.session(&[]);
    session.want(vec![node::cid_of(&noise(10, 1))]).await;
    a.network.close().await;
    while let Some(event) = time::timeout(PATIENCE, session.next()).await.expect("soon") {
        assert!(matches!(event, SessionEvent::Exhausted { .. }));
    }
    assert!(a.bitswap.session().is_err());
    assert!(a.bitswap.stats().await.is_empty());
}
