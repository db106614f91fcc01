//! A source that does as it is told, and a peer that has no other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::StreamExt as _;
use tabpeer::{
    config::PeerConfig,
    content::{
        block::{Block, Cid},
        import::import_bytes,
        layout::Layout,
    },
    error::Result,
    exchange::{
        config::{ExchangeConfig, OwnSources},
        fetch::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
    },
    peer::{ByteStream, Peer},
    platform::{database::Databases, memory::MemoryDatabases},
};

/// What a [`Script`] is told and what it has done.
#[derive(Default)]
pub struct State {
    pub blocks: BTreeMap<Cid, Block>,
    /// How many more blocks it may deliver; `None`: any number.
    pub allowance: Option<usize>,
    /// Says nothing, ever.
    pub silent: bool,
    /// Fails when its allowance is used up.
    pub dies: bool,
    pub asked: Vec<Cid>,
    pub cancelled: Vec<Cid>,
    pub opened: usize,
    pub closed: usize,
    pub requests: Vec<FetchRequest>,
    wakers: Vec<Waker>,
}

#[derive(Clone)]
pub struct Script {
    kind: SourceKind,
    name: &'static str,
    pub state: Arc<Mutex<State>>,
}

impl Script {
    pub fn new(kind: SourceKind, name: &'static str, blocks: &[Block]) -> Self {
        let blocks = blocks.iter().map(|block| (*block.cid(), block.clone())).collect();
        Self { kind, name, state: Arc::new(Mutex::new(State { blocks, ..State::default() })) }
    }

    pub fn set(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().expect("lock");
        change(&mut state);
        state.wakers.drain(..).for_each(Waker::wake);
    }

    pub fn get<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock().expect("lock"))
    }

    pub fn asked(&self) -> Vec<Cid> {
        self.get(|state| state.asked.clone())
    }
}

impl Source for Script {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn open(&self, request: &FetchRequest) -> Box<dyn SourceSession> {
        self.set(|state| {
            state.opened += 1;
            state.requests.push(request.clone());
        });
        Box::new(Running { state: self.state.clone(), wanted: VecDeque::new() })
    }
}

struct Running {
    state: Arc<Mutex<State>>,
    wanted: VecDeque<Cid>,
}

impl SourceSession for Running {
    fn want(&mut self, cids: &[Cid]) {
        self.wanted.extend(cids);
        self.state.lock().expect("lock").asked.extend(cids);
    }

    fn cancel(&mut self, cids: &[Cid]) {
        self.wanted.retain(|cid| !cids.contains(cid));
        self.state.lock().expect("lock").cancelled.extend(cids);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SourceEvent>> {
        let mut state = self.state.lock().expect("lock");
        state.wakers.push(cx.waker().clone());
        if state.silent {
            return Poll::Pending;
        }
        if state.allowance == Some(0) {
            if state.dies {
                return Poll::Ready(Some(SourceEvent::Failed { reason: "it died".into() }));
            }
            return Poll::Pending;
        }
        let Some(cid) = self.wanted.pop_front() else { return Poll::Pending };
        Poll::Ready(Some(match state.blocks.get(&cid).cloned() {
            Some(block) => {
                state.allowance = state.allowance.map(|left| left - 1);
                SourceEvent::Block { block, from: None }
            }
            None => SourceEvent::Missing { cids: vec![cid], reason: "it has it not".into() },
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.closed += 1;
        }
    }
}

/// An offline peer with these sources.
pub async fn peer_with(databases: &Arc<MemoryDatabases>, sources: &[&Script]) -> Peer {
    peer_configured(databases, sources, ExchangeConfig::default()).await
}

pub async fn peer_configured(
    databases: &Arc<MemoryDatabases>,
    sources: &[&Script],
    config: ExchangeConfig,
) -> Peer {
    peer_on(databases.clone(), sources, config).await
}

pub async fn peer_on(
    databases: Arc<dyn Databases>,
    sources: &[&Script],
    config: ExchangeConfig,
) -> Peer {
    let own = sources.iter().map(|source| Arc::new((*source).clone()) as Arc<dyn Source>);
    let exchange = ExchangeConfig { own_sources: OwnSources(own.collect()), ..config };
    Peer::open(PeerConfig { exchange, ..PeerConfig::default() }, databases).await.expect("opens")
}

/// Leaves of 1 MiB or less, raw, in a tree of width 8.
pub fn file(bytes: &Bytes, leaf: usize) -> (Vec<Block>, Cid) {
    let layout = Layout::new(leaf, 8, cid::Version::V1, true).expect("a layout");
    let (blocks, root) = import_bytes(layout, bytes);
    (blocks, root.cid)
}

pub async fn collect(mut stream: ByteStream) -> Result<Bytes> {
    let mut out = Vec::new();
    while let Some(piece) = stream.next().await {
        out.extend_from_slice(&piece?);
    }
    Ok(out.into())
}

/// Waits until `done`; for what happens behind the calls.
pub async fn until(mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await.expect("in time");
}
