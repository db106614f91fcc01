//! Word of new content between native peers over real connections: what is announced on a topic goes one
//! step beyond it, no further and no more often, whatever hostile peers do.
#![cfg(not(target_family = "wasm"))]

mod support;

use std::sync::Arc;

use cid::{Cid, Version};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::join_all};
use libp2p::{PeerId, StreamProtocol};
use support::{by_websocket, network, noise, relay};
use tabpeer::{
    config::PeerConfig,
    content::block::{RAW, cid_of, sha256},
    messaging::{
        availability::{
            ContentAvailable, Heard, NEIGHBOUR_FLOW, Notices,
            message::{MAX_BATCH, MAX_BATCH_BYTES, Notice, PROTOCOL, encode_batch},
        },
        direct::Value,
        topics::{TopicEvent, presence::Change},
    },
    network::{Network, RelaySpec},
    peer::Peer,
    platform::{
        memory::MemoryDatabases,
        time::{self, Duration},
    },
};

/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(60);
const GALLERY: &str = "test/gallery";

/// A peer that is reachable by TCP.
async fn peer() -> Peer {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
    opened(PeerConfig { listen, ..PeerConfig::default() }).await
}

async fn opened(config: PeerConfig) -> Peer {
    Peer::open(config, Arc::new(MemoryDatabases::default())).await.expect("the peer opens")
}

async fn peers<const N: usize>() -> [Peer; N] {
    let all = join_all((0..N).map(|_| peer())).await;
    all.try_into().unwrap_or_else(|_| unreachable!("so many"))
}

async fn address(peer: &Peer) -> libp2p::Multiaddr {
    let mut changes = peer.changes();
    loop {
        let overview = peer.overview().await.expect("open");
        if let Some(address) = overview.network.listen_addresses.first() {
            return address.clone();
        }
        time::timeout(PATIENCE, changes.next()).await.expect("it listens").expect("open");
    }
}

/// Connects two peers, until each knows that the other takes notices.
async fn connect(a: &Peer, b: &Peer) {
    a.dial(address(b).await).await.expect("connects");
    know(a, b).await;
    know(b, a).await;
}

async fn know(a: &Peer, b: &Peer) {
    let mut changes = a.changes();
    loop {
        let peers = a.overview().await.expect("open").peers;
        let known = peers.get(&b.peer_id()).map_or(&[][..], |info| &info.protocols);
        if known.iter().any(|protocol| protocol == PROTOCOL) {
            return;
        }
        time::timeout(PATIENCE, changes.next()).await.expect("identified").expect("open");
    }
}

async fn next(notices: &mut Notices) -> ContentAvailable {
    let next = time::timeout(PATIENCE, notices.next()).await.expect("something is heard");
    next.expect("open").0
}

fn hash(n: usize) -> Cid {
    cid_of(Version::V1, RAW, &sha256(&n.to_be_bytes()))
}

fn on_topic(n: usize, source: &Peer) -> ContentAvailable {
    let (hash, source) = (hash(n), source.peer_id());
    ContentAvailable { hash, source, heard: Heard::Topic(GALLERY.into()) }
}

fn told(n: usize, source: &Peer, by: PeerId) -> ContentAvailable {
    let (hash, source) = (hash(n), source.peer_id());
    ContentAvailable { hash, source, heard: Heard::Peer(by) }
}

/// Whether it went to anybody on the topic.
async fn announce(peer: &Peer, n: usize) -> bool {
    peer.announce_content(GALLERY, hash(n)).await.expect("announced")
}

async fn close<const N: usize>(peers: [&Peer; N]) {
    join_all(peers.map(|peer| async { peer.close().await })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_one_step_beyond_its_topic() {
    // The author, one who watches, one who is connected with it, and one who is connected with that one.
    let [a, b, c, d] = peers().await;
    for (one, other) in [(&a, &b), (&c, &b), (&d, &c)] {
        connect(one, other).await;
    }
    let [mut at_a, mut at_b, mut at_c, mut at_d] =
        [&a, &b, &c, &d].map(|peer| peer.content_notices());
    let (on, watch) = tokio::join!(a.subscribe(GALLERY), b.watch_content(GALLERY));
    let (_on, watch) = (on.expect("subscribes"), watch.expect("watches"));
    assert!(announce(&a, 1).await);
    assert_eq!(next(&mut at_b).await, on_topic(1, &a));
    assert_eq!(next(&mut at_c).await, told(1, &a, b.peer_id()));
    // The same again is no news, another message on the topic is none, and what else stands in an update does no harm.
    assert!(announce(&a, 1).await);
    let more = format!(r#"{{"size":3,"hash":"{}","type":"new-content"}}"#, hash(2));
    for text in ["{}", r#"{"type":"new-content","hash":"nothing"}"#, &more] {
        assert!(a.publish(GALLERY, Value::Json(text.to_owned())).await.expect("published"));
    }
    assert_eq!(next(&mut at_b).await, on_topic(2, &a));
    assert_eq!(next(&mut at_c).await, told(2, &a, b.peer_id()));

    // What it announces itself a peer tells, too, if it watches the topic; and nobody hears of their own.
    assert!(announce(&b, 3).await);
    assert_eq!(next(&mut at_c).await, told(3, &b, b.peer_id()));
    drop(watch);
    let _watch = c.watch_content(GALLERY).await.expect("watches");
    assert!(!announce(&c, 4).await, "nobody else is on the topic");
    // The first thing that it hears: of all that c was told it has passed on nothing.
    assert_eq!(next(&mut at_d).await, told(4, &c, c.peer_id()));
    assert_eq!(next(&mut at_b).await, told(4, &c, c.peer_id()), "it is connected, too");
    close([&a, &b, &c, &d]).await;
    for notices in [&mut at_a, &mut at_b, &mut at_c, &mut at_d] {
        let rest = time::timeout(PATIENCE, notices.next()).await.expect("it ends with the peer");
        assert_eq!(rest, None, "nothing was told that is not expected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_twice_hears_it_once_and_who_is_on_the_topic_is_not_told() {
    /// More than one batch, and no more than waits for the app.
    const COUNT: usize = 200;
    let [a, b1, b2, c, on] = peers().await;
    for watcher in [&b1, &b2] {
        connect(&a, watcher).await;
        connect(&c, watcher).await;
        connect(&on, watcher).await;
    }
    // Those on a topic are introduced to each other, at a moment of their own choosing.
    connect(&b1, &b2).await;
    let [mut at_b1, mut at_b2, mut at_c, mut at_on] =
        [&b1, &b2, &c, &on].map(|peer| peer.content_notices());
    let mut heard = on.subscribe(GALLERY).await.expect("subscribes");
    let _watches =
        join_all([&b1, &b2].map(|peer| async { peer.watch_content(GALLERY).await })).await;
    let on_it = async {
        // The two that watch know of each other and of the third: a is not on the topic.
        for watcher in [&b1, &b2] {
            let mut there = watcher.subscribe(GALLERY).await.expect("subscribes");
            for _ in 0..2 {
                let event = there.next().await;
                assert!(matches!(event, Some(TopicEvent::Peer(Change { joined: true, .. }))));
            }
        }
    };
    time::timeout(PATIENCE, on_it).await.expect("they know of it");
    for n in 0..COUNT {
        assert!(announce(&a, n).await);
    }
    let mut all: Vec<Cid> = (0..COUNT).map(hash).collect();
    all.sort();
    for notices in [&mut at_b1, &mut at_b2, &mut at_c] {
        let mut heard = Vec::new();
        while heard.len() < COUNT {
            let notice = next(notices).await;
            assert_eq!(notice.source, a.peer_id());
            heard.push(notice.hash);
        }
        heard.sort();
        assert_eq!(heard, all, "each once");
    }
    // It heard them all on the topic, and no word of them otherwise.
    let mut count = 0;
    while count < COUNT {
        let event = time::timeout(PATIENCE, heard.next()).await.expect("in time").expect("open");
        count += usize::from(matches!(event, TopicEvent::Message { .. }));
    }
    close([&a, &b1, &b2, &c, &on]).await;
    assert_eq!(at_on.next().await, None);
    assert_eq!(at_c.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_relay_and_a_circuit() {
    let (relay, _data) = relay().await;
    let relays = by_websocket(&relay);
    let open = |relays: Vec<RelaySpec>| opened(PeerConfig { relays, ..PeerConfig::default() });
    let (a, b, c) = tokio::join!(open(relays.clone()), open(relays.clone()), open(relays.clone()));
    // c knows b through the relay; the topic is carried by the relay.
    c.keep_peers(vec![b.peer_id()], true).await.expect("noted");
    know(&b, &c).await;
    let (mut at_b, mut at_c) = (b.content_notices(), c.content_notices());
    let _watch = b.watch_content(GALLERY).await.expect("watches");
    assert!(announce(&a, 1).await);
    assert_eq!(next(&mut at_b).await, on_topic(1, &a));
    assert_eq!(next(&mut at_c).await, told(1, &a, b.peer_id()));
    close([&a, &b, &c]).await;
    relay.stop().await;
}

/// A hostile peer, which is connected.
struct Hostile(Network);

impl Hostile {
    async fn of(victim: &Peer) -> Self {
        let hostile = network(Vec::new(), &[]).await;
        hostile.dial(address(victim).await).await.expect("connects");
        Self(hostile)
    }

    /// Writes to a stream of its own, which ends or does not; returns when the victim has closed it.
    async fn says(&self, victim: &Peer, bytes: &[u8], ends: bool) {
        let protocol = StreamProtocol::new(PROTOCOL);
        let stream = self.0.open_stream(victim.peer_id(), protocol).await;
        let Ok(mut stream) = stream else { return };
        // It may be reset before all is written.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        if ends {
            let _ = stream.close().await;
        }
        let read = time::timeout(PATIENCE, stream.read(&mut [0; 8])).await.expect("an end");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
}

fn notice(n: usize, source: PeerId) -> Notice {
    Notice { hash: hash(n), source }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_not_heard_and_claims_are_marked_as_such() {
    let [victim, witness, author] = peers().await;
    connect(&witness, &victim).await;
    connect(&author, &victim).await;
    let hostile = Hostile::of(&victim).await;
    let (mut at_victim, mut at_witness) = (victim.content_notices(), witness.content_notices());
    let _watch = victim.watch_content(GALLERY).await.expect("watches");

    let good = encode_batch([&notice(1, author.peer_id())]);
    let cut = &good[..good.len() - 1];
    for (bytes, ends) in [
        (noise(10_000, 5).to_vec(), true),
        (vec![0xff; 20], true),
        (cut.to_vec(), true),
        ([&good[..], &[0]].concat(), true),
        (good.repeat(MAX_BATCH + 1), true),
        // More than is ever read, without an end.
        (vec![b' '; MAX_BATCH_BYTES + 1], false),
        (Vec::new(), true),
    ] {
        hostile.says(&victim, &bytes, ends).await;
    }
    // A claim in another's name is a claim; in the name of the victim it is nothing.
    let claims = [notice(2, author.peer_id()), notice(3, victim.peer_id())];
    hostile.says(&victim, &encode_batch(&claims), true).await;
    let claimed = told(2, &author, hostile.0.peer_id());
    assert_eq!(next(&mut at_victim).await, claimed);
    // The author's own word comes all the same, and is passed on.
    assert!(announce(&author, 2).await);
    assert_eq!(next(&mut at_victim).await, on_topic(2, &author));
    assert_eq!(next(&mut at_witness).await, told(2, &author, victim.peer_id()));
    hostile.0.close().await;
    close([&victim, &witness, &author]).await;
    assert_eq!((at_victim.next().await, at_witness.next().await), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_and_silence_hold_up_nobody_else() {
    let [victim, witness, author] = peers().await;
    connect(&witness, &victim).await;
    connect(&author, &victim).await;
    let (flooder, silent) = tokio::join!(Hostile::of(&victim), Hostile::of(&victim));
    let _watch = victim.watch_content(GALLERY).await.expect("watches");
    let mut at_witness = witness.content_notices();
    let counting = tokio::spawn({
        let (mut notices, flooder) = (victim.content_notices(), flooder.0.peer_id());
        async move {
            let mut claims = 0;
            while let Some((heard, missed)) = notices.next().await {
                claims += missed + u64::from(heard.heard == Heard::Peer(flooder));
            }
            claims
        }
    });
    // One opens streams and says nothing on them.
    let protocol = StreamProtocol::new(PROTOCOL);
    let silence =
        join_all((0..40).map(|_| silent.0.open_stream(victim.peer_id(), protocol.clone())));
    let silence = silence.await;
    // One says more than there is any sense in.
    for n in 0..100 {
        let batch: Vec<Notice> =
            (0..MAX_BATCH).map(|m| notice(n * MAX_BATCH + m, flooder.0.peer_id())).collect();
        flooder.says(&victim, &encode_batch(&batch), true).await;
    }
    let last = 1_000_000;
    assert!(announce(&author, last).await);
    assert_eq!(next(&mut at_witness).await, told(last, &author, victim.peer_id()));
    drop(silence);
    tokio::join!(flooder.0.close(), silent.0.close());
    close([&victim, &witness, &author]).await;
    let claims = counting.await.expect("no panic");
    let most = u64::from(NEIGHBOUR_FLOW.messages.burst)
        + 60 * u64::from(NEIGHBOUR_FLOW.messages.per_second);
    assert!(claims > 0 && claims <= most, "{claims} claims were heard");
    assert_eq!(at_witness.next().await, None, "no claim is passed on");
}
