//! What the native tests share: a real relay in this process, peers over it, and bytes to move.
#![allow(dead_code)] // each test file uses a part of it

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use libp2p::identity::Keypair;
use tabpeer::{
    config::PeerConfig,
    network::{Network, NetworkConfig, OnlineOutcome, RelaySpec},
    peer::{ByteStream, Content, GetOptions, Peer, StoreOptions, Stored},
    platform::{
        memory::MemoryDatabases,
        time::{self, Duration},
    },
};
use tabpeer_relay::{Relay, RelayConfig};

/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A relay on free loopback ports, with its data in a directory that goes away with it.
pub async fn relay() -> (Relay, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("a temporary directory");
    let config = RelayConfig::loopback(data.path());
    (Relay::start(config).await.expect("the relay starts"), data)
}

/// How to reach `relay` by WebSocket, as most browsers do.
pub fn by_websocket(relay: &Relay) -> Vec<RelaySpec> {
    let addresses = relay.addresses();
    let address = addresses.iter().find(|address| {
        let text = address.to_string();
        text.contains("/ws/") && text.contains("/ip4/127.0.0.1/")
    });
    vec![RelaySpec::Address(address.expect("the relay listens on ws").clone())]
}

/// Connected with its relays and listening.
pub async fn network(relays: Vec<RelaySpec>, listen: &[&str]) -> Network {
    let mut config = NetworkConfig::new(Keypair::generate_ed25519());
    let online = !relays.is_empty();
    config.relays = relays;
    config.listen = listen.iter().map(|address| address.parse().expect("valid")).collect();
    let network = Network::start(config).expect("starts");
    if online {
        let outcome = network.wait_online(PATIENCE).await;
        assert!(matches!(outcome, OnlineOutcome::Online(_)), "{outcome:?}");
    }
    if !listen.is_empty() {
        let mut status = network.status();
        let listening = status.wait_for(|status| !status.listen_addresses.is_empty());
        time::timeout(PATIENCE, listening).await.expect("listens").expect("open");
    }
    network
}

pub async fn peer(relays: Vec<RelaySpec>) -> Peer {
    peer_on(relays, Arc::new(MemoryDatabases::default())).await
}

pub async fn peer_on(relays: Vec<RelaySpec>, databases: Arc<MemoryDatabases>) -> Peer {
    let config = PeerConfig { relays, ..PeerConfig::default() };
    Peer::open(config, databases).await.expect("the peer opens")
}

/// `bytes` in pieces of an odd size, as a network or a stream would bring them.
pub fn source(bytes: &Bytes) -> ByteStream {
    let bytes = bytes.clone();
    let starts = (0..bytes.len()).step_by(77_777);
    Box::pin(stream::iter(starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + 77_777))))))
}

pub async fn store(peer: &Peer, path: &str, bytes: &Bytes) -> Stored {
    peer.store_file(path, source(bytes), StoreOptions::default()).await.expect("stored")
}

/// Everything of a file that is stored at `peer`.
pub async fn read(peer: &Peer, cid: tabpeer::content::block::Cid) -> tabpeer::error::Result<Bytes> {
    let mut out = Vec::new();
    let mut stream = peer.read(cid);
    while let Some(piece) = stream.next().await {
        out.extend_from_slice(&piece?);
    }
    Ok(out.into())
}

/// Gets a file and its bytes.
pub async fn get(
    peer: &Peer,
    cid: tabpeer::content::block::Cid,
    from: Option<libp2p::PeerId>,
) -> tabpeer::error::Result<Bytes> {
    match peer.get_file(cid, from, GetOptions::default()).await? {
        Content::File(file) => read(peer, file.cid).await,
        Content::Directory(entries) => panic!("a directory: {entries:?}"),
    }
}

/// Bytes that do not repeat, the same at every run.
pub fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out.into()
}

/// A relay with the identity in `data`, at the WebSocket address of an earlier one.
pub async fn relay_again(data: &std::path::Path, address: &[RelaySpec]) -> Relay {
    let [RelaySpec::Address(address)] = address else { panic!("one address") };
    let mut config = RelayConfig::loopback(data);
    let listen = address.iter().filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_)));
    config.listen = vec![listen.collect()];
    Relay::start(config).await.expect("the relay starts again")
}
