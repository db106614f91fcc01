//! One file or directory on its way in: the pure readers, fed by a [`Fetch`], and what comes put into a
//! [`Download`] as it comes.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{Peer, ProgressSink, convert, download::Download};
use crate::{
    content::{
        block::{Block, Cid},
        directory::{DirParams, Entry, Tree, TreeError},
        mime,
        path::TreePath,
        profile::Profile,
        read::{MAX_DEPTH, ReadError, ReadStep, Reader, check_supported},
    },
    error::{Error, Result},
    exchange::fetch::{Fetch, FetchRequest, Fetched},
};

/// Bytes of a file asked for ahead of the reader.
const AHEAD: usize = 16 << 20;
/// Blocks asked for before it is known how large they are.
const FIRST_WINDOW: usize = 8;
/// Blocks asked for ahead, at least and at most.
const MIN_WINDOW: usize = 4;
const MAX_WINDOW: usize = 1024;

/// Blocks of one root.
pub(super) struct Incoming {
    root: Cid,
    fetch: Fetch,
    download: Arc<Download>,
    /// The largest leaf so far.
    leaf: usize,
    progress: Arc<dyn ProgressSink>,
    on_full: OnFull,
}

/// What to do when there is no room to keep what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnFull {
    Fail,
    /// Hand it on without keeping it.
    GoOn,
    /// It has come to that.
    Gone,
}

impl Incoming {
    pub(super) async fn start(
        peer: &Peer,
        request: FetchRequest,
        on_full: OnFull,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<Self> {
        let root = request.root;
        // Nobody is asked for what could not be verified.
        check_supported(&root).map_err(|error| convert::read_error(root, &error))?;
        let download = peer.inner.downloads.open(root).await?;
        let fetch = peer.inner.exchange.fetcher.fetch(request);
        Ok(Self { root, fetch, download, leaf: 0, progress, on_full })
    }

    pub(super) fn root(&self) -> Cid {
        self.root
    }

    /// It was looked for a moment ago, and is not stored here.
    pub(super) fn set_absent(&mut self, cid: &Cid) {
        self.fetch.set_absent(cid);
    }

    pub(super) fn report(&self, done: u64, total: Option<u64>) {
        self.progress.report(done, total);
    }

    /// One block.
    pub(super) async fn block(&mut self, cid: Cid) -> Result<Block> {
        let mut found = None;
        self.blocks(&[cid], |block| found = Some(block)).await?;
        found.ok_or_else(|| convert::missing(&cid))
    }

    /// All of `cids`, in any order.
    async fn blocks(&mut self, cids: &[Cid], mut each: impl FnMut(Block)) -> Result<()> {
        self.fetch.want(cids);
        while let Some(block) = self.next().await? {
            each(block);
        }
        Ok(())
    }

    /// The names and CIDs in the directory that the root is.
    pub(super) async fn entries(&mut self) -> Result<BTreeMap<String, Cid>> {
        let entries = self.in_tree(|tree| tree.entries(&TreePath::root())).await?;
        self.keep().await?;
        Ok(entries.into_iter().collect())
    }

    /// What is at `path` below the root.
    pub(super) async fn resolve(&mut self, path: &TreePath) -> Result<Entry> {
        let entry = self.in_tree(|tree| tree.get(path)).await?;
        self.keep().await?;
        Ok(entry)
    }

    /// The file that the root is has all come, but for parts that hold none of its bytes: a reader
    /// does not need them, who is to have the file whole does.
    pub(super) async fn finish(&mut self) -> Result<()> {
        for _ in 0..=MAX_DEPTH {
            if self.on_full == OnFull::Gone {
                return Ok(());
            }
            let missing = match self.download.try_finish().await {
                Ok(missing) => missing,
                Err(error) => return self.unless_full(Err(error)),
            };
            if missing.is_empty() {
                return Ok(());
            }
            for cid in &missing {
                check_supported(cid).map_err(|error| convert::read_error(self.root, &error))?;
            }
            for some in missing.chunks(MAX_WINDOW) {
                self.blocks(some, |_| ()).await?;
            }
        }
        Err(convert::read_error(self.root, &ReadError::TooDeep { cid: self.root }))
    }

    /// Writes down what has come.
    pub(super) async fn keep(&mut self) -> Result<()> {
        if self.on_full == OnFull::Gone {
            return Ok(());
        }
        let kept = self.download.keep().await;
        self.unless_full(kept)
    }

    async fn put(&mut self, block: &Block, stored: bool) -> Result<()> {
        if self.on_full == OnFull::Gone {
            return Ok(());
        }
        let put = self.download.put(block, stored).await;
        self.unless_full(put)
    }

    fn unless_full(&mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(Error::QuotaExceeded) if self.on_full == OnFull::GoOn => {
                self.on_full = OnFull::Gone;
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn in_tree<T>(
        &mut self,
        mut step: impl FnMut(&mut Tree) -> Result<T, TreeError>,
    ) -> Result<T> {
        let root = self.root;
        let mut tree = Tree::open(root, DirParams::from(Profile::default()));
        loop {
            let need = match step(&mut tree) {
                Ok(value) => return Ok(value),
                Err(TreeError::Need(need)) => need,
                Err(error) => return Err(convert::tree_error(root, error)),
            };
            let mut blocks = Vec::with_capacity(need.len());
            self.blocks(&need, |block| blocks.push(block)).await?;
            for block in blocks {
                tree.supply(&block).map_err(|error| convert::tree_error(root, error))?;
            }
        }
    }

    /// The next block that was wanted; what else comes is put away. `None`: nothing is wanted.
    async fn next(&mut self) -> Result<Option<Block>> {
        let root = self.root;
        loop {
            let next = self.fetch.next().await;
            match next.map_err(|error| convert::fetch_error(root, error))? {
                None => return Ok(None),
                Some(Fetched::Progress { done, total }) => self.progress.report(done, total),
                Some(Fetched::Extra(block)) => self.put(&block, false).await?,
                Some(Fetched::Block { block, stored }) => {
                    self.put(&block, stored).await?;
                    return Ok(Some(block));
                }
            }
        }
    }
}

/// A file being read while it comes.
pub(super) struct Reading {
    incoming: Incoming,
    reader: Reader,
    done: u64,
}

impl Reading {
    /// Of the file whose root is `root`.
    pub(super) fn new(incoming: Incoming, range: Option<Range<u64>>, root: &Block) -> Result<Self> {
        let reader = Reader::new(incoming.root, range)
            .map_err(|error| convert::read_error(incoming.root, &error))?;
        let mut reading = Self { incoming, reader, done: 0 };
        if reading.reader.wants(1).contains(root.cid()) {
            reading.supply(root)?;
        }
        Ok(reading)
    }

    /// For another range of the same file.
    pub(super) fn again(self, range: Option<Range<u64>>, root: &Block) -> Result<Self> {
        let mut incoming = self.incoming;
        let missing: Vec<Cid> = self.reader.missing().copied().collect();
        incoming.fetch.cancel(&missing);
        Self::new(incoming, range, root)
    }

    /// Length of the file, once its root is here.
    pub(super) fn size(&self) -> Option<u64> {
        self.reader.size()
    }

    pub(super) fn incoming(&mut self) -> &mut Incoming {
        &mut self.incoming
    }

    /// The next bytes in order; `None` at the end of the range.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            self.want_more();
            match self.reader.next() {
                ReadStep::Bytes(bytes) => {
                    self.done += bytes.len() as u64;
                    self.incoming.progress.report(self.done, self.total());
                    return Ok(Some(bytes));
                }
                ReadStep::Done => return Ok(None),
                ReadStep::Wait => {}
            }
            let block = self.incoming.next().await?;
            let block = block.ok_or_else(|| convert::missing(&self.incoming.root))?;
            self.supply(&block)?;
        }
    }

    /// The first bytes of the range, for telling what they are.
    pub(super) async fn head(&mut self) -> Result<Vec<u8>> {
        let mut head = Vec::with_capacity(mime::SNIFF_LEN);
        while head.len() < mime::SNIFF_LEN
            && let Some(piece) = self.next().await?
        {
            head.extend_from_slice(&piece);
        }
        Ok(head)
    }

    /// Whether all of the file goes through here.
    pub(super) fn is_whole(&self) -> bool {
        let range = self.reader.range();
        range.start == 0 && self.reader.size().is_some_and(|size| range.end >= size)
    }

    fn total(&self) -> Option<u64> {
        let range = self.reader.range();
        self.reader.size().map(|_| range.end.saturating_sub(range.start))
    }

    fn supply(&mut self, block: &Block) -> Result<()> {
        let cid = *block.cid();
        let links = block.links().unwrap_or_default();
        if links.is_empty() {
            self.incoming.leaf = self.incoming.leaf.max(block.data().len());
        } else {
            self.incoming.fetch.foresee(links);
        }
        self.reader.supply(block).map_err(|error| convert::read_error(cid, &error))
    }

    /// Keeps the sources busy, in batches rather than block by block.
    fn want_more(&mut self) {
        let window = match self.incoming.leaf {
            0 => FIRST_WINDOW,
            leaf => (AHEAD / leaf).clamp(MIN_WINDOW, MAX_WINDOW),
        };
        if self.incoming.fetch.outstanding() * 4 <= window * 3 {
            let wants = self.reader.wants(window);
            self.incoming.fetch.want(&wants);
        }
    }
}
