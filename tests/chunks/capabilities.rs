//! Capabilities between real peers.

use std::sync::Arc;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{StreamProtocol, identity::Keypair};
use tabpeer::{
    content::block::Cid,
    exchange::capabilities::{
        Capabilities, IpfsKind, OwnCapabilities, PROTOCOL, announce::INTERVAL, did::did_of,
    },
    network::{Network, NetworkConfig},
    platform::time,
};

use crate::{
    PATIENCE,
    support::{network, noise},
};

struct Speaker {
    network: Network,
    capabilities: Capabilities,
}

impl Speaker {
    async fn start() -> Self {
        let network = network(Vec::new(), &["/ip4/127.0.0.1/tcp/0"]).await;
        let own = OwnCapabilities {
            gateways: vec!["https://gateway.example".into()],
            bandwidth_limit: Some(1_000_000),
            ..OwnCapabilities::default()
        };
        let capabilities = Capabilities::start(Arc::new(network.clone()), own).await;
        Self { network, capabilities: capabilities.expect("starts") }
    }

    async fn dial(&self, network: &Network) {
        let address = network.status().current().listen_addresses[0].clone();
        self.network.dial(address).await.expect("connects");
    }

    async fn hear(&self, condition: impl Fn(&Capabilities) -> bool) {
        let mut heard = self.capabilities.heard();
        let wait = heard.wait_for(|_| condition(&self.capabilities));
        time::timeout(PATIENCE, wait).await.expect("it is heard").expect("open");
    }
}

fn cid(seed: u64) -> Cid {
    crate::node::cid_of(&noise(100, seed))
}

#[tokio::test]
async fn peers_tell_each_other_what_they_have_and_what_changes() {
    let (a, b) = (Speaker::start().await, Speaker::start().await);
    a.capabilities.set_content(&[cid(1), cid(2)]);
    b.dial(&a.network).await;
    let (a_id, b_id) = (a.network.peer_id(), b.network.peer_id());
    b.hear(|b| b.holders(&cid(1)) == [a_id]).await;
    a.hear(|a| a.of(&b_id).is_some_and(|b| b.content.is_some())).await;
    let said = b.capabilities.of(&a_id).expect("known");
    assert_eq!((said.kind, said.enabled), (IpfsKind::Tabpeer, true));
    assert_eq!(said.did, did_of(&a_id));
    assert_eq!(said.gateways, ["https://gateway.example"]);
    assert_eq!(said.bandwidth_limit, Some(1_000_000));
    assert!(
        b.capabilities.holders(&cid(3)).is_empty() && a.capabilities.holders(&cid(1)).is_empty()
    );

    // A change is told after a while.
    a.capabilities.add(&cid(3));
    a.capabilities.remove(&cid(1));
    time::sleep(time::Duration::ZERO).await;
    tokio::time::pause();
    tokio::time::advance(INTERVAL * 2).await;
    tokio::time::resume();
    b.hear(|b| b.holders(&cid(3)) == [a_id] && b.holders(&cid(1)).is_empty()).await;
    a.network.close().await;
    b.network.close().await;
}

#[tokio::test]
async fn nonsense_is_not_heard_and_others_are() {
    let a = Speaker::start().await;
    let hostile = network(Vec::new(), &["/ip4/127.0.0.1/tcp/0"]).await;
    let address = a.network.status().current().listen_addresses[0].clone();
    hostile.dial(address).await.expect("connects");
    let endless = [0xff, 0xff, 0x7f].as_slice();
    for bytes in [endless, b"\x05wrong", b"\x02\x10\x09", b""] {
        let stream = hostile.open_stream(a.network.peer_id(), StreamProtocol::new(PROTOCOL)).await;
        let mut stream = stream.expect("opens");
        stream.write_all(bytes).await.expect("writes");
        stream.close().await.expect("closes");
        // It is given up at once.
        let read = time::timeout(PATIENCE, stream.read(&mut [0; 8])).await.expect("an end");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    let b = Speaker::start().await;
    b.capabilities.set_content(&[cid(1)]);
    b.dial(&a.network).await;
    let b_id = b.network.peer_id();
    a.hear(|a| a.holders(&cid(1)) == [b_id]).await;
    let said = a.capabilities.of(&hostile.peer_id());
    assert!(said.is_none_or(|said| said.content.is_none()));
}

#[tokio::test]
async fn of_others_the_kind_is_told_from_identify() {
    let a = Speaker::start().await;
    let mut config = NetworkConfig::new(Keypair::generate_ed25519());
    config.agent_version = "kubo/0.22.0/".to_owned();
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
    let kubo = Network::start(config).expect("starts");
    let _bitswap = kubo.accept(StreamProtocol::new("/ipfs/bitswap/1.2.0")).await.expect("accepts");
    let mut status = kubo.status();
    status.wait_for(|status| !status.listen_addresses.is_empty()).await.expect("listens");
    a.dial(&kubo).await;
    let mut peers = tabpeer::network::peers::PeerStreams::peers(&a.network);
    let known = async {
        loop {
            match a.capabilities.of(&kubo.peer_id()) {
                Some(known) => return known,
                None => peers.changed().await.expect("open"),
            };
        }
    };
    let known = time::timeout(PATIENCE, known).await.expect("identified");
    assert_eq!((known.kind, known.enabled, known.content), (IpfsKind::Kubo, true, None));
}
