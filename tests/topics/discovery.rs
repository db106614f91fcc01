//! Peers that no relay names to each other find each other: through the DHT, and by a third.

use std::collections::BTreeSet;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future};
use libp2p::{Multiaddr, PeerId};
use tabpeer::{
    messaging::topics::{
        exchange::{ASK_FLOW, MAX_ADDRESSES, MAX_NAMED, Message, Named, PROTOCOL, TELLER_FLOW},
        rate::{Flow, Rate},
        topic_cid,
    },
    network::{DhtState, Network, NetworkError, PeerStreams as _, RelaySpec, RelayState},
    platform::time::{self, Duration, Instant},
};
use tabpeer_relay::{Relay, RelayConfig};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    PATIENCE, ROOM, json, listening, message, node, nodes, present, publish, subscribe,
    support::{self, by_websocket, relay_again},
};

/// A relay that carries no topics, so it names nobody, or one that serves no DHT.
async fn relay(change: impl FnOnce(&mut RelayConfig)) -> (Relay, TempDir) {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut config = RelayConfig::loopback(data.path());
    change(&mut config);
    (Relay::start(config).await.expect("the relay starts"), data)
}

async fn without_topics() -> (Relay, TempDir) {
    relay(|config| config.gossipsub.enabled = false).await
}

async fn without_dht() -> (Relay, TempDir) {
    relay(|config| config.dht.enabled = false).await
}

fn address(relay: &Relay) -> Multiaddr {
    match by_websocket(relay).remove(0) {
        RelaySpec::Address(address) => address,
        RelaySpec::Url(url) => panic!("{url} is no address"),
    }
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn dht(network: &Network, wanted: DhtState) {
    let mut status = network.status();
    let reached = status.wait_for(|status| status.dht == wanted);
    in_time(&format!("{wanted:?}"), reached).await.expect("open");
}

/// Two peers at different relays, which serve no DHT, and both connected with one that does and that has no
/// place for them.
struct Apart {
    a: Network,
    b: Network,
    relays: [(Relay, TempDir); 3],
}

impl Apart {
    async fn new() -> Self {
        let (at_a, at_b, server) = tokio::join!(without_dht(), without_dht(), without_topics());
        let (a, b) =
            tokio::join!(node(by_websocket(&at_a.0), &[]), node(by_websocket(&at_b.0), &[]));
        for network in [&a, &b] {
            network.dial(address(&server.0)).await.expect("connects");
            dht(network, DhtState::Ready).await;
        }
        Self { a, b, relays: [at_a, at_b, server] }
    }

    async fn end(self) {
        tokio::join!(self.a.close(), self.b.close());
        for (relay, _) in self.relays {
            relay.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_only_the_dht_is_found_on_a_topic() {
    let apart = Apart::new().await;
    let (a, b) = (&apart.a, &apart.b);
    let (mut at_a, mut at_b) = future::join(subscribe(a, ROOM), subscribe(b, ROOM)).await;
    present(&mut at_a, &mut BTreeSet::new(), &[b]).await;
    present(&mut at_b, &mut BTreeSet::new(), &[a]).await;
    // It knows the other now, and the first to hear it need not be subscribed the longest.
    for (from, to) in [(a, &mut at_b), (b, &mut at_a)] {
        assert!(publish(from, ROOM, json("1")).await);
        assert_eq!(message(to).await, (from.peer_id(), json("1")));
    }
    apart.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_found_and_can_be_dialled_where_the_dht_says() {
    let apart = Apart::new().await;
    let (a, b) = (&apart.a, &apart.b);
    // An announcement is not answered, and made when there is an address to announce.
    let found = async {
        loop {
            match b.find_peer(a.peer_id()).await {
                Ok(addresses) => return addresses,
                Err(NetworkError::PeerNotFound { peer }) => assert_eq!(peer, a.peer_id()),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let addresses = in_time("finds", found).await;
    let at = address(&apart.relays[0].0).to_string();
    let circuit = format!("{at}/p2p-circuit/p2p/{}", a.peer_id());
    assert!(addresses.iter().any(|found| found.to_string() == circuit), "{addresses:?}");
    assert_eq!(b.dial(addresses[0].clone()).await, Ok(a.peer_id()));

    let nobody = PeerId::random();
    assert_eq!(b.find_peer(nobody).await, Err(NetworkError::PeerNotFound { peer: nobody }));
    let own = b.peer_id();
    assert_eq!(b.find_peer(own).await, Err(NetworkError::DialSelf(own)));
    apart.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_peer_at_another_relay_is_connected() {
    let apart = Apart::new().await;
    let (a, b) = (&apart.a, &apart.b);
    b.protect(vec![a.peer_id()], true).await.expect("room");
    let mut peers = b.peers();
    let connected = async {
        while !peers.look().contains_key(&a.peer_id()) {
            peers.changed().await.expect("open");
        }
    };
    in_time("connects", connected).await;
    apart.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_at_different_relays_find_each_other_by_a_third() {
    let (first, second) = tokio::join!(without_dht(), without_dht());
    let (at_first, at_second) = (by_websocket(&first.0), by_websocket(&second.0));
    let both = [at_first.clone(), at_second.clone()].concat();
    let (a, b, c) = tokio::join!(node(at_first, &[]), node(both, &[]), node(at_second, &[]));
    // B is at both, not only online.
    let mut status = b.status();
    let reserved = status
        .wait_for(|status| status.relays.iter().all(|relay| relay.state == RelayState::Reserved));
    in_time("is at both", reserved).await.expect("open");
    let (mut at_a, mut at_b, mut at_c) =
        tokio::join!(subscribe(&a, ROOM), subscribe(&b, ROOM), subscribe(&c, ROOM));
    let [mut by_a, mut by_b, mut by_c] = [(); 3].map(|()| BTreeSet::new());
    present(&mut at_b, &mut by_b, &[&a, &c]).await;
    present(&mut at_a, &mut by_a, &[&b, &c]).await;
    present(&mut at_c, &mut by_c, &[&a, &b]).await;
    // They need it no longer.
    b.close().await;
    present(&mut at_a, &mut by_a, &[&c]).await;
    present(&mut at_c, &mut by_c, &[&a]).await;
    assert!(publish(&a, ROOM, json("1")).await);
    // Gossip may bring what came while its way was changing, once.
    assert_eq!(message(&mut at_c).await, (a.peer_id(), json("1")));
    tokio::join!(a.close(), c.close());
    tokio::join!(first.0.stop(), second.0.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_before_the_dht_is_ready_waits_for_it() {
    let (first, data) = support::relay().await;
    let relays = by_websocket(&first);
    first.stop().await;
    let mut config =
        tabpeer::network::NetworkConfig::new(libp2p::identity::Keypair::generate_ed25519());
    config.relays = relays.clone();
    let a = Network::start(config).expect("starts");
    let key = topic_cid("something").hash().to_bytes();
    let nobody = PeerId::random();
    let mut asked = {
        let (provider, finder, key) = (a.clone(), a.clone(), key.clone());
        tokio::spawn(async move {
            let mut providers = finder.providers(key.clone(), 5).await.expect("asks");
            tokio::join!(provider.provide(key), finder.find_peer(nobody), providers.next())
        })
    };
    let mut status = a.status();
    let failed = status.wait_for(|status| status.relays[0].failures > 1);
    assert_eq!(in_time("fails", failed).await.expect("open").dht, DhtState::Bootstrapping);
    assert!(!asked.is_finished());

    let second = relay_again(data.path(), &relays).await;
    a.nudge();
    assert!(in_time("is ready", a.dht_ready()).await);
    let (provided, found, provider) = in_time("is answered", &mut asked).await.expect("no panic");
    assert_eq!(provided, Ok(()));
    assert_eq!(found, Err(NetworkError::PeerNotFound { peer: nobody }));
    assert_eq!(provider, None, "nobody but itself has it");
    a.close().await;
    assert!(!a.dht_ready().await);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_to_wait_for_nothing_waits() {
    let lonely = node(Vec::new(), &[]).await;
    assert!(!in_time("is known", lonely.dht_ready()).await);
    let nobody = PeerId::random();
    let found = in_time("ends", lonely.find_peer(nobody)).await;
    assert_eq!(found, Err(NetworkError::PeerNotFound { peer: nobody }));
    lonely.close().await;

    // Nor with a relay that does not serve the DHT; whoever comes later and does makes it ready.
    let (relay, _data) = without_dht().await;
    let a = node(by_websocket(&relay), &[]).await;
    assert!(!in_time("is known", a.dht_ready()).await);
    let (server, _server_data) = without_topics().await;
    a.dial(address(&server)).await.expect("connects");
    dht(&a, DhtState::Ready).await;
    assert!(a.dht_ready().await);
    a.close().await;
    tokio::join!(relay.stop(), server.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_advertised_until_it_is_left() {
    let (first, data) = support::relay().await;
    let relays = by_websocket(&first);
    let [a, b] = nodes(&relays).await;
    let (kept, left) = future::join(subscribe(&a, "test/kept"), subscribe(&a, "test/left")).await;
    let advertised = async |topic: &str| {
        let key = topic_cid(topic).hash().to_bytes();
        let mut providers = b.providers(key, 5).await.expect("asks");
        providers.next().await == Some(a.peer_id())
    };
    let both = async {
        while !advertised("test/kept").await || !advertised("test/left").await {
            tokio::task::yield_now().await;
        }
    };
    in_time("is advertised", both).await;
    drop(left);
    let mut topics = a.subscribed_topics();
    let gone = topics.wait_for(|topics| topics.len() == 1);
    drop(in_time("is left", gone).await.expect("open"));

    // One that remembers nothing is told anew of what is still subscribed to.
    first.stop().await;
    let second = relay_again(data.path(), &relays).await;
    a.nudge();
    b.nudge();
    let again = async {
        while !advertised("test/kept").await {
            tokio::task::yield_now().await;
        }
    };
    in_time("is advertised again", again).await;
    assert!(!advertised("test/left").await);
    drop(kept);
    tokio::join!(a.close(), b.close());
    second.stop().await;
}

/// What `peer` answers to these bytes, up to the end of its stream.
async fn answer(network: &Network, peer: PeerId, bytes: &[u8]) -> Vec<u8> {
    let mut stream = network.open_stream(peer, PROTOCOL).await.expect("it is spoken");
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        stream.read_to_end(&mut answer).await
    };
    // A reset is an end as well.
    let _ = in_time("ends", exchange).await;
    answer
}

/// What may have been let through since then.
fn at_most(flow: Flow, since: Instant) -> usize {
    let Rate { per_second, burst } = flow.messages;
    burst as usize + per_second as usize * (since.elapsed().as_secs() as usize + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_about_other_topics_or_says_nonsense_learns_nothing() {
    let ((victim, at), (neighbour, _)) = future::join(listening(), listening()).await;
    neighbour.dial(at.clone()).await.expect("connects");
    let hostile = node(Vec::new(), &[]).await;
    hostile.dial(at).await.expect("connects");
    let (mut at_victim, _at_neighbour) =
        future::join(subscribe(&victim, ROOM), subscribe(&neighbour, ROOM)).await;
    present(&mut at_victim, &mut BTreeSet::new(), &[&neighbour]).await;

    let ask = |topic: &str| Message { topic: topic.to_owned(), peers: Vec::new() }.encode();
    let victim_id = victim.peer_id();
    assert_eq!(answer(&hostile, victim_id, &ask("test/other")).await, b"");
    for garbage in [&[0xff; 64][..], &[0xff, 0xff, 0x7f], &[3, 1, 2, 3], &[0]] {
        assert_eq!(answer(&hostile, victim_id, garbage).await, b"");
    }
    // Who asks about the right one is told, by the same peer as before.
    let told = answer(&hostile, victim_id, &ask(ROOM)).await;
    let told = Message::decode(told[1..].to_vec()).or_else(|_| Message::decode(told[2..].to_vec()));
    let told = told.expect("an answer");
    assert_eq!(told.topic, ROOM);
    assert!(told.peers.iter().all(|named| named.peer == neighbour.peer_id()), "{told:?}");
    // And not without end.
    let (mut answered, started) = (0, Instant::now());
    for _ in 0..100 {
        answered += usize::from(!answer(&hostile, victim_id, &ask(ROOM)).await.is_empty());
    }
    assert!(answered <= at_most(ASK_FLOW, started), "{answered} of 100 were answered at once");
    publish(&neighbour, ROOM, json("1")).await;
    assert_eq!(message(&mut at_victim).await, (neighbour.peer_id(), json("1")));
    tokio::join!(victim.close(), neighbour.close(), hostile.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_causes_few_dials() {
    let (victim, at) = listening().await;
    let hostile = node(Vec::new(), &[]).await;
    hostile.dial(at).await.expect("connects");
    let _at_victim = subscribe(&victim, ROOM).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let target: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid");
    let lies = || {
        let liar =
            |_| Named { peer: PeerId::random(), addresses: vec![target.clone(); MAX_ADDRESSES] };
        let peers = (0..MAX_NAMED).map(liar).collect();
        Message { topic: ROOM.to_owned(), peers }.encode()
    };
    let started = Instant::now();
    for _ in 0..40 {
        answer(&hostile, victim.peer_id(), &lies()).await;
    }
    // Nobody answers there, and no more dials are made than one teller is believed.
    let mut dials = Vec::new();
    while let Ok(Ok((dial, _))) = time::timeout(Duration::from_secs(3), listener.accept()).await {
        dials.push(dial);
    }
    let most = at_most(TELLER_FLOW, started);
    assert!((1..=most).contains(&dials.len()), "{} dials of 640 lies", dials.len());
    tokio::join!(victim.close(), hostile.close());
}
