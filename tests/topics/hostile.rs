//! Peers that write gossipsub's frames by hand: forged authors, wrong signatures, too much of
//! everything. Whoever they are connected with, and everybody behind it, goes on as before.

use std::collections::BTreeSet;

use futures::AsyncWriteExt as _;
use libp2p::{PeerId, StreamProtocol, identity::Keypair};
use tabpeer::{
    content::varint::{write_bytes, write_uint, write_varint},
    messaging::topics::{
        MAX_MESSAGE, TopicEvent,
        presence::Change,
        roster::{self, Frame},
    },
    network::{Network, Stream},
    platform::time::{self, Duration},
};

use crate::{
    ROOM, json, listening, message, nodes, present, publish, subscribe,
    support::{by_websocket, relay},
};

const MESHSUB: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");

/// A message as gossipsub signs it.
#[derive(Clone, Copy)]
struct Forged<'a> {
    author: PeerId,
    signer: &'a Keypair,
    data: &'a [u8],
    topic: &'a str,
    seqno: u64,
}

impl Forged<'_> {
    fn encode(&self, break_signature: bool) -> Vec<u8> {
        let mut message = Vec::new();
        write_bytes(&mut message, 1, &self.author.to_bytes());
        write_bytes(&mut message, 2, self.data);
        write_bytes(&mut message, 3, &self.seqno.to_be_bytes());
        write_bytes(&mut message, 4, self.topic.as_bytes());
        let signed = [b"libp2p-pubsub:", &*message].concat();
        let mut signature = self.signer.sign(&signed).expect("signs");
        if break_signature {
            signature[7] ^= 1;
        }
        write_bytes(&mut message, 5, &signature);
        message
    }
}

/// A frame of field `number` of an RPC, as often as there are bodies.
fn frame(number: u32, bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut rpc = Vec::new();
    for body in bodies {
        write_bytes(&mut rpc, number, body);
    }
    let mut out = Vec::new();
    write_varint(&mut out, rpc.len() as u64);
    out.extend_from_slice(&rpc);
    out
}

fn subscription(topic: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_uint(&mut out, 1, 1);
    write_bytes(&mut out, 2, topic.as_bytes());
    out
}

async fn open(from: &Network, to: PeerId) -> Stream {
    from.open_stream(to, MESHSUB).await.expect("gossipsub is spoken")
}

/// Sends one frame; whether the other side still reads is its business.
async fn send(stream: &mut Stream, frame: &[u8]) {
    let sending = async {
        stream.write_all(frame).await?;
        stream.flush().await
    };
    let _ = time::timeout(Duration::from_secs(5), sending).await;
}

/// What hostile peers publish on [`ROOM`].
fn forgeries(own: &Keypair, victim: PeerId) -> Vec<Vec<u8>> {
    let me = own.public().to_peer_id();
    let forged = Forged { author: me, signer: own, data: b"\"forged\"", topic: ROOM, seqno: 1 };
    let large = vec![b'7'; MAX_MESSAGE + 1];
    let large_marked = [b"\0bytes\0", &*vec![0; MAX_MESSAGE + 1]].concat();
    vec![
        // Another's name, and a signature of one's own.
        Forged { author: victim, ..forged }.encode(false),
        // One's own name and a broken signature.
        Forged { seqno: 2, ..forged }.encode(true),
        // Honest but too large.
        Forged { data: &large, seqno: 3, ..forged }.encode(false),
        Forged { data: &large_marked, seqno: 4, ..forged }.encode(false),
        // No message at all.
        Vec::new(),
        b"nonsense".to_vec(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn forgeries_are_not_delivered_by_a_neighbour() {
    let ((victim, address), (honest, _)) = futures::future::join(listening(), listening()).await;
    honest.dial(address.clone()).await.expect("connects");
    let key = Keypair::generate_ed25519();
    let mut config = tabpeer::network::NetworkConfig::new(key.clone());
    config.listen = Vec::new();
    let hostile = Network::start(config).expect("starts");
    hostile.dial(address).await.expect("connects");
    let (mut at_victim, mut at_honest) =
        futures::future::join(subscribe(&victim, ROOM), subscribe(&honest, ROOM)).await;
    present(&mut at_honest, &mut BTreeSet::new(), &[&victim]).await;
    let mut stream = open(&hostile, victim.peer_id()).await;
    for (n, forgery) in forgeries(&key, honest.peer_id()).into_iter().enumerate() {
        send(&mut stream, &frame(2, &[forgery])).await;
        let n = json(&n.to_string());
        publish(&honest, ROOM, n.clone()).await;
        assert_eq!(message(&mut at_victim).await, (honest.peer_id(), n));
    }
    // What is no frame of gossipsub's costs the hostile peer its gossip, and nobody else's.
    for garbage in [&[0xff; 20][..], &frame(2, &[vec![0; 2 << 20]])] {
        let mut stream = open(&hostile, victim.peer_id()).await;
        send(&mut stream, garbage).await;
        publish(&honest, ROOM, json("\"still\"")).await;
        assert_eq!(message(&mut at_victim).await, (honest.peer_id(), json("\"still\"")));
    }
    publish(&victim, ROOM, json("\"back\"")).await;
    assert_eq!(message(&mut at_honest).await, (victim.peer_id(), json("\"back\"")));
    tokio::join!(victim.close(), honest.close(), hostile.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_passes_on_no_forgery_and_carries_no_flood_of_topics() {
    let (relay, _data) = relay().await;
    let [a, b] = nodes(&by_websocket(&relay)).await;
    let key = Keypair::generate_ed25519();
    let mut config = tabpeer::network::NetworkConfig::new(key.clone());
    config.relays = by_websocket(&relay);
    let hostile = Network::start(config).expect("starts");
    hostile.wait_online(Duration::from_secs(30)).await;
    let (mut at_a, mut at_b) =
        futures::future::join(subscribe(&a, ROOM), subscribe(&b, ROOM)).await;
    present(&mut at_a, &mut BTreeSet::new(), &[&b]).await;

    let topics: Vec<_> = (0..10_000).map(|n| subscription(&format!("flood/{n}"))).collect();
    let mut stream = open(&hostile, relay.peer_id()).await;
    for some in topics.chunks(200) {
        send(&mut stream, &frame(1, some)).await;
    }
    send(&mut stream, &frame(1, &[subscription(&"long".repeat(1000))])).await;
    for forgery in forgeries(&key, b.peer_id()) {
        send(&mut stream, &frame(2, &[forgery])).await;
    }
    // A topic that nobody wants, and more than one frame may hold.
    let unwanted = |seqno| {
        let me = key.public().to_peer_id();
        Forged { author: me, signer: &key, data: b"1", topic: "test/unwanted", seqno }.encode(false)
    };
    let many: Vec<_> = (10..100).map(unwanted).collect();
    send(&mut stream, &frame(2, &many)).await;

    publish(&b, ROOM, json("1")).await;
    assert_eq!(message(&mut at_a).await, (b.peer_id(), json("1")));
    // Topics that come later are carried all the same.
    let (mut at_a2, at_b2) =
        futures::future::join(subscribe(&a, "test/later"), subscribe(&b, "test/later")).await;
    publish(&b, "test/later", json("2")).await;
    assert_eq!(message(&mut at_a2).await, (b.peer_id(), json("2")));
    // And nothing of all that came through: the next thing that b hears is what a says.
    publish(&a, ROOM, json("3")).await;
    let next = loop {
        match crate::next(&mut at_b).await {
            TopicEvent::Peer(_) => {}
            other => break other,
        }
    };
    assert_eq!(next, TopicEvent::Message { from: a.peer_id(), value: json("3") });
    drop((at_b2, stream));
    tokio::join!(a.close(), b.close(), hostile.close());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_of_a_relay_counts_when_messages_reach_it_and_a_stranger_may_name_a_few() {
    const OTHER: &str = "test/other";
    let ((victim, _), (hostile, address)) = futures::future::join(listening(), listening()).await;
    let mut asked = hostile.accept(roster::PROTOCOL).await.expect("nobody else accepts it");
    victim.dial(address).await.expect("connects");
    let ((mut at_room, mut at_other), on_other) = futures::future::join(
        futures::future::join(subscribe(&victim, ROOM), subscribe(&victim, OTHER)),
        subscribe(&hostile, OTHER),
    )
    .await;
    let (_, mut stream) = asked.next().await.expect("it is asked");
    let names: BTreeSet<PeerId> = (0..100).map(|_| PeerId::random()).collect();
    for (topic, names) in [(ROOM, names.iter().copied().collect()), (OTHER, vec![victim.peer_id()])]
    {
        let frame = Frame { topic: topic.to_owned(), all: true, joined: names, left: Vec::new() };
        send(&mut stream, &frame.encode()).await;
    }
    let known = PeerId::random();
    let joined = Frame { topic: OTHER.to_owned(), all: false, joined: vec![known], left: vec![] };
    send(&mut stream, &joined.encode()).await;
    let next = crate::next(&mut at_other).await;
    assert_eq!(next, TopicEvent::Peer(Change { peer: known, joined: true }));
    assert_eq!(victim.topic_peers(ROOM).await, Ok(vec![]), "nothing would reach them");

    let _on_room = subscribe(&hostile, ROOM).await;
    let mut there = BTreeSet::new();
    while there.len() < 64 {
        match crate::next(&mut at_room).await {
            TopicEvent::Peer(Change { peer, joined: true }) => there.insert(peer),
            other => panic!("{other:?}"),
        };
    }
    let known = victim.topic_peers(ROOM).await.expect("open");
    assert!(there.is_subset(&names) && known.len() == 64);
    drop((on_other, stream));
    tokio::join!(victim.close(), hostile.close());
}
