//! A protected peer of which no address is known is searched for through peer routing.

use std::pin::pin;

use futures::{StreamExt as _, poll};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, kad, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tabpeer::network::{Network, NetworkError, config::DHT_PROTOCOL};
use tokio::{net::TcpListener, time::timeout};

use super::{PATIENCE, dead_address, keeping::connected, network, start};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
}

/// A server of the DHT, and where it listens.
async fn server() -> (Swarm<Behaviour>, Multiaddr) {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("tcp")
        .with_behaviour(|keypair| {
            let peer = keypair.public().to_peer_id();
            let config = kad::Config::new(StreamProtocol::new(DHT_PROTOCOL));
            let store = kad::store::MemoryStore::new(peer);
            let mut kad = kad::Behaviour::with_config(peer, store, config);
            kad.set_mode(Some(kad::Mode::Server));
            let config = identify::Config::new("test/1".to_owned(), keypair.public());
            Behaviour { identify: identify::Behaviour::new(config), kad }
        })
        .expect("behaviour")
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("valid")).expect("listens");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return (swarm, address);
        }
    }
}

fn run(mut swarm: Swarm<Behaviour>) -> PeerId {
    let id = *swarm.local_peer_id();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    id
}

/// A listener that takes connections and says nothing.
async fn silent() -> (TcpListener, Multiaddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    (listener, format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid"))
}

/// A network that has `server` in its routing table.
async fn client_of(server: PeerId, at: Multiaddr) -> Network {
    let network = network(&[]);
    assert_eq!(network.dial(at).await, Ok(server));
    let dht = StreamProtocol::new(DHT_PROTOCOL);
    timeout(PATIENCE, async {
        while network.supports(server, dht.clone()).await != Ok(Some(true)) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("says what it speaks");
    network
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_only_the_dht_knows_is_found() {
    let (wanted, wanted_at) = server().await;
    let wanted = run(wanted);
    let (mut known, known_at) = server().await;
    known.behaviour_mut().kad.add_address(&wanted, wanted_at);
    let known = run(known);

    let a = client_of(known, known_at).await;
    a.protect(vec![wanted], true).await.expect("room");
    connected(&a, wanted, true).await;
}

/// A peer that is somewhere, and a client of a server that says that it is somewhere else, and who else may be
/// asked, who knows better. What that one says comes second.
async fn lied_to() -> (Network, PeerId, Multiaddr) {
    let (wanted, wanted_at) = server().await;
    let wanted = run(wanted);
    let (mut honest, honest_at) = server().await;
    honest.behaviour_mut().kad.add_address(&wanted, wanted_at.clone());
    let (mut liar, liar_at) = server().await;
    let mut dead = dead_address().await;
    dead.pop(); // the id
    liar.behaviour_mut().kad.add_address(&wanted, dead);
    liar.behaviour_mut().kad.add_address(&run(honest), honest_at);
    let client = client_of(run(liar), liar_at).await;
    (client, wanted, wanted_at.with_p2p(wanted).expect("an address"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_does_not_hide_the_right_one() {
    let found = async {
        loop {
            let (a, wanted, wanted_at) = lied_to().await;
            let found = a.find_peer(wanted).await.expect("some address");
            // On a busy machine the second answer may be late.
            if found.contains(&wanted_at) {
                break;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("finds it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_peer_is_looked_for_until_the_right_answer() {
    let (a, wanted, _) = lied_to().await;
    a.protect(vec![wanted], true).await.expect("room");
    connected(&a, wanted, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_address_is_dialled_although_the_dht_dials_another() {
    let (wanted, wanted_at) = server().await;
    let wanted = run(wanted);
    let (mut known, known_at) = server().await;
    let (silent, silent_at) = silent().await;
    known.behaviour_mut().kad.add_address(&wanted, silent_at);
    let a = client_of(run(known), known_at).await;

    let finder = a.clone();
    tokio::spawn(async move { finder.find_peer(wanted).await });
    let dialled = timeout(PATIENCE, silent.accept()).await.expect("the DHT dials it");
    let given = wanted_at.with_p2p(wanted).expect("an address");
    let mut dial = pin!(a.dial(given));
    assert!(poll!(&mut dial).is_pending());
    a.connected_peers().await.expect("has come to the call, which came before");
    drop((dialled, silent));
    assert_eq!(timeout(PATIENCE, dial).await.expect("in time"), Ok(wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_peer_came_from_is_not_where_it_is() {
    let (a, b) = (start(&[], &["/ip4/127.0.0.1/tcp/0"]), network(&[]));
    let mut status = a.status();
    let listens = status.wait_for(|status| !status.listen_addresses.is_empty());
    let at = listens.await.expect("open").listen_addresses[0].clone();
    assert_eq!(b.dial(at).await, Ok(a.peer_id()));
    connected(&a, b.peer_id(), true).await;
    let b = b.peer_id();
    let found = timeout(PATIENCE, a.find_peer(b)).await.expect("in time");
    assert_eq!(found, Err(NetworkError::PeerNotFound { peer: b }));
}
