//! Where the gateway's blocks come from: the store and, if the operator wants it, connected peers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cid::Cid;
use tabpeer::content::block::Block;
use tabpeer::exchange::bitswap::{Bitswap, Session, SessionEvent};
use tabpeer::store::{Store, StoreError};

/// Bytes of fetched blocks that are kept for the next who asks.
const CACHE_BYTES: usize = 64 << 20;

/// What all requests share.
#[derive(Clone)]
pub struct Source {
    store: Store,
    peers: Option<Arc<Peers>>,
}

struct Peers {
    bitswap: Bitswap,
    /// For one block.
    patience: Duration,
    cache: Mutex<Cache>,
}

/// What a block is known by, whatever CID it is asked for under.
type Hash = Box<[u8]>;

/// The blocks of one request.
pub struct Blocks {
    source: Source,
    /// Since the first block that was not in the store.
    session: Option<Session>,
}

/// Fetched blocks by hash, the oldest first to go.
#[derive(Default)]
struct Cache {
    blocks: HashMap<Hash, Block>,
    order: VecDeque<Hash>,
    bytes: usize,
}

impl Source {
    /// With `peers`: who else is asked, and for how long.
    pub fn new(store: Store, peers: Option<(Bitswap, Duration)>) -> Self {
        let peers = peers.map(|(bitswap, patience)| {
            Arc::new(Peers { bitswap, patience, cache: Mutex::default() })
        });
        Self { store, peers }
    }

    /// `here`: no peer is asked.
    pub fn blocks(&self, here: bool) -> Blocks {
        let peers = self.peers.clone().filter(|_| !here);
        Blocks { source: Self { store: self.store.clone(), peers }, session: None }
    }
}

impl Blocks {
    pub async fn get(&mut self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        Ok(self.get_many(std::slice::from_ref(cid)).await?.pop().flatten())
    }

    /// Each of `cids`, in their order.
    pub async fn get_many(&mut self, cids: &[Cid]) -> Result<Vec<Option<Block>>, StoreError> {
        let mut found = match self.source.store.get_many(cids).await {
            // As good as not there, and counted as such from now on.
            Err(StoreError::Corrupt { cid }) => {
                tracing::error!(%cid, "a block on the disk is damaged; add it again");
                self.source.store.evict_corrupt(&cid).await?;
                self.source.store.get_many(cids).await?
            }
            found => found?,
        };
        let Some(peers) = self.source.peers.clone() else { return Ok(found) };
        for (cid, block) in cids.iter().zip(&mut found) {
            if block.is_none() {
                *block = lock(&peers.cache).get(cid);
            }
        }
        let missing = cids.iter().zip(&found).filter(|(_, block)| block.is_none());
        let missing: Vec<Cid> = missing.map(|(cid, _)| *cid).collect();
        if !missing.is_empty() {
            let fetched = self.fetch(&peers, missing).await;
            for (cid, block) in cids.iter().zip(&mut found).filter(|(_, block)| block.is_none()) {
                *block = fetched.get(&hash(cid)).and_then(|block| under(cid, block));
            }
        }
        Ok(found)
    }

    /// Those of `missing` that come in time; they are given up as soon as every connected peer has said no.
    async fn fetch(&mut self, peers: &Peers, missing: Vec<Cid>) -> HashMap<Hash, Block> {
        if self.session.is_none() {
            self.session = peers.bitswap.session().ok();
        }
        let Some(session) = &mut self.session else { return HashMap::new() };
        let open = missing.into_iter().map(|cid| (hash(&cid), cid)).collect();
        let mut round = Round { peers, open, refused: HashSet::new(), fetched: HashMap::new() };
        let _ = tokio::time::timeout(peers.patience, round.run(session)).await;
        // What comes now comes too late for this response.
        session.cancel(round.open.into_values().collect()).await;
        round.fetched
    }
}

/// Blocks being asked of the connected peers.
struct Round<'a> {
    peers: &'a Peers,
    /// One CID for each block.
    open: HashMap<Hash, Cid>,
    /// Of these, those that every peer asked has not.
    refused: HashSet<Hash>,
    fetched: HashMap<Hash, Block>,
}

impl Round<'_> {
    async fn run(&mut self, session: &mut Session) {
        session.want(self.open.values().copied().collect()).await;
        while self.refused.len() < self.open.len() {
            let Some(event) = session.next().await else { return };
            self.take(event);
        }
    }

    fn take(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Block { block, .. } => {
                let hash = hash(block.cid());
                self.open.remove(&hash);
                self.refused.remove(&hash);
                lock(&self.peers.cache).insert(&block);
                self.fetched.insert(hash, block);
            }
            SessionEvent::Exhausted { cids } => {
                let refused = cids.iter().map(hash).filter(|hash| self.open.contains_key(hash));
                self.refused.extend(refused);
            }
        }
    }
}

impl Cache {
    fn get(&self, cid: &Cid) -> Option<Block> {
        self.blocks.get(&hash(cid)).and_then(|block| under(cid, block))
    }

    fn insert(&mut self, block: &Block) {
        let key = hash(block.cid());
        if self.blocks.contains_key(&key) {
            return;
        }
        self.bytes += block.data().len();
        self.order.push_back(key.clone());
        self.blocks.insert(key, block.clone());
        while self.bytes > CACHE_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            let len = self.blocks.remove(&oldest).map_or(0, |block| block.data().len());
            self.bytes = self.bytes.saturating_sub(len);
        }
    }
}

fn hash(cid: &Cid) -> Hash {
    cid.hash().to_bytes().into()
}

/// The same bytes under the CID by which they are asked for.
fn under(cid: &Cid, block: &Block) -> Option<Block> {
    if cid == block.cid() {
        return Some(block.clone());
    }
    Block::verify(*cid, block.data().clone()).ok()
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use cid::Version;
    use libp2p::identity::Keypair;
    use libp2p::{PeerId, StreamProtocol};
    use tabpeer::content::block::{DAG_PB, RAW};
    use tabpeer::network::peers::{PeerStreams, Peers, PeersWatch};
    use tabpeer::network::{IncomingStreams, Network, NetworkConfig, NetworkError, Stream};
    use tabpeer::platform::BoxFuture;
    use tabpeer::platform::memory::MemoryDatabase;
    use tokio::sync::watch;

    use super::*;

    /// Below what a peer may take to say what it speaks.
    const AT_ONCE: Duration = Duration::from_secs(2);

    #[test]
    fn the_oldest_blocks_make_room() {
        let mut cache = Cache::default();
        let block = |n: usize| Block::encode(Version::V1, RAW, vec![n as u8; 1 << 20].into());
        for n in 0..70 {
            cache.insert(&block(n));
        }
        assert_eq!((cache.bytes, cache.blocks.len(), cache.order.len()), (CACHE_BYTES, 64, 64));
        assert!(cache.get(block(5).cid()).is_none() && cache.get(block(6).cid()).is_some());
    }

    /// A network of which is told who is connected when the test says so.
    struct Veiled {
        network: Network,
        peers: watch::Receiver<Arc<Peers>>,
    }

    impl PeerStreams for Veiled {
        fn open_stream(
            &self,
            peer: PeerId,
            protocol: StreamProtocol,
        ) -> BoxFuture<Result<Stream, NetworkError>> {
            PeerStreams::open_stream(&self.network, peer, protocol)
        }

        fn accept(
            &self,
            protocol: StreamProtocol,
        ) -> BoxFuture<Result<IncomingStreams, NetworkError>> {
            PeerStreams::accept(&self.network, protocol)
        }

        fn peers(&self) -> PeersWatch {
            PeersWatch::new(self.peers.clone())
        }

        fn peer_id(&self) -> PeerId {
            self.network.peer_id()
        }
    }

    fn network() -> Network {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let config = NetworkConfig { listen, ..NetworkConfig::new(Keypair::generate_ed25519()) };
        Network::start(config).unwrap()
    }

    async fn store() -> Store {
        Store::open(Arc::new(MemoryDatabase::new())).await.unwrap()
    }

    /// A peer with `block`; a source that is connected with it, and who it is told to be connected with:
    /// the peer before it has said anything, and then.
    struct Pair {
        source: Source,
        told: watch::Sender<Arc<Peers>>,
        known: Arc<Peers>,
        _serving: (Network, Bitswap, tabpeer::store::Session),
    }

    impl Pair {
        async fn new(block: &Block) -> Self {
            let serving = network();
            let their_store = store().await;
            let mut session = their_store.session();
            session.put(block.clone()).await.unwrap();
            let theirs = Bitswap::start(Arc::new(serving.clone()), their_store).await.unwrap();
            let mut status = serving.status();
            let listens = status.wait_for(|status| !status.listen_addresses.is_empty()).await;
            let address = listens.unwrap().listen_addresses[0].clone();
            let network = network();
            network.dial(address).await.unwrap();
            let mut peers = network.peers();
            let known = loop {
                let now = peers.current();
                if now.values().any(|info| info.agent.is_some()) {
                    break now;
                }
                peers.changed().await.unwrap();
            };
            let mut strange = (*known).clone();
            for info in strange.values_mut() {
                (info.agent, info.protocols) = (None, Vec::new());
            }
            let (told, peers) = watch::channel(Arc::new(strange));
            let streams = Arc::new(Veiled { network, peers });
            let our_store = store().await;
            let bitswap = Bitswap::start(streams, our_store.clone()).await.unwrap();
            let source = Source::new(our_store, Some((bitswap, Duration::from_secs(20))));
            Self { source, told, known, _serving: (serving, theirs, session) }
        }
    }

    fn dag_pb() -> Block {
        Block::encode(Version::V0, DAG_PB, b"\n\x02\x08\x01".to_vec().into())
    }

    #[tokio::test]
    async fn a_peer_that_has_only_just_connected_is_asked() {
        let block = dag_pb();
        let pair = Pair::new(&block).await;
        let mut blocks = pair.source.blocks(false);
        let mut found = Box::pin(blocks.get(block.cid()));
        // Nothing to be ready for: it must not have given up by then.
        tokio::select! {
            found = &mut found => panic!("it has not waited: {found:?}"),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        pair.told.send_replace(pair.known.clone());
        assert_eq!(found.await.unwrap(), Some(block));
        // What nobody has is given up at once.
        let absent = Block::encode(Version::V1, RAW, b"absent".to_vec().into());
        let answer = tokio::time::timeout(AT_ONCE, blocks.get(absent.cid())).await;
        assert_eq!(answer.expect("at once").unwrap(), None);
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_waited_for_once() {
        let pair = Pair::new(&dag_pb()).await;
        let absent = Block::encode(Version::V1, RAW, b"absent".to_vec().into());
        assert_eq!(pair.source.blocks(false).get(absent.cid()).await.unwrap(), None);
        let mut blocks = pair.source.blocks(false);
        let answer = tokio::time::timeout(AT_ONCE, blocks.get(absent.cid())).await;
        assert_eq!(answer.expect("at once").unwrap(), None);
    }

    #[tokio::test]
    async fn a_block_comes_under_every_cid_that_it_is_asked_for_under() {
        let block = dag_pb();
        let hash = *block.cid().hash();
        let cids = [Cid::new_v1(RAW, hash), *block.cid(), Cid::new_v1(DAG_PB, hash), *block.cid()];
        let pair = Pair::new(&block).await;
        pair.told.send_replace(pair.known.clone());
        // Fetched, and then from the cache.
        for _ in 0..2 {
            let found = pair.source.blocks(false).get_many(&cids).await.unwrap();
            let found: Vec<Option<Cid>> =
                found.iter().map(|b| b.as_ref().map(|b| *b.cid())).collect();
            assert_eq!(found, cids.map(Some));
        }
    }
}
