//! Peers that break the protocol, over raw streams: others talk all the same.

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, future};
use libp2p::StreamProtocol;
use tabpeer::{
    messaging::direct::{
        Incoming, MAX_FRAME, MAX_INBOUND_STREAMS, MAX_UNTAKEN,
        frame::{Frame, FrameReader},
    },
    network::Stream,
    platform::time,
};

use crate::{CHAT, Node, PATIENCE, json, next, support::noise, values};

/// An honest peer, its victim, and a hostile one that is connected with the victim.
async fn three() -> (Node, Node, Node, Incoming) {
    let nodes = future::join_all((0..3).map(|_| Node::listening())).await;
    let [honest, victim, hostile] = nodes.try_into().unwrap_or_else(|_| panic!("three"));
    honest.dial(&victim).await;
    hostile.dial(&victim).await;
    let incoming = victim.direct.start(CHAT).await.expect("starts");
    (honest, victim, hostile, incoming)
}

async fn open(hostile: &Node, victim: &Node) -> Stream {
    let protocol = StreamProtocol::new(CHAT);
    hostile.network.open_stream(victim.id(), protocol).await.expect("opens")
}

fn data(id: &str, n: usize) -> Bytes {
    Frame::Data { id: id.to_owned(), value: json(n) }.encode()
}

/// The next frame; `None` at the stream's end.
async fn read(stream: &mut Stream, reader: &mut FrameReader) -> Option<Frame> {
    loop {
        let mut byte = [0];
        match time::timeout(PATIENCE, stream.read(&mut byte)).await.expect("an answer") {
            Ok(1..) => {}
            _ => return None,
        }
        if let Some(frame) = reader.read(&mut &byte[..]).expect("a frame") {
            return Some(frame);
        }
    }
}

async fn still_works(honest: &Node, victim: &Node, incoming: &mut Incoming, n: usize) {
    let (sent, value) = future::join(honest.send(victim, json(n)), values(incoming, 1)).await;
    assert_eq!((sent, value), (Ok(()), vec![json(n)]));
}

async fn close(nodes: [&Node; 3]) {
    future::join_all(nodes.map(|node| node.network.close())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_ends_its_stream_only() {
    let (honest, victim, hostile, mut incoming) = three().await;
    let framed = |json: &str| {
        Bytes::from([&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat())
    };
    let whole = data("a", 1);
    let cases = [
        ("noise", noise(100_000, 31), true),
        ("a length above the limit", Bytes::from(vec![0xff; 4]), true),
        ("no JSON", framed("hello"), true),
        ("another type", framed(r#"{"type":"hello","id":"a"}"#), true),
        ("data that is no JSON", framed(r#"{"type":"data","id":"a","data":"ew=="}"#), true),
        ("no data", framed(r#"{"type":"data","id":"a"}"#), true),
        ("a frame cut short", whole.slice(..whole.len() - 3), false),
        ("a length and no more", whole.slice(..4), false),
        ("half a length", whole.slice(..2), false),
        ("nothing", Bytes::new(), false),
        ("a large frame that stays away", (MAX_FRAME as u32).to_be_bytes().to_vec().into(), false),
    ];
    for (n, (what, bytes, ends)) in cases.into_iter().enumerate() {
        let mut stream = open(&hostile, &victim).await;
        // The reset may come before all is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        if ends {
            assert_eq!(read(&mut stream, &mut FrameReader::new()).await, None, "{what}");
        }
        drop(stream);
        still_works(&honest, &victim, &mut incoming, n).await;
    }
    close([&honest, &victim, &hostile]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_without_end_and_takes_no_acks_is_cut_off() {
    let (honest, victim, hostile, mut incoming) = three().await;
    // Nothing of it is taken: only so much is held.
    let mut stream = open(&hostile, &victim).await;
    for n in 0..10 * MAX_UNTAKEN {
        if stream.write_all(&data(&n.to_string(), n)).await.is_err() {
            break;
        }
    }
    let _ = stream.flush().await;
    assert_eq!(read(&mut stream, &mut FrameReader::new()).await, None);
    for n in 0..MAX_UNTAKEN {
        let message = next(&mut incoming).await;
        assert_eq!((message.from, &message.value), (hostile.id(), &json(n)));
    }
    // The same message for ever: it is delivered once, and its acks are bounded.
    let mut stream = open(&hostile, &victim).await;
    stream.write_all(&data("again", 1)).await.expect("written");
    assert_eq!(next(&mut incoming).await.value, json(1));
    let again = data("again", 1).repeat(1000);
    while stream.write_all(&again).await.is_ok() {}
    // More streams than allowed: the oldest makes room.
    let mut streams = Vec::new();
    for _ in 0..2 * MAX_INBOUND_STREAMS {
        let mut stream = open(&hostile, &victim).await;
        stream.flush().await.expect("negotiated");
        streams.push(stream);
    }
    assert_eq!(read(&mut streams[0], &mut FrameReader::new()).await, None);
    let newest = streams.last_mut().expect("some");
    newest.write_all(&data("new", 2)).await.expect("written");
    newest.flush().await.expect("written");
    assert_eq!(next(&mut incoming).await.value, json(2));
    let ack = Frame::Ack { id: "new".to_owned() };
    assert_eq!(read(newest, &mut FrameReader::new()).await, Some(ack));
    still_works(&honest, &victim, &mut incoming, 3).await;
    close([&honest, &victim, &hostile]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_ack_of_what_was_sent_counts_and_a_broken_stream_is_made_good() {
    let (honest, victim, hostile, mut incoming) = three().await;
    let protocol = StreamProtocol::new("/test/evil");
    let mut evil = hostile.network.accept(protocol).await.expect("accepts");
    let sending = victim.direct.clone();
    let to = hostile.id();
    let send = tokio::spawn(async move { sending.send(to, "/test/evil", json(1)).await });
    let accepted = time::timeout(PATIENCE, evil.next()).await;
    let (peer, mut stream) = accepted.expect("in time").expect("a stream");
    assert_eq!(peer, victim.id());
    let frame = read(&mut stream, &mut FrameReader::new()).await.expect("a frame");
    let Frame::Data { id, value } = &frame else { panic!("{frame:?}") };
    assert_eq!(value, &json(1));
    // Ids that are near it, or none of this peer's; and data for what the victim has not started.
    let (epoch, seq) = id.split_once('.').expect("epoch and number");
    let seq: u64 = seq.parse().expect("a number");
    let forged = [format!("{epoch}.{}", seq + 1), format!("{epoch}.0{seq}"), "x".into()];
    for id in forged {
        stream.write_all(&Frame::Ack { id }.encode()).await.expect("written");
    }
    stream.flush().await.expect("written");
    still_works(&honest, &victim, &mut incoming, 1).await;
    assert!(!send.is_finished(), "a forged ack was believed");
    // Reset in the middle of an ack: the same message comes again, on another stream.
    let ack = Frame::Ack { id: id.clone() }.encode();
    let _ = stream.write_all(&ack[..ack.len() / 2]).await;
    let _ = stream.flush().await;
    drop(stream);
    let accepted = time::timeout(PATIENCE, evil.next()).await;
    let (_, mut stream) = accepted.expect("in time").expect("a stream");
    assert_eq!(read(&mut stream, &mut FrameReader::new()).await.as_ref(), Some(&frame));
    stream.write_all(&ack).await.expect("written");
    stream.flush().await.expect("written");
    let outcome = time::timeout(PATIENCE, send).await.expect("in time").expect("no panic");
    assert_eq!(outcome, Ok(()));
    close([&honest, &victim, &hostile]).await;
}
