//! A provider that is first choice and hurts, beside an honest one: all blocks come all the same.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future;
use tabpeer::{
    config::PeerConfig,
    content::block::{Block, Cid, RAW},
    exchange::bitswap::{
        SessionEvent,
        message::{MAX_MESSAGE, Presence},
    },
    peer::{GetOptions, Peer},
    platform::{memory::MemoryDatabases, time},
};

use crate::{
    evil::{Evil, asked, blocks, presences, trickle},
    node::Node,
    support::{get, noise},
};

const COUNT: usize = 24;
const SIZE: usize = 20_000;

struct Scene {
    me: Node,
    honest: Node,
    evil: Arc<Evil>,
    cids: Vec<Cid>,
    data: BTreeMap<Cid, Bytes>,
}

impl Scene {
    async fn new(seed: u64) -> Self {
        let (me, honest, evil) =
            future::join3(Node::listening(), Node::listening(), Evil::new()).await;
        let bytes = noise(COUNT * SIZE, seed);
        let pieces = (0..COUNT).map(|n| bytes.slice(n * SIZE..(n + 1) * SIZE));
        let block = |data: Bytes| (*Block::encode(cid::Version::V1, RAW, data.clone()).cid(), data);
        let data = pieces.clone().map(block).collect();
        let cids = honest.put(pieces).await;
        Self { me, honest, evil: Arc::new(evil), cids, data }
    }

    /// All blocks come, although the evil one is thought to be the best; how long it took.
    async fn fetch(&self, what: &str) -> Duration {
        let started = time::Instant::now();
        self.evil.dial(&self.me).await;
        self.me.dial(&self.honest).await;
        let mut session = self.me.bitswap.session().expect("opens");
        session.add_provider(self.evil.id(), 100.0);
        session.add_provider(self.honest.network.peer_id(), 1.0);
        session.want(self.cids.clone()).await;
        let mut missing = self.data.clone();
        let all = async {
            while !missing.is_empty() {
                match session.next().await.expect("open") {
                    SessionEvent::Block { block, .. } => {
                        assert_eq!(missing.remove(block.cid()).as_ref(), Some(block.data()));
                    }
                    SessionEvent::Exhausted { .. } => {}
                }
            }
        };
        let outcome = time::timeout(Duration::from_secs(25), all).await;
        assert!(outcome.is_ok(), "{what}: {} of {COUNT} blocks did not come", missing.len());
        let took = started.elapsed();
        println!("{what}: {took:?}");
        self.me.close().await;
        self.honest.close().await;
        self.evil.network.close().await;
        took
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_promises_and_never_delivers_is_passed_over() {
    let once = async {
        let scene = Scene::new(1).await;
        scene.evil.answer(|message| Ok(vec![presences(asked(&message), Presence::Have)])).await;
        scene.fetch("promises").await;
    };
    let repeated = async {
        let scene = Scene::new(2).await;
        repeat_promises(&scene, vec![Presence::Have]).await;
        scene.fetch("promises again and again").await;
    };
    let changing = async {
        let scene = Scene::new(3).await;
        repeat_promises(&scene, vec![Presence::DontHave, Presence::Have]).await;
        scene.fetch("changes its mind").await;
    };
    future::join3(once, repeated, changing).await;
}

/// Says of all that there is that it has it, several times a second, for as long as it can.
async fn repeat_promises(scene: &Scene, says: Vec<Presence>) {
    scene.evil.answer(|message| Ok(vec![presences(asked(&message), Presence::Have)])).await;
    let said: Vec<Bytes> =
        says.into_iter().map(|presence| presences(scene.cids.iter().copied(), presence)).collect();
    let stream = scene.evil.stream(&scene.me).await;
    tokio::spawn(trickle(stream, said.into_iter().cycle(), Duration::from_millis(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sends_what_is_not_wanted_gains_nothing() {
    let wrong = async {
        let scene = Scene::new(4).await;
        let mut seed = 1000;
        scene
            .evil
            .answer(move |message| {
                seed += 1;
                Ok(vec![blocks(asked(&message).iter().map(|_| noise(SIZE, seed)))])
            })
            .await;
        scene.fetch("other bytes under the prefix").await;
    };
    let flood = async {
        let scene = Scene::new(5).await;
        scene.evil.answer(|_| Ok(Vec::new())).await;
        let stream = scene.evil.stream(&scene.me).await;
        scene.evil.repeat(stream, blocks((0..10).map(|n| noise(100_000, 2000 + n))), 300);
        scene.fetch("unrequested blocks").await;
    };
    let twice = async {
        let scene = Scene::new(6).await;
        let data = scene.data.clone();
        scene
            .evil
            .answer(move |message| {
                let found: Vec<Bytes> =
                    asked(&message).iter().filter_map(|cid| data.get(cid).cloned()).collect();
                Ok(vec![blocks(found.clone()), blocks(found.clone()), blocks(found)])
            })
            .await;
        scene.fetch("each three times").await;
    };
    future::join3(wrong, flood, twice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sends_no_messages_is_passed_over() {
    let mut oversized = BytesMut::new();
    oversized.put_slice(&[0xff, 0xff, 0xff, 0x7f]);
    oversized.put_bytes(0, 1 << 20);
    let mut truncated = BytesMut::from(&[0x80, 0x80, 0x10][..]);
    truncated.put_bytes(7, 1000);
    let cases: Vec<(&str, Bytes, bool)> = vec![
        ("oversized", oversized.freeze(), false),
        ("truncated", truncated.freeze(), true),
        ("garbage", noise(100_000, 3000), false),
        ("empty messages", Bytes::from(vec![0; 50_000]), false),
        ("text", Bytes::from_static(b"HTTP/1.1 404 Not Found\r\n\r\n<html>"), true),
    ];
    let runs = cases.into_iter().zip(10..).map(|((what, bytes, close), seed)| async move {
        let scene = Scene::new(seed).await;
        let answer = move |_| {
            let pieces = vec![bytes.clone()];
            if close { Err(pieces) } else { Ok(pieces) }
        };
        scene.evil.answer(answer).await;
        scene.fetch(what).await;
    });
    future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_goes_away_or_trickles_is_passed_over() {
    let trickles = async {
        let scene = Scene::new(20).await;
        scene.evil.answer(|_| Ok(Vec::new())).await;
        // A block field that fills the largest message.
        let mut head = BytesMut::from(&[0x80, 0x80, 0x80, 0x02, 0x1a][..]);
        head.put_slice(&[0xf0, 0xff, 0xff, 0x01]);
        head.put_bytes(0, 300_000);
        assert_eq!(MAX_MESSAGE, 4 << 20);
        let rest = std::iter::repeat(Bytes::from_static(&[0; 10]));
        let pieces = std::iter::once(head.freeze()).chain(rest);
        let stream = scene.evil.stream(&scene.me).await;
        tokio::spawn(trickle(stream, pieces, Duration::from_millis(100)));
        scene.fetch("an endless message").await;
    };
    let gone = [false, true].map(|promises| async move {
        let scene = Scene::new(21).await;
        let network = scene.evil.network.clone();
        scene
            .evil
            .answer(move |message| {
                let network = network.clone();
                tokio::spawn(async move { network.close().await });
                let have = presences(asked(&message), Presence::Have);
                // Half a block message, perhaps.
                let half = blocks([noise(SIZE, 21)]);
                Ok(if promises { vec![have, half.slice(..SIZE / 2)] } else { Vec::new() })
            })
            .await;
        scene.fetch("goes away").await;
    });
    let silent = async {
        let scene = Scene::new(22).await;
        // It speaks the protocol and reads nothing at all.
        let network = &scene.evil.network;
        let protocol = libp2p::StreamProtocol::new(tabpeer::exchange::bitswap::message::PROTOCOL);
        let _unread = network.accept(protocol).await.expect("accepts");
        scene.fetch("reads nothing").await;
    };
    future::join3(trickles, future::join_all(gone), silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_only_a_liar_could_answer_ends_with_a_reason_and_others_go_on() {
    let (honest, evil) = future::join(Node::listening(), Evil::new()).await;
    let missing = *Block::encode(cid::Version::V1, RAW, noise(SIZE, 31)).cid();
    evil.answer(|message| Ok(vec![presences(asked(&message), Presence::Have)])).await;
    let databases = Arc::new(MemoryDatabases::default());
    let peer = Peer::open(PeerConfig::default(), databases).await.expect("opens");
    peer.dial(evil.address()).await.expect("connects");
    let started = time::Instant::now();
    let lied_to = peer.get_file(missing, Some(evil.id()), GetOptions::default());
    let other = async {
        let kept = honest.put([noise(1_000_000, 32)]).await[0];
        peer.dial(honest.address.clone().expect("it listens")).await.expect("connects");
        get(&peer, kept, Some(honest.network.peer_id())).await.expect("comes all the same")
    };
    let both = time::timeout(Duration::from_secs(40), future::join(lied_to, other));
    let (lied_to, other) = both.await.expect("in time");
    assert_eq!(other.len(), 1_000_000);
    let error = lied_to.expect_err("nobody has it");
    println!("after {:?}: {error}", started.elapsed());
    assert_eq!(error.code(), "NOT_FOUND");
    assert!(error.to_string().contains(&evil.id().to_string()), "{error}");
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}
