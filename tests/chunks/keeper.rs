//! Keeps the blocks of a download one by one, and counts them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tabpeer::{
    content::{
        block::{Block, Cid, RAW},
        read::{ReadStep, Reader},
    },
    error::Result,
    exchange::chunks::{ChunkKeeper, ChunkStore},
    platform::BoxFuture,
    store::{RootChange, Store},
};

pub struct Keeper {
    pub store: Store,
    kept: Mutex<BTreeMap<Cid, usize>>,
    finished: Mutex<BTreeSet<Cid>>,
}

struct Root(Cid, Arc<Keeper>);

struct Shared(Arc<Keeper>);

impl Keeper {
    pub fn new(store: Store) -> Arc<Self> {
        Arc::new(Self { store, kept: Mutex::default(), finished: Mutex::default() })
    }

    pub fn kept(&self) -> usize {
        self.kept.lock().expect("sound").values().sum()
    }

    pub fn each_kept_once(&self) -> bool {
        self.kept.lock().expect("sound").values().all(|times| *times == 1)
    }

    pub fn finished(&self, root: Cid) -> bool {
        self.finished.lock().expect("sound").contains(&root)
    }

    pub async fn read(&self, root: Cid) -> Bytes {
        let mut reader = Reader::new(root, None).expect("a file");
        let mut out = Vec::new();
        loop {
            match reader.next() {
                ReadStep::Bytes(bytes) => out.extend_from_slice(&bytes),
                ReadStep::Done => return out.into(),
                ReadStep::Wait => {
                    for cid in reader.wants(64) {
                        let block = self.store.get(&cid).await.expect("reads").expect("kept");
                        reader.supply(&block).expect("a file");
                    }
                }
            }
        }
    }
}

pub fn shared(keeper: &Arc<Keeper>) -> Arc<dyn ChunkStore> {
    Arc::new(Shared(keeper.clone()))
}

impl ChunkStore for Shared {
    fn open(&self, root: Cid) -> BoxFuture<Result<Arc<dyn ChunkKeeper>>> {
        let keeper: Arc<dyn ChunkKeeper> = Arc::new(Root(root, self.0.clone()));
        Box::pin(async move { Ok(keeper) })
    }
}

impl ChunkKeeper for Root {
    fn has_many(&self, cids: Vec<Cid>) -> BoxFuture<Result<Vec<bool>>> {
        let store = self.1.store.clone();
        Box::pin(async move { Ok(store.has_many(&cids).await?) })
    }

    fn get(&self, cid: Cid) -> BoxFuture<Result<Option<Block>>> {
        let store = self.1.store.clone();
        Box::pin(async move { Ok(store.get(&cid).await?) })
    }

    fn keep(&self, block: Block) -> BoxFuture<Result<()>> {
        let keeper = self.1.clone();
        Box::pin(async move {
            *keeper.kept.lock().expect("sound").entry(*block.cid()).or_default() += 1;
            let mut session = keeper.store.session();
            let raw = Block::encode(cid::Version::V1, RAW, block.data().clone());
            let (name, new) = (format!("part/{}", raw.cid()), Some(*raw.cid()));
            session.put(raw).await?;
            let root = RootChange { name, expected: None, new };
            Ok(keeper.store.commit(vec![session], vec![root]).await?)
        })
    }

    fn finish(&self) -> BoxFuture<Result<()>> {
        self.1.finished.lock().expect("sound").insert(self.0);
        Box::pin(async { Ok(()) })
    }
}
