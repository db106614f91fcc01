//! Peers that break the protocol, over raw streams: others are served and fetch all the same, and
//! what the hostile peer can make its victim hold is bounded.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use cid::Version;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, future};
use libp2p::StreamProtocol;
use tabpeer::{
    content::block::{Block, RAW, cid_of},
    exchange::bitswap::message::{
        MAX_MESSAGE, Message, MessageReader, PROTOCOL, RawBlock, WantEntry, WantKind,
    },
    network::{Network, Stream},
    platform::time,
};

use crate::{
    PATIENCE,
    node::{Node, fetch},
    some_blocks,
    support::{network, noise},
};

/// An honest peer, its victim, and a hostile peer that is connected with the victim.
async fn three() -> (Node, Node, Network) {
    let (honest, victim) = future::join(Node::listening(), Node::listening()).await;
    honest.dial(&victim).await;
    let hostile = network(Vec::new(), &[]).await;
    hostile.dial(victim.address.clone().expect("listens")).await.expect("connects");
    (honest, victim, hostile)
}

async fn open(hostile: &Network, victim: &Node) -> Stream {
    let protocol = StreamProtocol::new(PROTOCOL);
    hostile.open_stream(victim.network.peer_id(), protocol).await.expect("opens")
}

async fn send(stream: &mut Stream, message: &Message) -> std::io::Result<()> {
    for piece in message.encode() {
        stream.write_all(&piece).await?;
    }
    stream.flush().await
}

fn want(digest: u64) -> WantEntry {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&digest.to_le_bytes());
    let cid = cid_of(Version::V1, RAW, &bytes);
    WantEntry { cid, priority: 1, kind: WantKind::Block, cancel: false, send_dont_have: true }
}

/// The victim fetches and serves.
async fn still_works(honest: &Node, victim: &Node, seed: u64) {
    let theirs = some_blocks(honest, 4, 50_000, seed).await;
    fetch(victim, &theirs).await;
    let ours = some_blocks(victim, 4, 50_000, seed + 1000).await;
    fetch(honest, &ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_bitswap_ends_its_stream_only() {
    let (honest, victim, hostile) = three().await;
    let truncated = {
        let message = Message { wants: vec![want(1), want(2)], ..Message::default() };
        let bytes = message.encode().concat();
        Bytes::copy_from_slice(&bytes[..bytes.len() - 3])
    };
    let cases: [(&str, Bytes, bool); 5] = [
        ("noise", noise(100_000, 31), true),
        ("a length above the limit", Bytes::from_static(&[0x81, 0x80, 0x80, 0x02]), true),
        ("a length without end", Bytes::from_static(&[0xff; 64]), true),
        ("a field without end", Bytes::from_static(&[3, 0x0a, 0x7f, 0]), true),
        ("a message cut short", truncated, false),
    ];
    for (seed, (what, bytes, reset)) in (100..).zip(cases) {
        let mut stream = open(&hostile, &victim).await;
        // The reset may come before all is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        if reset {
            let mut byte = [0];
            let read = time::timeout(PATIENCE, stream.read(&mut byte));
            assert!(!matches!(read.await.expect(what), Ok(1..)), "{what}");
        } else {
            drop(stream);
        }
        still_works(&honest, &victim, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_do_not_end_take_little_room() {
    const STREAMS: usize = 30;
    let (honest, victim, hostile) = three().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..STREAMS {
        let mut stream = open(&hostile, &victim).await;
        let taken = taken.clone();
        tasks.spawn(async move {
            // The length of the largest message, and most of it.
            stream.write_all(&[0x80, 0x80, 0x80, 0x02]).await?;
            let piece = vec![0; 64 << 10];
            for _ in 0..(MAX_MESSAGE / piece.len()) - 1 {
                stream.write_all(&piece).await?;
                taken.fetch_add(piece.len(), Ordering::Relaxed);
            }
            future::pending::<std::io::Result<()>>().await
        });
    }
    // Until the victim takes no more.
    let mut before = 0;
    loop {
        still_works(&honest, &victim, 200 + before as u64).await;
        let now = taken.load(Ordering::Relaxed);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    let unbounded = STREAMS * MAX_MESSAGE;
    println!("{} MiB of {} MiB were taken", before >> 20, unbounded >> 20);
    assert!(before < unbounded / 2, "{before} bytes of unfinished messages were taken");
    tasks.shutdown().await;
    still_works(&honest, &victim, 299).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_wants_delay_nobody() {
    let (honest, victim, hostile) = three().await;
    let mut stream = open(&hostile, &victim).await;
    let flood = tokio::spawn(async move {
        for round in 0..40 {
            let wants = (0..25_000).map(|n| want(round * 25_000 + n)).collect();
            send(&mut stream, &Message { wants, ..Message::default() }).await.expect("sends");
        }
        stream
    });
    let mut seed = 300;
    while !flood.is_finished() {
        still_works(&honest, &victim, seed).await;
        seed += 1;
    }
    // It is served too, as far as there was room.
    let mut stream = flood.await.expect("ends");
    let mut incoming = hostile.accept(StreamProtocol::new(PROTOCOL)).await.expect("accepts");
    let ours = some_blocks(&victim, 1, 5000, 399).await;
    let wants = vec![WantEntry { cid: ours[0], ..want(0) }];
    send(&mut stream, &Message { wants, full: true, ..Message::default() }).await.expect("sends");
    let served = async {
        loop {
            let (_, mut stream) = incoming.next().await.expect("open");
            let (mut reader, mut buffer) = (MessageReader::new(), vec![0; 64 << 10]);
            while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                reader.push(Bytes::copy_from_slice(&buffer[..len]));
                while let Some(message) = reader.next().expect("a message") {
                    if let Some(block) = message.blocks.first() {
                        return block.data.len();
                    }
                }
            }
        }
    };
    assert_eq!(time::timeout(PATIENCE, served).await.expect("is answered"), 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_nobody_asked_for_are_dropped() {
    let (honest, victim, hostile) = three().await;
    let unasked = noise(1 << 20, 41);
    let block = Block::encode(Version::V1, RAW, unasked);
    let mut stream = open(&hostile, &victim).await;
    let flood = Message { blocks: vec![RawBlock::from(&block); 3], ..Message::default() };
    let flood = tokio::spawn(async move {
        for _ in 0..8 {
            send(&mut stream, &flood).await?;
        }
        stream.close().await
    });
    let mut seed = 400;
    while !flood.is_finished() {
        still_works(&honest, &victim, seed).await;
        seed += 1;
    }
    flood.await.expect("ends").expect("is read");
    assert!(!victim.store.has(block.cid()).await.expect("reads"));
    // It is not believed when it is asked either: what it names as holder it has not.
    let wanted = some_blocks(&honest, 3, 50_000, 499).await;
    let mut session = victim.bitswap.session().expect("opens");
    session.add_provider(hostile.peer_id(), 10.0);
    session.request(&wanted);
    let mut missing = wanted.len();
    while missing > 0 {
        let event = time::timeout(PATIENCE, session.next()).await.expect("comes").expect("open");
        if let tabpeer::exchange::bitswap::SessionEvent::Block { from, .. } = event {
            assert_eq!(from, honest.network.peer_id());
            missing -= 1;
        }
    }
}
