//! The network in a browser, as far as it goes without anybody to talk to.
#![cfg(target_family = "wasm")]

use libp2p::{PeerId, StreamProtocol, identity::Keypair};
use tabpeer::{
    network::{Network, NetworkConfig, NetworkError, OnlineOutcome, RelayState},
    platform::time::Duration,
};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

const PATIENCE: Duration = Duration::from_secs(30);
/// A port that browsers connect to and nobody listens on.
const CLOSED: &str = "127.0.0.1:9399";

fn network(relays: &[&str]) -> Network {
    let mut config = NetworkConfig::new(Keypair::generate_ed25519());
    config.relays = relays.iter().map(|relay| relay.parse().expect("a relay")).collect();
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
