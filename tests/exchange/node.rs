//! A peer made of its parts: network, store, Bitswap.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use cid::Version;
use libp2p::{Multiaddr, PeerId};
use tabpeer::{
    content::block::{Block, Cid, RAW},
    exchange::bitswap::{Bitswap, Session, SessionEvent},
    network::{Network, RelaySpec},
    platform::{database::Databases, memory::MemoryDatabases, time},
    store::{RootChange, Store},
};

use crate::{PATIENCE, support::network};

#[derive(Debug)]
pub struct Node {
    pub network: Network,
    pub store: Store,
    pub bitswap: Bitswap,
    /// Where it listens.
    pub address: Option<Multiaddr>,
}

impl Node {
    /// Reachable by TCP.
    pub async fn listening() -> Self {
        Self::listening_on(&MemoryDatabases::default()).await
    }

    /// Reachable through a relay only.
    pub async fn at(relays: Vec<RelaySpec>) -> Self {
        Self::with(&MemoryDatabases::default(), network(relays, &[]).await).await
    }

    /// Reachable by TCP, and with its blocks in `databases`.
    pub async fn listening_on(databases: &dyn Databases) -> Self {
        Self::with(databases, network(Vec::new(), &["/ip4/127.0.0.1/tcp/0"]).await).await
    }

    async fn with(databases: &dyn Databases, network: Network) -> Self {
        let address = network.status().current().listen_addresses.first().cloned();
        let database = databases.open("test".into()).await.expect("opens");
        let store = Store::open(database).await.expect("opens");
        let bitswap = Bitswap::start(Arc::new(network.clone()), store.clone()).await;
        Self { network, store, bitswap: bitswap.expect("starts"), address }
    }

    /// Stores each of `pieces` as a raw block under a root of its own.
    pub async fn put(&self, pieces: impl IntoIterator<Item = Bytes>) -> Vec<Cid> {
        let mut session = self.store.session();
        let (mut cids, mut roots) = (Vec::new(), Vec::new());
        for piece in pieces {
            let block = Block::encode(Version::V1, RAW, piece);
            cids.push(*block.cid());
            session.put(block).await.expect("puts");
        }
        for cid in &cids {
            let name = format!("test/{cid}");
            let expected = self.store.root(&name).await.expect("reads");
            roots.push(RootChange { name, expected, new: Some(*cid) });
        }
        self.store.commit(vec![session], roots).await.expect("commits");
        cids
    }

    /// A session that may ask `providers`.
    pub fn session(&self, providers: &[&Node]) -> Session {
        let session = self.bitswap.session().expect("opens");
        for provider in providers {
            session.add_provider(provider.network.peer_id(), 1.0);
        }
        session
    }

    pub async fn dial(&self, other: &Node) {
        let address = other.address.clone().expect("it listens");
        self.network.dial(address).await.expect("connects");
    }

    /// Bytes of messages that `to` was sent.
    pub async fn bytes_sent_to(&self, to: &Node) -> u64 {
        self.bitswap.stats().await.get(&to.network.peer_id()).map_or(0, |traffic| traffic.sent)
    }

    pub async fn close(&self) {
        self.network.close().await;
        self.store.close().await;
    }
}

pub fn cid_of(bytes: &Bytes) -> Cid {
    *Block::encode(Version::V1, RAW, bytes.clone()).cid()
}

/// Connects with `providers` and fetches `cids` from them. How many came from whom.
pub async fn fetch_from(node: &Node, cids: &[Cid], providers: &[&Node]) -> BTreeMap<PeerId, usize> {
    for provider in providers {
        if provider.address.is_some() {
            node.dial(provider).await;
        }
    }
    run(node.session(providers), cids).await
}

/// Fetches `cids` from whoever is connected.
pub async fn fetch(node: &Node, cids: &[Cid]) -> BTreeMap<PeerId, usize> {
    run(node.session(&[]), cids).await
}

async fn run(mut session: Session, cids: &[Cid]) -> BTreeMap<PeerId, usize> {
    let mut missing: BTreeSet<Cid> = cids.iter().copied().collect();
    let mut from_whom = BTreeMap::new();
    session.want(cids.to_vec()).await;
    let all = async {
        while !missing.is_empty() {
            match session.next().await.expect("open") {
                SessionEvent::Block { block, from } => {
                    assert!(missing.remove(block.cid()), "came twice, or was not asked for");
                    *from_whom.entry(from).or_default() += 1;
                }
                SessionEvent::Exhausted { .. } => {}
            }
        }
    };
    time::timeout(PATIENCE, all).await.expect("all blocks come");
    from_whom
}
