//! Protected peers, and what a nudge does, over a real relay.

use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use tabpeer::{
    network::{
        Network, NetworkConfig, NetworkError, PeerStreams, RelaySpec, RelayState, Status,
        peer_keeper::MAX_KEPT_PEERS, water_marks::Marks,
    },
    platform::time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::{
    ECHO, PATIENCE, dead_address, network, online,
    relay::{Limits, TestRelay},
};

/// Waits until `network` is connected with `peer`, or is not.
pub async fn connected(network: &Network, peer: PeerId, wanted: bool) {
    let mut peers = PeerStreams::peers(network);
    let settled = async {
        while peers.look().contains_key(&peer) != wanted {
            peers.changed().await.expect("open");
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, settled).await;
    in_time.unwrap_or_else(|_| panic!("connected with {peer}: not {wanted} in time"));
}

fn network_of(keypair: Keypair, relay: &TestRelay) -> Network {
    let mut config = NetworkConfig::new(keypair);
    config.relays = vec![RelaySpec::Address(relay.named(&relay.ws))];
    Network::start(config).expect("starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_peer_is_connected_and_again_when_it_comes_back() {
    let relay = TestRelay::start(Limits::NONE).await;
    let keypair = Keypair::generate_ed25519();
    let id = keypair.public().to_peer_id();
    let a = network(&[relay.named(&relay.tcp)]);
    online(&a, &relay).await;
    // It is not there yet.
    a.protect(vec![id], true).await.expect("room");
    assert_eq!(
        a.status().wait_for(|s| s.protected == [id]).await.map(|s| s.connected_peers),
        Some(1)
    );
    let b = network_of(keypair.clone(), &relay);
    online(&b, &relay).await;
    connected(&a, id, true).await;
    // As a reloaded page does.
    b.close().await;
    connected(&a, id, false).await;
    let b = network_of(keypair, &relay);
    online(&b, &relay).await;
    connected(&a, id, true).await;

    a.protect(vec![id], false).await.expect("open");
    assert_eq!(a.status().current().protected, []);
    b.close().await;
    connected(&a, id, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_peers_meet_again_when_their_relay_comes_back() {
    let relay = TestRelay::start(Limits::NONE).await;
    let (a, b) = (network(&[relay.named(&relay.ws)]), network(&[relay.named(&relay.ws)]));
    online(&a, &relay).await;
    online(&b, &relay).await;
    a.protect(vec![b.peer_id()], true).await.expect("room");
    connected(&a, b.peer_id(), true).await;
    let dead = relay.kill().await;
    connected(&a, b.peer_id(), false).await;
    let _relay = dead.restart().await;
    for network in [&a, &b] {
        network.nudge();
    }
    connected(&a, b.peer_id(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_dead_is_found_out_by_a_nudge() {
    let relay = TestRelay::start(Limits::NONE).await;
    let line = Line::to(&relay.tcp).await;
    let a = network(&[line.address.clone().with(Protocol::P2p(relay.peer_id()))]);
    online(&a, &relay).await;
    // Nothing is closed and nothing gets through, as after a sleep in which the relay forgot this peer.
    line.dead.send_replace(true);
    a.nudge();
    let mut status = a.status();
    let down = status.wait_for(|s| s.relays[0].state != RelayState::Reserved);
    tokio::time::timeout(PATIENCE, down).await.expect("notices").expect("open");
    line.dead.send_replace(false);
    a.nudge();
    let up = status.wait_for(|s| s.reserved().is_some());
    tokio::time::timeout(PATIENCE, up).await.expect("comes back").expect("open");
}

/// A TCP line to somewhere, which can be made to carry nothing.
struct Line {
    address: Multiaddr,
    dead: watch::Sender<bool>,
}

impl Line {
    async fn to(target: &Multiaddr) -> Self {
        let port = target.iter().find_map(|part| match part {
            Protocol::Tcp(port) => Some(port),
            _ => None,
        });
        let target = ("127.0.0.1", port.expect("a TCP address"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let (dead, is_dead) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, is_dead.clone()));
                tokio::spawn(carry(far_in, near_out, is_dead.clone()));
            }
        });
        let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid");
        Self { address, dead }
    }
}

/// What was on its way while the line was dead is lost: so is the connection.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, dead: watch::Receiver<bool>) {
    let mut lost = false;
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        lost |= *dead.borrow();
        if !lost && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_protected_is_said_to_be_so() {
    let a = network(&[dead_address().await]);
    let own = a.protect(vec![a.peer_id()], true).await;
    assert_eq!(own, Err(NetworkError::DialSelf(a.peer_id())));
    let many = (0..=MAX_KEPT_PEERS).map(|_| PeerId::random()).collect();
    let refused = a.protect(many, true).await;
    assert!(matches!(refused, Err(NetworkError::TooMany { limit: MAX_KEPT_PEERS, .. })));
    let some: Vec<PeerId> = (0..MAX_KEPT_PEERS).map(|_| PeerId::random()).collect();
    a.protect(some.clone(), true).await.expect("room");
    a.protect(some.clone(), true).await.expect("the same again");
    assert!(a.protect(vec![PeerId::random()], true).await.is_err());
    a.protect(some, false).await.expect("open");
    a.protect(vec![PeerId::random()], true).await.expect("room again");
    a.close().await;
    assert_eq!(a.protect(vec![PeerId::random()], true).await, Err(NetworkError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_peer_is_dialled_again_where_it_was() {
    let keypair = Keypair::generate_ed25519();
    let (b, address) = listening(&keypair, "/ip4/127.0.0.1/tcp/0".parse().expect("valid")).await;
    let id = b.peer_id();
    let a = network(&[]);
    a.dial(address.clone()).await.expect("dials");
    a.protect(vec![id], true).await.expect("room");
    b.close().await;
    connected(&a, id, false).await;
    let (_b, _) = listening(&keypair, address).await;
    connected(&a, id, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_closed_but_nobody_who_is_needed() {
    let relay = TestRelay::start(Limits::NONE).await;
    let mut config = NetworkConfig::new(Keypair::generate_ed25519());
    config.relays = vec![RelaySpec::Address(relay.named(&relay.ws))];
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("valid")];
    config.marks = Marks { low: 3, high: 5, youth: Duration::ZERO };
    let hub = Network::start(config).expect("starts");
    online(&hub, &relay).await;
    let is_direct = |address: &&Multiaddr| !address.iter().any(|p| p == Protocol::P2pCircuit);
    let mut status = hub.status();
    let listening = |status: &Status| status.listen_addresses.iter().any(|a| is_direct(&a));
    let status = status.wait_for(listening).await.expect("open");
    let address = status.listen_addresses.iter().find(is_direct).cloned().expect("listens");

    let others: Vec<Network> = (0..5).map(|_| network(&[])).collect();
    hub.protect(vec![others[0].peer_id()], true).await.expect("room");
    let mut incoming = hub.accept(ECHO).await.expect("accepts");
    for other in &others[..4] {
        other.dial(address.clone()).await.expect("dials");
        connected(&hub, other.peer_id(), true).await;
    }
    let _stream = others[1].open_stream(hub.peer_id(), ECHO).await.expect("opens");
    let _same = incoming.next().await.expect("comes");
    // With the relay that makes six.
    others[4].dial(address).await.expect("dials");
    for idle in &others[2..] {
        connected(&hub, idle.peer_id(), false).await;
    }
    let left: Vec<PeerId> = PeerStreams::peers(&hub).look().keys().copied().collect();
    let mut needed = vec![relay.peer_id(), others[0].peer_id(), others[1].peer_id()];
    needed.sort_unstable();
    assert_eq!(left, needed);
}

async fn listening(keypair: &Keypair, at: Multiaddr) -> (Network, Multiaddr) {
    let mut config = NetworkConfig::new(keypair.clone());
    config.listen = vec![at];
    let network = Network::start(config).expect("starts");
    let mut status = network.status();
    let listening = status.wait_for(|status| !status.listen_addresses.is_empty()).await;
    (network, listening.expect("open").listen_addresses[0].clone())
}
