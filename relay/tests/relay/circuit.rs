//! Two peers that reach each other only through the relay.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, StreamProtocol, Swarm, identity, noise, relay, tcp, yamux};
use tabpeer_relay::Relay;
use tokio::task::JoinHandle;

use crate::{address_with, start, start_with};

const ECHO: StreamProtocol = StreamProtocol::new("/echo/1");
const LENGTH: usize = 2 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: relay::client::Behaviour,
    stream: libp2p_stream::Behaviour,
}

fn peer() -> Swarm<Behaviour> {
    let key = identity::Keypair::generate_ed25519();
    let id = key.public().to_peer_id();
    let (circuits, relay) = relay::client::new(id);
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default());
    let transport = circuits
        .or_transport(libp2p_websocket::Config::new(tcp()))
        .or_transport(tcp())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let behaviour = Behaviour { relay, stream: libp2p_stream::Behaviour::new() };
    let config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
    Swarm::new(transport, behaviour, id, config)
}

fn run(mut swarm: Swarm<Behaviour>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    })
}

/// Reserves a place at `relay` and echoes whatever comes.
async fn reserve(relay: &Multiaddr) -> (PeerId, Multiaddr, JoinHandle<()>) {
    let mut swarm = peer();
    let id = *swarm.local_peer_id();
    let mut incoming = swarm.behaviour().stream.new_control().accept(ECHO).unwrap();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            tokio::spawn(async move {
                let (mut read, mut write) = (&mut stream).split();
                futures::io::copy(&mut read, &mut write).await.unwrap();
                write.close().await.unwrap();
            });
        }
    });
    swarm.listen_on(relay.clone().with(Protocol::P2pCircuit)).unwrap();
    let address = loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => break address,
            SwarmEvent::ListenerClosed { reason, .. } => panic!("no reservation: {reason:?}"),
            _ => {}
        }
    };
    (id, address, run(swarm))
}

async fn echo_through(relay: &Relay, part: &str) {
    let through = address_with(relay, part);
    let (listener, address, _running) =
        tokio::time::timeout(PATIENCE, reserve(&through)).await.unwrap();
    // One of the relay's addresses, whichever it named first.
    let via = address.to_string();
    assert!(relay.addresses().iter().any(|known| via.starts_with(&known.to_string())), "{via}");

    let mut swarm = peer();
    let mut control = swarm.behaviour().stream.new_control();
    swarm.dial(through.with(Protocol::P2pCircuit).with(Protocol::P2p(listener))).unwrap();
    let connected = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == listener => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.unwrap();
    let _running = run(swarm);

    let exchange = async {
        let stream = control.open_stream(listener, ECHO).await.unwrap();
        let (mut read, mut write) = stream.split();
        let sent: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
        let mut received = Vec::new();
        let send = async {
            write.write_all(&sent).await.unwrap();
            write.close().await.unwrap();
        };
        futures::join!(send, async { read.read_to_end(&mut received).await.unwrap() });
        assert!(received == sent, "{} bytes came back", received.len());
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mebibytes_both_ways_over_tcp() {
    let (relay, _data) =
        start_with(|config| config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]).await;
    echo_through(&relay, "/tcp/").await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mebibytes_both_ways_over_websocket() {
    let (relay, _data) = start().await;
    echo_through(&relay, "/ws").await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_closes_the_connections() {
    let (relay, _data) = start().await;
    let mut swarm = peer();
    swarm.dial(address_with(&relay, "/ws")).unwrap();
    loop {
        if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
            break;
        }
    }
    let started = std::time::Instant::now();
    let closed = async {
        loop {
            if let SwarmEvent::ConnectionClosed { .. } = swarm.select_next_some().await {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(relay.stop(), closed) }).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
}
