//! The network in a browser, as far as it goes without anybody to talk to.
#![cfg(target_family = "wasm")]

use futures::{AsyncReadExt, AsyncWriteExt, future::join};
use libp2p::{PeerId, StreamProtocol, identity::Keypair};
use tabpeer::{
    network::{Network, NetworkConfig, NetworkError, OnlineOutcome, PeerStreams, RelayState},
    platform::{
        Carrier,
        nearby::Search,
        time::{Duration, timeout},
    },
};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

const PATIENCE: Duration = Duration::from_secs(30);
/// A port that browsers connect to and nobody listens on.
const CLOSED: &str = "127.0.0.1:9399";

fn network(relays: &[&str]) -> Network {
    start(relays, Search { tabs: false, ..Search::default() })
}

fn start(relays: &[&str], search: Search) -> Network {
    let mut config = NetworkConfig::new(Keypair::generate_ed25519());
    config.relays = relays.iter().map(|relay| relay.parse().expect("a relay")).collect();
    config.search = search;
    Network::start(config).expect("starts")
}

#[wasm_bindgen_test]
async fn a_refused_websocket_is_an_error_that_names_its_url() {
    let network = network(&[]);
    let address: libp2p::Multiaddr = "/ip4/127.0.0.1/tcp/9399/ws".parse().expect("an address");
    let error = network.dial(address.clone()).await.expect_err("nobody is there");
    let NetworkError::AddressUnreachable { address: named, reason } = error else {
        panic!("{error}")
    };
    assert_eq!(named, address);
    assert!(reason.contains(&format!("ws://{CLOSED}")), "{reason}");
    network.close().await;
    assert_eq!(network.dial(address).await, Err(NetworkError::Closed));
}

#[wasm_bindgen_test]
async fn a_refused_webtransport_is_an_error_that_names_its_url() {
    let network = network(&[]);
    let hash = "uEiBf0CjVY49fF0cDbcYmLHWo23g3xSrL7X_TDxvzPA1dRg";
    for hashes in ["", &format!("/certhash/{hash}")] {
        let address = format!("/ip4/127.0.0.1/udp/9399/quic-v1/webtransport{hashes}");
        let address: libp2p::Multiaddr = address.parse().expect("an address");
        let error = network.dial(address.clone()).await.expect_err("nobody is there");
        let NetworkError::AddressUnreachable { address: named, reason } = error else {
            panic!("{error}")
        };
        assert_eq!(named, address);
        assert!(reason.contains(&format!("https://{CLOSED}")), "{reason}");
    }
    network.close().await;
}

#[wasm_bindgen_test]
async fn what_a_browser_cannot_dial_is_not_tried() {
    let network = network(&["/ip4/127.0.0.1/tcp/9399", "/ip4/127.0.0.1/tcp/9399/ws"]);
    let OnlineOutcome::AllFailed(reasons) = network.wait_online(PATIENCE).await else {
        panic!("nobody is there")
    };
    assert_eq!(reasons.len(), 2);
    let status = network.status().current();
    assert!(matches!(status.relays[0].state, RelayState::Failed { .. }), "{status:?}");
    assert!(matches!(status.relays[1].state, RelayState::Backoff { .. }), "{status:?}");
    let unknown = PeerId::random();
    let opened = network.open_stream(unknown, StreamProtocol::new("/test/1")).await;
    let error = opened.expect_err("nobody is there");
    assert!(matches!(error, NetworkError::PeerUnreachable { peer, .. } if peer == unknown));
    network.close().await;
}

#[wasm_bindgen_test]
async fn a_relay_url_that_does_not_answer_is_an_error_that_names_it() {
    let url = format!("http://{CLOSED}");
    let network = network(&[&url]);
    let OnlineOutcome::AllFailed(reasons) = network.wait_online(PATIENCE).await else {
        panic!("nobody is there")
    };
    assert!(reasons[0].1.contains(&url), "{reasons:?}");
    network.close().await;
}

/// As two tabs do; here they are two peers of one page.
#[wasm_bindgen_test]
async fn tabs_find_each_other_and_large_streams_pass_both_ways() {
    const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");
    let [one, other] = [(); 2].map(|()| start(&[], Search::default()));
    let mut incoming = other.accept(ECHO).await.expect("accepted");
    let found = async {
        let mut peers = one.peers();
        while !peers.look().contains_key(&other.peer_id()) {
            peers.changed().await.expect("open");
        }
    };
    timeout(PATIENCE, found).await.expect("found");
    let peers = one.connected_peers().await.expect("open");
    assert_eq!((peers.len(), peers[0].carrier()), (1, Some(Carrier::Tab)));
    assert!(one.status().current().online() && one.status().current().tabs);
    assert_eq!(one.status().current().listen_addresses, []);

    let echo = async {
        let (_, stream) = incoming.next().await.expect("a stream");
        let (reader, mut writer) = stream.split();
        futures::io::copy(reader, &mut writer).await.expect("copied");
        writer.close().await.expect("closed");
    };
    let sent: Vec<u8> = (0..3_000_001_u32).map(|at| (at % 251) as u8).collect();
    let call = async {
        let stream = one.open_stream(other.peer_id(), ECHO).await.expect("opened");
        let (mut reader, mut writer) = stream.split();
        let mut back = Vec::new();
        let write = async {
            writer.write_all(&sent).await.expect("written");
            writer.close().await.expect("closed");
        };
        join(write, reader.read_to_end(&mut back)).await.1.expect("read");
        back
    };
    let ((), back) = timeout(PATIENCE, join(echo, call)).await.expect("in time");
    assert!(back == sent, "other bytes came back than were sent");

    // One that ends is missed at once, long before any ping.
    let mut peers = one.peers();
    other.close().await;
    let missed = async {
        while !peers.look().is_empty() {
            peers.changed().await.expect("open");
        }
    };
    timeout(Duration::from_secs(5), missed).await.expect("missed");
    one.close().await;
}
