//! Two networks and a relay on this machine, for real: TCP, WebSocket, circuits.
#![cfg(not(target_family = "wasm"))]

mod idle;
mod keeping;
mod mdns;
mod relay;
mod search;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId, StreamProtocol, identity::Keypair, multiaddr::Protocol};
use relay::{Limits, TestRelay};
use tabpeer::{
    network::{
        Network, NetworkConfig, NetworkError, OnlineOutcome, PeerInfo, RelaySpec, RelayState,
        config,
    },
    platform::time::{Duration, Instant},
};

const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");
const OTHER: StreamProtocol = StreamProtocol::new("/test/other/1");
/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(30);

fn network(relays: &[Multiaddr]) -> Network {
    start(relays, &[])
}

fn start(relays: &[Multiaddr], listen: &[&str]) -> Network {
    let mut config = NetworkConfig::new(Keypair::generate_ed25519());
    config.relays = relays.iter().cloned().map(RelaySpec::Address).collect();
    config.listen = listen.iter().map(|address| address.parse().expect("valid")).collect();
    Network::start(config).expect("starts")
}

async fn online(network: &Network, relay: &TestRelay) {
    let outcome = network.wait_online(PATIENCE).await;
    assert_eq!(outcome, OnlineOutcome::Online(relay.peer_id()));
}

async fn peer(network: &Network, id: PeerId) -> PeerInfo {
    let peers = network.connected_peers().await.expect("open");
    peers.into_iter().find(|peer| peer.id == id).expect("connected")
}

/// An address that refuses connections.
async fn dead_address() -> Multiaddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", PeerId::random()).parse().expect("valid")
}

/// Sends back whatever comes, stream after stream.
async fn serve_echo(network: &Network) {
    let mut incoming = network.accept(ECHO).await.expect("accepts");
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(async move {
                let (reader, mut writer) = stream.split();
                futures::io::copy(reader, &mut writer).await?;
                writer.close().await
            });
        }
    });
}

async fn echoes(network: &Network, peer: PeerId, size: usize) {
    let stream = network.open_stream(peer, ECHO).await.expect("opens");
    let sent: Vec<u8> = (0..size).map(|i| ((i * 31) >> 3) as u8).collect();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(&sent).await?;
        writer.close().await
    };
    let mut received = Vec::new();
    let (written, read) = futures::join!(write, reader.read_to_end(&mut received));
    written.expect("writes");
    read.expect("reads");
    assert!(received == sent, "{} bytes came back of {size}", received.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_meet_through_a_relay_only() {
    let relay = TestRelay::start(Limits::NONE).await;
    // One by WebSocket, the other by TCP and without knowing the relay's id.
    let a = network(&[relay.named(&relay.ws)]);
    let b = network(std::slice::from_ref(&relay.tcp));
    online(&a, &relay).await;
    online(&b, &relay).await;
    for network in [&a, &b] {
        serve_echo(network).await;
    }
    let started = Instant::now();
    tokio::join!(echoes(&a, b.peer_id(), 4 << 20), echoes(&b, a.peer_id(), 4 << 20));
    println!("16 MiB through the relay in {:?}", started.elapsed());

    let seen = peer(&a, b.peer_id()).await;
    assert_eq!((seen.relay, seen.limited, seen.is_relay), (Some(relay.peer_id()), false, false));
    assert_eq!(peer(&b, a.peer_id()).await.relay, Some(relay.peer_id()));
    let its_relay = peer(&a, relay.peer_id()).await;
    assert!(its_relay.is_relay && its_relay.relay.is_none());
    assert!(
        its_relay.address.iter().any(|p| matches!(p, Protocol::Ws(_))),
        "the relay was dialled at {} although only WebSocket was configured",
        its_relay.address
    );
    assert_eq!(its_relay.connections, 1);
    let status = a.status().current();
    assert!(
        status.online()
            && status.listen_addresses.iter().all(|a| a.to_string().contains("p2p-circuit"))
    );
    tokio::join!(a.close(), b.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_found_by_its_signed_record() {
    let relay = TestRelay::start(Limits::NONE).await;
    let by_url = |url: String| {
        let mut config = NetworkConfig::new(Keypair::generate_ed25519());
        config.relays = vec![url.parse().expect("a URL")];
        Network::start(config).expect("starts")
    };
    let a = by_url(relay.serve_record().await);
    online(&a, &relay).await;
    assert_eq!(a.status().current().relays[0].address, Some(relay.ws.clone()));

    for body in ["{}".to_owned(), " ".repeat(1 << 20), String::new()] {
        let url = relay::serve_http("/.well-known/tabpeer.json", body).await;
        let outcome = by_url(url.clone()).wait_online(PATIENCE).await;
        let OnlineOutcome::AllFailed(reasons) = outcome else { panic!("{outcome:?}") };
        assert!(reasons[0].1.contains(&url), "{reasons:?}");
    }
    let elsewhere = relay::serve_http("/elsewhere", String::new()).await;
    let outcome = by_url(elsewhere).wait_online(PATIENCE).await;
    assert!(
        matches!(&outcome, OnlineOutcome::AllFailed(r) if r[0].1.contains("404")),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_with_a_limit_is_known_as_limited_on_both_sides() {
    let relay = TestRelay::start(Limits::SMALL).await;
    let (a, b) = (network(&[relay.named(&relay.tcp)]), network(&[relay.named(&relay.ws)]));
    online(&a, &relay).await;
    online(&b, &relay).await;
    serve_echo(&b).await;
    echoes(&a, b.peer_id(), 100).await;
    assert!(peer(&a, b.peer_id()).await.limited);
    assert!(peer(&b, a.peer_id()).await.limited);
    let limit = a.status().current().relays[0].limit.expect("told");
    assert_eq!(limit.bytes, Some(1 << 17));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_comes_back_is_reserved_again() {
    let relay = TestRelay::start(Limits::NONE).await;
    let (a, b) = (network(&[relay.named(&relay.ws)]), network(&[relay.named(&relay.ws)]));
    online(&a, &relay).await;
    online(&b, &relay).await;
    serve_echo(&b).await;
    echoes(&a, b.peer_id(), 1000).await;

    let dead = relay.kill().await;
    for network in [&a, &b] {
        let mut status = network.status();
        let offline = status
            .wait_for(|s| !s.online() && matches!(s.relays[0].state, RelayState::Backoff { .. }));
        tokio::time::timeout(PATIENCE, offline).await.expect("notices").expect("open");
    }
    let relay = dead.restart().await;
    for network in [&a, &b] {
        network.nudge();
        let mut status = network.status();
        let reserved = status.wait_for(|status| status.reserved().is_some());
        tokio::time::timeout(PATIENCE, reserved).await.expect("comes back").expect("open");
    }
    assert_eq!(a.status().current().relays[0].peer, Some(relay.peer_id()));
    echoes(&a, b.peer_id(), 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_nobody_knows_is_unreachable_soon() {
    let relay = TestRelay::start(Limits::NONE).await;
    let a = network(&[relay.named(&relay.tcp)]);
    online(&a, &relay).await;
    let unknown = PeerId::random();
    let started = Instant::now();
    let error = a.open_stream(unknown, ECHO).await.expect_err("nobody");
    let NetworkError::PeerUnreachable { peer, tried, reason } = error else { panic!("{error}") };
    assert_eq!(peer, unknown);
    assert_eq!(tried.len(), 1, "{tried:?}");
    assert!(!reason.is_empty());
    assert!(started.elapsed() < config::DIAL_TIMEOUT, "took {:?}", started.elapsed());
    let own = a.dial(a.peer_id()).await;
    assert_eq!(own, Err(NetworkError::DialSelf(a.peer_id())));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_relays_it_works_offline() {
    let a = network(&[]);
    assert_eq!(a.wait_online(PATIENCE).await, OnlineOutcome::NoRelays);
    assert!(!a.status().current().online());
    let error = a.open_stream(PeerId::random(), ECHO).await.expect_err("nobody");
    assert!(
        matches!(&error, NetworkError::PeerUnreachable { tried, .. } if tried.is_empty()),
        "{error}"
    );
    assert_eq!(a.connected_peers().await, Ok(vec![]));

    // A direct connection needs no relay.
    let b = start(&[], &["/ip4/127.0.0.1/tcp/0"]);
    let mut status = b.status();
    let listening = status.wait_for(|status| !status.listen_addresses.is_empty()).await;
    let address = listening.expect("open").listen_addresses[0].clone();
    serve_echo(&b).await;
    assert_eq!(a.dial(address).await, Ok(b.peer_id()));
    echoes(&a, b.peer_id(), 1 << 20).await;
    assert!(!peer(&a, b.peer_id()).await.limited);
    assert!(a.status().current().online());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_live_relay_of_two_is_enough() {
    let relay = TestRelay::start(Limits::NONE).await;
    let a = network(&[dead_address().await, relay.named(&relay.tcp)]);
    online(&a, &relay).await;
    let mut status = a.status();
    let settled =
        |s: &tabpeer::network::Status| matches!(s.relays[0].state, RelayState::Backoff { .. });
    let settled = status.wait_for(settled).await.expect("open");
    assert_eq!((&settled.relays[1].state, settled.relays[0].failures), (&RelayState::Reserved, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_relays_fail_the_reasons_are_told() {
    let (dead, useless) =
        (dead_address().await, "/ip4/127.0.0.1/udp/1/quic-v1".parse().expect("valid"));
    let a = network(&[dead.clone(), useless]);
    let OnlineOutcome::AllFailed(reasons) = a.wait_online(PATIENCE).await else { panic!("failed") };
    assert_eq!(reasons.len(), 2);
    assert_eq!(reasons[0].0, dead.to_string());
    assert!(reasons[0].1.to_lowercase().contains("refused"), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_does_not_speak_is_said_to_be_so() {
    let relay = TestRelay::start(Limits::NONE).await;
    let (a, b) = (network(&[relay.named(&relay.tcp)]), network(&[relay.named(&relay.ws)]));
    online(&a, &relay).await;
    online(&b, &relay).await;
    let error = a.open_stream(b.peer_id(), ECHO).await.expect_err("not spoken");
    let expected =
        NetworkError::UnsupportedProtocol { peer: b.peer_id(), protocol: ECHO.to_string() };
    assert_eq!(error, expected);
    serve_echo(&b).await;
    echoes(&a, b.peer_id(), 10).await;
    assert!(b.accept(ECHO).await.is_err(), "accepted once already");
    // identify pushes the new protocol.
    tokio::time::timeout(PATIENCE, async {
        while a.supports(b.peer_id(), ECHO).await != Ok(Some(true)) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("learns what the other speaks");
    assert_eq!(a.supports(b.peer_id(), OTHER).await, Ok(Some(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_takes_are_refused_and_counted() {
    let b = start(&[], &["/ip4/127.0.0.1/tcp/0"]);
    let a = network(&[]);
    let mut status = b.status();
    let listening = status.wait_for(|status| !status.listen_addresses.is_empty()).await;
    a.dial(listening.expect("open").listen_addresses[0].clone()).await.expect("dials");
    let incoming = b.accept(ECHO).await.expect("accepts");
    let mut held = Vec::new();
    for _ in 0..config::INCOMING_QUEUE + 3 {
        held.push(a.open_stream(b.peer_id(), ECHO).await.expect("opens"));
    }
    let mut last = held.pop().expect("some");
    let mut byte = [0];
    assert!(last.read_exact(&mut byte).await.is_err(), "reset");
    assert_eq!(incoming.refused(), 3);
    // What was refused costs nothing once the others are gone.
    drop(held);
    drop(incoming);
    serve_echo(&b).await;
    echoes(&a, b.peer_id(), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_answers_every_call() {
    let relay = TestRelay::start(Limits::NONE).await;
    let a = network(&[relay.named(&relay.tcp)]);
    online(&a, &relay).await;
    // Accepts the connection and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = silent.local_addr().expect("bound").port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid");
    let dial = tokio::spawn({
        let a = a.clone();
        async move { a.dial(address).await }
    });
    let _socket = silent.accept().await.expect("is dialled");
    let mut incoming = a.accept(ECHO).await.expect("accepts");
    let mut status = a.status();

    tokio::time::timeout(config::CLOSE_TIMEOUT * 2, a.close()).await.expect("closes in time");
    assert_eq!(dial.await.expect("ends"), Err(NetworkError::Closed));
    assert!(incoming.next().await.is_none());
    assert_eq!(a.open_stream(relay.peer_id(), ECHO).await.map(drop), Err(NetworkError::Closed));
    assert_eq!(a.connected_peers().await, Err(NetworkError::Closed));
    assert_eq!(a.wait_online(PATIENCE).await, OnlineOutcome::Closed);
    while status.changed().await.is_some() {}
    assert!(status.current().closed && a.is_closed());
    a.close().await;
}
