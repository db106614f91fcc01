//! What has come of a file or directory that is not whole, kept so that nothing is fetched twice.
//!
//! A root of the store names only what is whole. So what has come is named in *parts*: a root
//! `part/<cid>/<part>` names a node made for it alone, whose links are some of the blocks. A block
//! without links is linked as it is; one with links as the same bytes under its *raw* CID, so that
//! nothing below it is demanded (the store finds a block by either). When the file is whole, one commit
//! names `cache/<cid>` and drops its parts. A directory stays in parts: what its entries name is not
//! here.
//!
//! Everybody who fetches the same root puts into the same [`Download`].

mod scribe;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures::{
    channel::{mpsc, oneshot},
    lock::Mutex as AsyncMutex,
};
use multihash::Multihash;

use self::scribe::{Job, Whole};
use super::{convert, swept::Swept};
use crate::{
    content::{
        block::{Block, Cid, DAG_PB, RAW},
        dagpb::{PbLink, PbNode},
        walk::{Leaves, Walk},
    },
    error::{Error, Result},
    exchange::capabilities::Capabilities,
    platform::{
        task::{self, JoinHandle},
        time::{self, Duration},
    },
    store::{RootChange, Session, Store, StoreError},
};

/// From this size on, what has come is written as a part after [`PART_TIME`], whatever comes meanwhile: a
/// reload of the page may lose that much, and what had no such size.
const TIMED_PART_BYTES: usize = 3 << 20;
const PART_TIME: Duration = Duration::from_secs(2);
/// A part of this size is written at once. The session has written most of its leaves by then; the last MiBs
/// need no batch of their own, they go with the commit.
const PART_BYTES: usize = 127 << 20;
/// A byte of a node counts so often: it stays in memory until its part is written.
const NODE_WEIGHT: usize = 4;
/// Roots of which something is coming, at a time.
const MAX_OPEN: usize = 1 << 14;
/// Most blocks of one part.
const MAX_PART_BLOCKS: usize = 4096;
/// Parts of abandoned downloads that wait to be written; further ones are lost.
const SCRIBE_QUEUE: usize = 64;
/// Blocks of parts that are remembered, for each download; others are written down once more.
const MAX_REMEMBERED: usize = 1 << 16;
/// Nodes read at a time to see that all is there.
const WALK_WINDOW: usize = 64;
/// How roots in the store are called: whole files, and parts of anything.
const WHOLE: &str = "cache/";
const PARTS: &str = "part/";

type Hash = Multihash<64>;

/// The downloads of one peer.
#[derive(Clone)]
pub(super) struct Downloads {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    open: Mutex<Swept<Cid, Weak<Download>>>,
    /// The roots of which there are parts.
    partial: Mutex<HashSet<Cid>>,
    scribe: Mutex<mpsc::Sender<Job>>,
    capabilities: Option<Capabilities>,
}

/// What has come of one root.
pub(super) struct Download {
    root: Cid,
    shared: Arc<Shared>,
    state: Arc<AsyncMutex<State>>,
}

struct State {
    part: Part,
    /// What the parts name that are written.
    kept: HashSet<Hash>,
    saving: Option<JoinHandle<Result<(), StoreError>>>,
    /// Parts before this one, and the one whose time runs.
    saved: u64,
    timed: Option<u64>,
    /// Why a part before was not written, for whoever saves next.
    failure: Option<Error>,
    /// Something was not here.
    fetched: bool,
    whole: bool,
}

/// A part in the making.
struct Part {
    session: Session,
    /// Nodes weigh more, see [`NODE_WEIGHT`].
    bytes: usize,
    /// What the part's node links to.
    blocks: Vec<Cid>,
    /// Blocks with links, to be written under their raw CIDs.
    nodes: Vec<Block>,
}

impl Downloads {
    /// `capabilities`: what tells others of what has come.
    pub(super) async fn new(store: Store, capabilities: Option<Capabilities>) -> Result<Self> {
        let parts = store.roots(PARTS).await?;
        let roots = parts.iter().filter_map(|(name, _)| root_of(name)).collect();
        let (scribe, jobs) = mpsc::channel(SCRIBE_QUEUE);
        let (open, partial) = (Mutex::default(), Mutex::new(roots));
        let scribe = Mutex::new(scribe);
        let shared = Arc::new(Shared { store, open, partial, scribe, capabilities });
        task::spawn(scribe::write(Arc::downgrade(&shared), jobs));
        Ok(Self { shared })
    }

    /// All that was fetched, whole or not.
    pub(super) async fn roots(&self) -> Result<Vec<Cid>> {
        let mut roots: Vec<Cid> = lock(&self.shared.partial).iter().copied().collect();
        roots.extend(self.shared.store.roots(WHOLE).await?.into_iter().map(|(_, cid)| cid));
        Ok(roots)
    }

    /// Whether there are parts of `root`.
    pub(super) fn is_partial(&self, root: &Cid) -> bool {
        lock(&self.shared.partial).contains(root)
    }

    /// The download of `root`, joined or begun.
    pub(super) async fn open(&self, root: Cid) -> Result<Arc<Download>> {
        let shared = &self.shared;
        if let Some(running) = lock(&shared.open).get(&root).and_then(Weak::upgrade) {
            return Ok(running);
        }
        let mut kept = HashSet::new();
        if lock(&shared.partial).contains(&root) {
            for (_, part) in shared.store.roots(&parts_of(&root)).await? {
                let Some(node) = shared.store.get(&part).await? else { continue };
                let hashes = node.links().unwrap_or_default().into_iter().map(|cid| *cid.hash());
                kept.extend(hashes.take(MAX_REMEMBERED.saturating_sub(kept.len())));
            }
        }
        let mut open = lock(&shared.open);
        if let Some(running) = open.get(&root).and_then(Weak::upgrade) {
            return Ok(running);
        }
        let part = Part::new(&shared.store);
        let (saving, timed, failure) = (None, None, None);
        let (fetched, whole) = (false, false);
        let state = State { part, kept, saving, saved: 0, timed, failure, fetched, whole };
        let state = Arc::new(AsyncMutex::new(state));
        let download = Arc::new(Download { root, shared: shared.clone(), state });
        let alive = |download: &Weak<Download>| download.strong_count() > 0;
        match open.insert(root, Arc::downgrade(&download), MAX_OPEN, alive) {
            true => Ok(download),
            false => Err(Error::Busy { what: "content is being fetched" }),
        }
    }
}

impl Download {
    /// Takes a block in. `stored`: it was found here; what was not found has to be written, even if a
    /// part names it: it is damaged then.
    pub(super) async fn put(self: &Arc<Self>, block: &Block, stored: bool) -> Result<()> {
        // What is here is kept by whatever named it, or is held when the file becomes whole.
        if stored {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        if state.whole {
            return Ok(());
        }
        state.fetched = true;
        if let Err(error) = state.part.put(block).await {
            // A session that has failed takes nothing more; what it holds must not stay in memory.
            state.part = Part::new(&self.shared.store);
            return Err(error);
        }
        if state.part.bytes >= PART_BYTES || state.part.blocks.len() >= MAX_PART_BLOCKS {
            self.save(&mut state).await?;
        } else if state.part.bytes >= TIMED_PART_BYTES && state.timed != Some(state.saved) {
            state.timed = Some(state.saved);
            task::spawn(save_later(Arc::downgrade(self), state.saved));
        }
        Ok(())
    }

    /// Writes down what has come so far.
    pub(super) async fn keep(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        if !state.part.blocks.is_empty() && !state.whole {
            self.save(&mut state).await?;
        }
        landed(&mut state).await
    }

    /// All has come: names the whole. Fails with [`Error::NotFound`] if a block is missing after all.
    pub(super) async fn finish(&self) -> Result<()> {
        match self.try_finish().await?.first() {
            Some(cid) => Err(convert::missing(cid)),
            None => Ok(()),
        }
    }

    /// Names the whole, unless blocks are missing, which it returns then; there may be more below them.
    pub(super) async fn try_finish(&self) -> Result<Vec<Cid>> {
        let mut state = self.state.lock().await;
        let nothing_new = !state.fetched && !self.is_partial();
        if state.whole || nothing_new {
            return Ok(Vec::new());
        }
        landed(&mut state).await?;
        // It stays in its place: whoever waits for this may be gone at any moment.
        let State { part, kept, .. } = &mut *state;
        let held = self.hold_nodes(&mut part.session, kept).await;
        if !held.as_ref().is_ok_and(Vec::is_empty) {
            if held.is_err() {
                state.part = Part::new(&self.shared.store);
            }
            return held;
        }
        let part = std::mem::replace(&mut state.part, Part::new(&self.shared.store));
        let (reply, written) = oneshot::channel();
        let whole = Whole { root: self.root, session: part.session, reply };
        // A sender that has sent nothing yet has room for one.
        let mut scribe = lock(&self.shared.scribe).clone();
        scribe.try_send(Job::Whole(whole)).map_err(|_| Error::Closed)?;
        written.await.map_err(|_| Error::Closed)??;
        state.whole = true;
        Ok(Vec::new())
    }

    fn is_partial(&self) -> bool {
        lock(&self.shared.partial).contains(&self.root)
    }

    /// Puts all nodes of the file into the session, as what they are, and sees that every leaf is here.
    /// Returns what is not.
    async fn hold_nodes(&self, session: &mut Session, kept: &HashSet<Hash>) -> Result<Vec<Cid>> {
        let (root, store) = (self.root, &self.shared.store);
        let bad = |error| convert::walk_error(root, &error);
        let mut walk = Walk::new(root, Leaves::Skip).map_err(bad)?;
        let mut missing = Vec::new();
        loop {
            let wants = walk.wants(WALK_WINDOW);
            if wants.is_empty() {
                break;
            }
            for (cid, block) in wants.iter().zip(store.get_many(&wants).await?) {
                let Some(block) = block else {
                    missing.push(*cid);
                    continue;
                };
                walk.supply(&block).map_err(bad)?;
                session.put(block).await?;
            }
        }
        let nodes: HashSet<Cid> = missing.iter().copied().collect();
        let unsure = |cid: &Cid| {
            !session.contains(cid) && !kept.contains(cid.hash()) && !nodes.contains(cid)
        };
        let leaves: Vec<Cid> = walk.into_found().into_iter().filter(unsure).collect();
        // Held, so that nobody frees it before it is committed.
        for cid in leaves {
            if session.get(&cid).await?.is_none() {
                missing.push(cid);
            }
        }
        Ok(missing)
    }

    /// Starts to write the part, when the one before is written.
    async fn save(&self, state: &mut State) -> Result<()> {
        landed(state).await?;
        let store = self.shared.store.clone();
        let part = std::mem::replace(&mut state.part, Part::new(&store));
        let hashes = part.blocks.iter().map(|cid| *cid.hash());
        let room = MAX_REMEMBERED.saturating_sub(state.kept.len());
        state.kept.extend(hashes.take(room));
        state.saved += 1;
        lock(&self.shared.partial).insert(self.root);
        self.shared.tell(&self.root);
        let root = self.root;
        state.saving = Some(task::spawn(async move { part.write(&store, root).await }));
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let Some(state) = Arc::get_mut(&mut self.state) else { return };
        let state = state.get_mut();
        if !state.part.blocks.is_empty() && !state.whole {
            let part = std::mem::replace(&mut state.part, Part::new(&self.shared.store));
            lock(&self.shared.partial).insert(self.root);
            // With a full queue this part is lost, no more.
            let job = Job::Abandoned { root: self.root, part };
            let _ = lock(&self.shared.scribe).try_send(job);
        }
    }
}

impl Part {
    fn new(store: &Store) -> Self {
        let (blocks, nodes) = (Vec::new(), Vec::new());
        Self { session: store.session(), bytes: 0, blocks, nodes }
    }

    async fn put(&mut self, block: &Block) -> Result<()> {
        let cid = *block.cid();
        if self.session.contains(&cid) {
            return Ok(());
        }
        self.session.put(block.clone()).await?;
        let links = cid.codec() == DAG_PB && block.links().is_ok_and(|links| !links.is_empty());
        self.bytes += block.data().len() * if links { NODE_WEIGHT } else { 1 };
        if links {
            self.nodes.push(block.clone());
        }
        self.blocks.push(if links { Cid::new_v1(RAW, *cid.hash()) } else { cid });
        Ok(())
    }

    async fn write(mut self, store: &Store, root: Cid) -> Result<(), StoreError> {
        for node in &self.nodes {
            let cid = Cid::new_v1(RAW, *node.cid().hash());
            if let Ok(digest) = cid.hash().digest().try_into()
                && let Ok(raw) = Block::verify_digest(cid, digest, node.data().clone())
            {
                self.session.put(raw).await?;
            }
        }
        let link = |cid: &Cid| PbLink { cid: *cid, name: String::new(), tsize: 0 };
        let node = PbNode { links: self.blocks.iter().map(link).collect(), data: None };
        let node = Block::encode(cid::Version::V1, DAG_PB, node.encode());
        let name = format!("{}{}", parts_of(&root), node.cid());
        let change = RootChange { name, expected: None, new: Some(*node.cid()) };
        self.session.put(node).await?;
        match store.commit(vec![self.session], vec![change]).await {
            // The same part was written before.
            Err(StoreError::RootConflict { .. }) => Ok(()),
            outcome => outcome,
        }
    }
}

/// Writes the part when its time is up, unless it was written before.
async fn save_later(download: Weak<Download>, part: u64) {
    time::sleep(PART_TIME).await;
    let Some(download) = download.upgrade() else { return };
    let mut state = download.state.lock().await;
    if state.saved != part {
        return;
    }
    // Whatever is put after this starts the time anew.
    state.timed = None;
    if !state.part.blocks.is_empty() && !state.whole {
        state.failure = download.save(&mut state).await.err();
    }
}

/// Waits for the part that is being written.
async fn landed(state: &mut State) -> Result<()> {
    if let Some(failure) = state.failure.take() {
        return Err(failure);
    }
    let Some(saving) = &mut state.saving else { return Ok(()) };
    let saved = saving.await;
    state.saving = None;
    Ok(saved.map_err(|_| Error::Closed)??)
}

impl Shared {
    fn tell(&self, root: &Cid) {
        if let Some(capabilities) = &self.capabilities {
            capabilities.add(root);
        }
    }
}

fn name_of(root: &Cid) -> String {
    format!("{WHOLE}{root}")
}

fn parts_of(root: &Cid) -> String {
    format!("{PARTS}{root}/")
}

fn root_of(name: &str) -> Option<Cid> {
    name.strip_prefix(PARTS)?.split_once('/')?.0.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
