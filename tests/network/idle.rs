//! Which connections are closed as idle, and which are not.

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, noise,
    swarm::{ConnectionError, SwarmEvent},
    tcp, yamux,
};
use tabpeer::{network::streams::Behaviour, platform::time::Duration};

use super::PATIENCE;

fn swarm(idle: Duration) -> Swarm<Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("tcp")
        .with_behaviour(|_| Behaviour::default())
        .expect("behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(idle))
        .build()
}

/// A peer that does not close anything by itself.
async fn other() -> (PeerId, Multiaddr) {
    let mut swarm = swarm(PATIENCE);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("valid")).expect("listens");
    let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await else {
        panic!("not listening")
    };
    let id = *swarm.local_peer_id();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (id, address)
}

/// The next peer whose connection is closed as idle.
async fn closed(swarm: &mut Swarm<Behaviour>) -> PeerId {
    let closed = async {
        loop {
            if let SwarmEvent::ConnectionClosed { peer_id, cause, .. } =
                swarm.select_next_some().await
            {
                assert!(matches!(cause, Some(ConnectionError::KeepAliveTimeout)), "{cause:?}");
                return peer_id;
            }
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("closes one")
}

#[tokio::test]
async fn a_kept_peers_connection_stays_although_nothing_uses_it() {
    let (kept, at) = other().await;
    let (plain, plain_at) = other().await;
    let mut swarm = swarm(Duration::from_millis(50));
    swarm.behaviour_mut().keep(kept, true);
    for address in [at, plain_at.clone()] {
        swarm.dial(address).expect("dials");
    }
    assert_eq!(closed(&mut swarm).await, plain);
    // The kept one has had the time in which the other was closed twice.
    swarm.dial(plain_at).expect("dials");
    assert_eq!(closed(&mut swarm).await, plain);
    assert!(swarm.is_connected(&kept));
    swarm.behaviour_mut().keep(kept, false);
    assert_eq!(closed(&mut swarm).await, kept);
}
