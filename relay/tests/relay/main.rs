//! The relay as its users meet it: over HTTP, through a circuit, by WebTransport and as a program.

mod binary;
mod circuit;
mod content;
mod dht;
mod gateway;
mod http;
mod ping;
mod webtransport;

use tabpeer_relay::{Relay, RelayConfig};
use tempfile::TempDir;

/// A relay on free ports of the loopback interface; the folder lives as long as the key in it is needed.
pub async fn start() -> (Relay, TempDir) {
    start_with(|_| {}).await
}

pub async fn start_with(change: impl FnOnce(&mut RelayConfig)) -> (Relay, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let mut config = RelayConfig::loopback(data.path());
    change(&mut config);
    (Relay::start(config).await.unwrap(), data)
}

/// The relay's address that contains `part`.
pub fn address_with(relay: &Relay, part: &str) -> libp2p::Multiaddr {
    let addresses = relay.addresses();
    let found = addresses.iter().find(|address| address.to_string().contains(part));
    found.unwrap_or_else(|| panic!("no {part} in {addresses:?}")).clone()
}
