//! Topics between native peers on this machine, for real: through a relay and by TCP, hostile peers,
//! slow readers, a relay that restarts.
#![cfg(not(target_family = "wasm"))]

mod discovery;
mod hostile;
mod load;

#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures::future;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use support::{by_websocket, relay, relay_again, store};
use tabpeer::{
    config::PeerConfig,
    messaging::{
        direct::Value,
        topics::{Change, HEARTBEAT, MESH_WAIT, Subscription, TopicError, TopicEvent},
    },
    network::{Network, NetworkConfig, OnlineOutcome, RelaySpec},
    peer::Peer,
    platform::{
        memory::MemoryDatabases,
        time::{self, Duration, Instant},
    },
};

/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(60);
const ROOM: &str = "test/room";

async fn node(relays: Vec<RelaySpec>, listen: &[&str]) -> Network {
    let mut config = NetworkConfig::new(Keypair::generate_ed25519());
    let online = !relays.is_empty();
    config.relays = relays;
    config.listen = listen.iter().map(|address| address.parse().expect("valid")).collect();
    let network = Network::start(config).expect("starts");
    if online {
        let outcome = network.wait_online(PATIENCE).await;
        assert!(matches!(outcome, OnlineOutcome::Online(_)), "{outcome:?}");
    }
    network
}

async fn nodes<const N: usize>(relays: &[RelaySpec]) -> [Network; N] {
    let all = future::join_all((0..N).map(|_| node(relays.to_vec(), &[]))).await;
    all.try_into().expect("so many")
}

/// Reachable by TCP, and where.
async fn listening() -> (Network, Multiaddr) {
    let network = node(Vec::new(), &["/ip4/127.0.0.1/tcp/0"]).await;
    let mut status = network.status();
    let listens = status.wait_for(|status| !status.listen_addresses.is_empty());
    let status = time::timeout(PATIENCE, listens).await.expect("listens").expect("open");
    let address = status.listen_addresses[0].clone();
    (network, address)
}

async fn subscribe(network: &Network, topic: &str) -> Subscription {
    let subscribed = time::timeout(PATIENCE, network.subscribe(topic)).await;
    subscribed.expect("in time").expect("subscribes")
}

async fn next(subscription: &mut Subscription) -> TopicEvent {
    let next = time::timeout(PATIENCE, subscription.next()).await;
    next.expect("something comes").expect("it is open")
}

/// Waits until exactly these are there, overlooking messages.
async fn present(subscription: &mut Subscription, there: &mut BTreeSet<PeerId>, want: &[&Network]) {
    let want: BTreeSet<PeerId> = want.iter().map(|network| network.peer_id()).collect();
    while *there != want {
        if let TopicEvent::Peer(Change { peer, joined }) = next(subscription).await {
            let news = if joined { there.insert(peer) } else { there.remove(&peer) };
            assert!(news, "{peer} {joined} twice");
        }
    }
}

/// The next message, overlooking who comes and goes.
async fn message(subscription: &mut Subscription) -> (PeerId, Value) {
    loop {
        match next(subscription).await {
            TopicEvent::Message { from, value } => return (from, value),
            TopicEvent::Peer(_) => {}
            TopicEvent::Lagged(n) => panic!("{n} were dropped"),
        }
    }
}

fn json(text: &str) -> Value {
    Value::Json(text.to_owned())
}

async fn publish(network: &Network, topic: &str, value: Value) -> bool {
    let published = time::timeout(PATIENCE, network.publish(topic, value)).await;
    published.expect("in time").expect("publishes")
}

#[tokio::test(flavor = "multi_thread")]
async fn three_peers_hear_and_see_each_other_through_a_relay() {
    let (relay, _data) = relay().await;
    let [a, b, c] = nodes(&by_websocket(&relay)).await;
    let started = Instant::now();
    let mut at_a = subscribe(&a, ROOM).await;
    let took = started.elapsed();
    assert!(took >= HEARTBEAT && took < MESH_WAIT, "the relay is the mesh: {took:?}");
    let (mut at_b, mut at_c) = future::join(subscribe(&b, ROOM), subscribe(&c, ROOM)).await;
    let mut there: [BTreeSet<PeerId>; 3] = Default::default();
    let [by_a, by_b, by_c] = &mut there;
    present(&mut at_a, by_a, &[&b, &c]).await;
    present(&mut at_b, by_b, &[&a, &c]).await;
    present(&mut at_c, by_c, &[&a, &b]).await;
    assert_eq!(*a.subscribed_topics().borrow().clone(), [ROOM]);

    for (sender, text) in [(&a, "{\"n\":1}"), (&b, "\"two\""), (&c, "[3]")] {
        assert!(publish(sender, ROOM, json(text)).await);
        for (receiver, subscription) in [(&a, &mut at_a), (&b, &mut at_b), (&c, &mut at_c)] {
            if receiver.peer_id() != sender.peer_id() {
                assert_eq!(message(subscription).await, (sender.peer_id(), json(text)));
            }
        }
    }
    let bytes = Value::Bytes(vec![0xff, 0, b'{'].into());
    publish(&a, ROOM, bytes.clone()).await;
    assert_eq!(message(&mut at_b).await, (a.peer_id(), bytes.clone()));
    assert_eq!(message(&mut at_c).await, (a.peer_id(), bytes));

    let mut listed = a.topic_peers(ROOM).await.expect("open");
    listed.sort_unstable();
    assert_eq!(listed, by_a.iter().copied().collect::<Vec<_>>());

    // One leaves the topic, another goes away altogether.
    let started = Instant::now();
    drop(at_b);
    present(&mut at_a, by_a, &[&c]).await;
    c.close().await;
    present(&mut at_a, by_a, &[]).await;
    println!("unsubscribing and closing were seen in {:?}", started.elapsed());
    assert_eq!(at_c.next().await, None);
    tokio::join!(a.close(), b.close());
    assert_eq!(at_a.next().await, None);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_without_a_relay_do_too() {
    let ((a, address), (b, _)) = future::join(listening(), listening()).await;
    b.dial(address).await.expect("connects");
    let (mut at_a, mut at_b) = future::join(subscribe(&a, ROOM), subscribe(&b, ROOM)).await;
    let (mut by_a, mut by_b) = (BTreeSet::new(), BTreeSet::new());
    present(&mut at_a, &mut by_a, &[&b]).await;
    present(&mut at_b, &mut by_b, &[&a]).await;
    assert!(publish(&a, ROOM, json("1")).await);
    assert_eq!(message(&mut at_b).await, (a.peer_id(), json("1")));
    // Whoever has not subscribed can publish, and list its neighbours.
    drop(at_a);
    present(&mut at_b, &mut by_b, &[]).await;
    assert!(publish(&a, ROOM, json("2")).await);
    assert_eq!(message(&mut at_b).await, (a.peer_id(), json("2")));
    assert_eq!(a.topic_peers(ROOM).await, Ok(vec![b.peer_id()]));
    assert!(!publish(&a, "test/nobody", json("3")).await);
    // And again, at once, as a page does that is built anew.
    let mut at_a = subscribe(&a, ROOM).await;
    present(&mut at_b, &mut by_b, &[&a]).await;
    publish(&b, ROOM, json("4")).await;
    assert_eq!(message(&mut at_a).await, (b.peer_id(), json("4")));
    b.close().await;
    let mut by_a = BTreeSet::from([b.peer_id()]);
    present(&mut at_a, &mut by_a, &[]).await;
    a.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_restarts_empties_no_room() {
    let (first, data) = relay().await;
    let relays = by_websocket(&first);
    let [a, b] = nodes(&relays).await;
    let (mut at_a, mut at_b) = future::join(subscribe(&a, ROOM), subscribe(&b, ROOM)).await;
    let mut by_a = BTreeSet::new();
    present(&mut at_a, &mut by_a, &[&b]).await;
    first.stop().await;
    let second = relay_again(data.path(), &relays).await;
    a.nudge();
    b.nudge();
    // Repeated until one arrives: nobody says when the mesh is there again.
    let heard = async {
        loop {
            tokio::select! {
                event = next(&mut at_b) => match event {
                    TopicEvent::Message { from, value } => break (from, value),
                    event => assert!(matches!(event, TopicEvent::Peer(Change { joined: true, .. })), "{event:?}"),
                },
                () = time::sleep(Duration::from_millis(200)) => drop(publish(&a, ROOM, json("1")).await),
            }
        }
    };
    assert_eq!(time::timeout(PATIENCE, heard).await, Ok((a.peer_id(), json("1"))));
    publish(&b, ROOM, json("2")).await;
    // The next event is the message: nobody was said to have left meanwhile.
    let back = TopicEvent::Message { from: b.peer_id(), value: json("2") };
    assert_eq!(next(&mut at_a).await, back);
    tokio::join!(a.close(), b.close());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_on_the_topic_are_told_when_files_change() {
    let (relay, _data) = relay().await;
    let config = |relays| PeerConfig {
        relays,
        file_update_topic: Some(ROOM.to_owned()),
        ..PeerConfig::default()
    };
    let open = |config| Peer::open(config, Arc::new(MemoryDatabases::default()));
    let a = open(config(by_websocket(&relay))).await.expect("opens");
    let b = open(config(by_websocket(&relay))).await.expect("opens");
    let mut at_b = b.subscribe(ROOM).await.expect("subscribes");
    // Who is not on the topic itself says nothing.
    a.create_directory("before").await.expect("made");
    let at_a = a.subscribe(ROOM).await.expect("subscribes");
    present(&mut at_b, &mut BTreeSet::new(), &[a.network()]).await;
    store(&a, "file", &Bytes::from_static(b"text")).await;
    a.create_directory("made").await.expect("made");
    a.remove_file("file").await.expect("removed");
    a.publish(ROOM, json("\"last\"")).await.expect("published");
    let id = a.peer_id();
    let notice = format!(r#"{{"type":"p2p-webapp-file-update","peer":"{id}"}}"#);
    for _ in 0..3 {
        assert_eq!(message(&mut at_b).await, (id, json(&notice)));
    }
    assert_eq!(message(&mut at_b).await, (id, json("\"last\"")));
    assert_eq!(b.list_peers(ROOM).await.expect("open"), [id]);
    drop(at_a);
    tokio::join!(a.close(), b.close());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_are_refused_with_their_reason() {
    let network = node(Vec::new(), &[]).await;
    let too_long = "x".repeat(300);
    for bad in ["", &too_long] {
        let refused = network.subscribe(bad).await.map(drop);
        assert!(matches!(refused, Err(TopicError::BadTopic { .. })), "{refused:?}");
        let refused = network.publish(bad, json("1")).await;
        assert!(matches!(refused, Err(TopicError::BadTopic { .. })), "{refused:?}");
    }
    let refused = network.publish(ROOM, json("{")).await;
    assert!(matches!(refused, Err(TopicError::NotJson { .. })), "{refused:?}");
    let large = Value::Bytes(vec![0; 1 << 20].into());
    let refused = network.publish(ROOM, large).await;
    assert!(matches!(refused, Err(TopicError::TooLarge { .. })), "{refused:?}");
    network.close().await;
    assert_eq!(network.publish(ROOM, json("1")).await, Err(TopicError::Closed));
    assert_eq!(network.subscribe(ROOM).await.map(drop), Err(TopicError::Closed));
}
