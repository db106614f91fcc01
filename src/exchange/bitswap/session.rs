//! A fetch's view of Bitswap, and what it shares with the driver.
//!
//! Nothing here waits for the other side: the caller leaves what it wants, the driver leaves what has
//! come. Both are bounded by the wants: no block comes that was not asked for, and while
//! [`MAX_SESSION_BUFFER`] bytes lie unread, no further want is handed to the client.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use cid::Cid;
use futures::task::AtomicWaker;
use libp2p::PeerId;

use super::Handle;
use crate::boxmap::{BoxMap, BoxSet};
use crate::content::block::Block;

/// Wants of one session that the driver has not handed on yet; those beyond come back as exhausted.
pub const MAX_SESSION_WANTS: usize = 16 << 10;
/// Unread bytes above which a session's further wants are held back.
pub const MAX_SESSION_BUFFER: usize = 16 << 20;
/// Providers named to a session between two turns of the driver.
pub const MAX_SESSION_PROVIDERS: usize = 256;

/// A fetch. Dropping it cancels all its wants.
pub struct Session {
    handle: Arc<Handle>,
    line: Arc<Line>,
}

/// What a session is told.
#[derive(Debug, Clone)]
pub enum SessionEvent {
    /// A block that was asked for, verified.
    Block { block: Block, from: PeerId },
    /// Every peer that may be asked for these has said no, timed out or gone. They stay wanted.
    Exhausted { cids: Vec<Cid> },
}

impl Session {
    pub(super) fn new(handle: Arc<Handle>, line: Arc<Line>) -> Self {
        Self { handle, line }
    }

    /// A likely holder, asked for blocks at once, the better the higher `score`. It is dialled if it
    /// is not connected.
    pub fn add_provider(&self, peer: PeerId, score: f64) {
        self.change(|work| {
            if work.providers.len() < MAX_SESSION_PROVIDERS || work.providers.contains_key(&peer) {
                work.providers.insert(peer, score);
            }
        });
    }

    /// Whether only the providers may be asked.
    pub fn providers_only(&self, only: bool) {
        self.change(|work| work.providers_only = Some(only));
    }

    /// Asks for blocks. Each comes once, in any order.
    pub async fn want(&self, cids: Vec<Cid>) {
        self.request(&cids);
    }

    pub async fn cancel(&self, cids: Vec<Cid>) {
        self.withdraw(&cids);
    }

    /// [`want`](Self::want) for a caller that cannot wait; nothing is lost by it.
    pub fn request(&self, cids: &[Cid]) {
        let refused = self.change(|work| {
            let room = MAX_SESSION_WANTS.saturating_sub(work.wants.len()).min(cids.len());
            let (taken, refused) = cids.split_at(room);
            work.wants.extend(taken);
            refused
        });
        if !refused.is_empty() {
            self.line.exhausted(refused);
        }
    }

    /// [`cancel`](Self::cancel) for a caller that cannot wait.
    pub fn withdraw(&self, cids: &[Cid]) {
        self.change(|work| {
            // What was handed on before is cancelled before what is wanted from now on.
            work.cancels.extend(cids.iter().copied());
            if !work.wants.is_empty() {
                let cids: BoxSet<&Cid> = cids.iter().collect();
                work.wants.retain(|cid| !cids.contains(cid));
            }
        });
    }

    /// What happens next; `None` when the network was closed.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SessionEvent>> {
        self.line.reader.register(cx.waker());
        let mut news = lock(&self.line.news);
        if let Some((block, from)) = news.blocks.pop_front() {
            let before = news.bytes;
            news.bytes -= block.data().len();
            let room = before >= MAX_SESSION_BUFFER && news.bytes < MAX_SESSION_BUFFER;
            drop(news);
            if room {
                self.change(|_| ());
            }
            return Poll::Ready(Some(SessionEvent::Block { block, from }));
        }
        if !news.exhausted.is_empty() {
            let cids = std::mem::take(&mut news.exhausted).into_iter().collect();
            return Poll::Ready(Some(SessionEvent::Exhausted { cids }));
        }
        if news.ended { Poll::Ready(None) } else { Poll::Pending }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Work) -> T) -> T {
        let result = change(&mut lock(&self.line.work));
        self.line.changed.store(true, Ordering::Release);
        self.handle.0.wake.notify_one();
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.change(|work| work.dropped = true);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// What a session and the driver share.
#[derive(Default)]
pub(super) struct Line {
    /// There is something in `work`.
    changed: AtomicBool,
    work: Mutex<Work>,
    news: Mutex<News>,
    reader: AtomicWaker,
}

/// What the driver is to do for a session, in this order.
#[derive(Default)]
pub(super) struct Work {
    pub dropped: bool,
    pub providers_only: Option<bool>,
    pub providers: BoxMap<PeerId, f64>,
    pub cancels: BoxSet<Cid>,
    pub wants: Vec<Cid>,
}

#[derive(Default)]
struct News {
    blocks: VecDeque<(Block, PeerId)>,
    /// Of the blocks.
    bytes: usize,
    exhausted: BoxSet<Cid>,
    ended: bool,
}

impl Line {
    /// What is new, if anything. Wants stay where they are while too much lies unread.
    pub(super) fn take_work(&self) -> Option<Work> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return None;
        }
        let hold = lock(&self.news).bytes >= MAX_SESSION_BUFFER;
        let mut work = lock(&self.work);
        let mut taken = std::mem::take(&mut *work);
        if hold {
            std::mem::swap(&mut work.wants, &mut taken.wants);
        }
        Some(taken)
    }

    pub(super) fn deliver(&self, block: Block, from: PeerId) {
        let mut news = lock(&self.news);
        news.bytes += block.data().len();
        news.exhausted.remove(block.cid());
        news.blocks.push_back((block, from));
        drop(news);
        self.reader.wake();
    }

    pub(super) fn exhausted(&self, cids: &[Cid]) {
        lock(&self.news).exhausted.extend(cids.iter().copied());
        self.reader.wake();
    }

    pub(super) fn end(&self) {
        lock(&self.news).ended = true;
        self.reader.wake();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
