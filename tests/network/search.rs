//! A protected peer of which no address is known is searched for through peer routing.

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, kad, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tabpeer::network::config::DHT_PROTOCOL;

use super::{PATIENCE, keeping::connected, network};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_only_the_dht_knows_is_found() {
    let (wanted, wanted_at) = server().await;
    let wanted = run(wanted);
    let (mut known, known_at) = server().await;
    known.behaviour_mut().kad.add_address(&wanted, wanted_at);
    let known = run(known);

    let a = network(&[]);
    assert_eq!(a.dial(known_at).await, Ok(known));
    let dht = StreamProtocol::new(DHT_PROTOCOL);
    tokio::time::timeout(PATIENCE, async {
        while a.supports(known, dht.clone()).await != Ok(Some(true)) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("says what it speaks");
    a.protect(vec![wanted], true).await.expect("room");
    connected(&a, wanted, true).await;
}
