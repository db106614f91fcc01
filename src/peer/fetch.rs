//! Getting content that may not be here, whole: one flight per CID, shared by all who ask meanwhile.

use std::{
    collections::BTreeMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{Shared, WeakShared},
};
use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    GetOptions, ListOptions, Peer, ProgressSink,
    incoming::{Incoming, OnFull, Reading},
    read::{self, Stored},
    swept::Swept,
};
use crate::{
    content::{
        block::{Cid, MAX_BLOCK},
        mime,
        walk::MAX_WALK_BLOCKS,
    },
    error::{Error, Result},
    exchange::{
        fetch::FetchRequest,
        webapp::{self, FileList},
    },
    network::Network,
    platform::{
        BoxFuture, MaybeSend,
        time::{self, Instant},
    },
};

/// CIDs that callers wait for at a time.
const MAX_FLIGHTS: usize = 4096;
/// Of these, those being transferred; the others wait their turn, or for the disk. Not above what a
/// peer answers at a time.
const MAX_TRANSFERS: usize = 32;

/// Most pieces of one file that is got whole: as many as there may be blocks. A few small blocks can
/// stand for exabytes, by naming each other again and again.
const MAX_PIECES: usize = MAX_WALK_BLOCKS;

/// What a CID turned out to be.
#[derive(Debug, Clone)]
pub enum Content {
    /// Its bytes are in the store now; read them with [`Peer::read`].
    File(FileInfo),
    /// The CIDs in the directory, by name.
    Directory(BTreeMap<String, Cid>),
}

#[derive(Debug, Clone)]
pub struct FileInfo {
    pub cid: Cid,
    /// In bytes.
    pub size: u64,
    /// Told from the first bytes.
    pub mime_type: String,
    /// All of it, if it is one block: who wants it need not read it again.
    pub bytes: Option<Bytes>,
}

/// Work under way, by what it is for, so that a second caller joins the first.
pub(super) struct Flights {
    contents: Joined<Cid, Content>,
    lists: Joined<PeerId, Arc<FileList>>,
    transfers: Arc<Semaphore>,
}

impl Default for Flights {
    fn default() -> Self {
        let transfers = Arc::new(Semaphore::new(MAX_TRANSFERS));
        Self { contents: Joined::default(), lists: Joined::default(), transfers }
    }
}

impl Flights {
    /// A peer's tree; one request to a peer at a time.
    pub(super) async fn list(
        &self,
        network: &Network,
        peer: PeerId,
        options: ListOptions,
    ) -> Result<Arc<FileList>> {
        let network = network.clone();
        let (flight, _) = self.lists.join(peer, None, |_| async move {
            webapp::fetch_list(&network, peer).await.map(Arc::new)
        })?;
        let Some(after) = options.timeout else { return flight.await };
        let late = || Err(Error::Timeout { what: format!("listing the files of {peer}"), after });
        // Whoever joined goes on waiting.
        time::timeout(after, flight).await.unwrap_or_else(|_| late())
    }
}

/// Whole: found here, or fetched and kept.
pub(super) async fn get(
    peer: Peer,
    cid: Cid,
    fallback: Option<PeerId>,
    options: GetOptions,
) -> Result<Content> {
    let store = &peer.inner.store;
    let progress = options.progress.clone();
    let absent = match read::look(store, cid).await {
        Ok(Stored::Whole(content)) => {
            if let (Some(progress), Content::File(file)) = (&progress, &content) {
                progress.report(file.size, Some(file.size));
            }
            // All came by in ranges.
            let downloads = &peer.inner.downloads;
            if matches!(content, Content::File(_)) && downloads.is_partial(&cid) {
                downloads.open(cid).await?.finish().await?;
            }
            return Ok(content);
        }
        Ok(Stored::Nothing) => true,
        // A damaged block was taken out of the way, and is fetched again.
        Ok(Stored::Partly) | Err(Error::CorruptBlock { .. }) => false,
        Err(error) => return Err(error),
    };
    let started = Instant::now();
    loop {
        let mut request = options.request(cid, fallback);
        let flying = peer.clone();
        let (flight, joined) =
            peer.inner.flights.contents.join(cid, progress.as_ref(), |progress| async move {
                let transfers = flying.inner.flights.transfers.clone();
                let turn = transfers.acquire_owned().await.map_err(|_| Error::Closed)?;
                request.timeout =
                    request.timeout.map(|after| after.saturating_sub(started.elapsed()));
                whole(&flying, request, absent, progress, turn).await
            })?;
        match flight.await {
            // Somebody else's flight did not ask the peer that this caller names, or had less time.
            Err(Error::NotFound { .. } | Error::WrongContent { .. })
                if joined && fallback.is_some() => {}
            Err(Error::Timeout { .. }) if joined => {}
            outcome => return outcome,
        }
    }
}

/// `absent`: the root's block is known not to be here. `turn` ends with the transfer: many small files
/// that wait to be written are written together.
async fn whole(
    peer: &Peer,
    request: FetchRequest,
    absent: bool,
    progress: Listeners,
    turn: OwnedSemaphorePermit,
) -> Result<Content> {
    let cid = request.root;
    let mut incoming = Incoming::start(peer, request, OnFull::Fail, Arc::new(progress)).await?;
    if absent {
        incoming.set_absent(&cid);
    }
    let root = incoming.block(cid).await?;
    if read::is_directory(&root)? {
        return Ok(Content::Directory(incoming.entries().await?));
    }
    if let Some(file) = read::one_block(&root)? {
        drop(turn);
        incoming.report(file.size, Some(file.size));
        let finished = incoming.finish().await;
        return kept_on_failure(&mut incoming, finished).await.map(|()| Content::File(file));
    }
    let mut reading = Reading::new(incoming, None, &root)?;
    let outcome = read_whole(cid, &mut reading, turn).await;
    kept_on_failure(reading.incoming(), outcome).await
}

/// What has come is not fetched again. The reason for the failure is what counts.
async fn kept_on_failure<T>(incoming: &mut Incoming, outcome: Result<T>) -> Result<T> {
    if outcome.is_err() {
        let _ = incoming.keep().await;
    }
    outcome
}

async fn read_whole(
    cid: Cid,
    reading: &mut Reading,
    turn: OwnedSemaphorePermit,
) -> Result<Content> {
    let head = reading.head().await?;
    let size = reading.size().unwrap_or_default();
    let mut pieces = 0;
    let too_large = size > MAX_PIECES as u64 * MAX_BLOCK as u64;
    while !too_large && pieces <= MAX_PIECES && reading.next().await?.is_some() {
        pieces += 1;
    }
    if too_large || pieces > MAX_PIECES {
        let reason = format!("its {size} bytes stand in more than {MAX_PIECES} pieces");
        return Err(Error::TooLarge { what: cid.to_string(), reason });
    }
    drop(turn);
    reading.incoming().finish().await?;
    let mime_type = mime::sniff(&head).to_owned();
    Ok(Content::File(FileInfo { cid, size, mime_type, bytes: None }))
}

/// Those who want to know how a flight gets on, for as long as their own call lasts.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<Vec<Weak<dyn ProgressSink>>>>);

impl Listeners {
    fn add(&self, listener: Option<&Arc<dyn ProgressSink>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(listener.map(Arc::downgrade));
    }
}

impl ProgressSink for Listeners {
    fn report(&self, done: u64, total: Option<u64>) {
        // Cloned, because a listener may call back into the peer.
        let listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        listeners
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|listener| listener.report(done, total));
    }
}

type Work<T> = BoxFuture<Result<T>>;

struct Flight<T: Clone> {
    work: WeakShared<Work<T>>,
    progress: Listeners,
}

/// A map of running work; an entry dies with its last waiter.
struct Joined<K, T: Clone>(Mutex<Swept<K, Flight<T>>>);

impl<K, T: Clone> Default for Joined<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, T: Clone + 'static> Joined<K, T> {
    /// Joins the work for `key`, or starts it; says which (`true`: joined).
    fn join<F>(
        &self,
        key: K,
        progress: Option<&Arc<dyn ProgressSink>>,
        start: impl FnOnce(Listeners) -> F,
    ) -> Result<(Shared<Work<T>>, bool)>
    where
        F: Future<Output = Result<T>> + MaybeSend + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = flights.get(&key).and_then(|flight| Some((flight.work.upgrade()?, flight)));
        if let Some((work, flight)) = running.filter(|(work, _)| work.peek().is_none()) {
            flight.progress.add(progress);
            return Ok((work, true));
        }
        let listeners = Listeners::default();
        listeners.add(progress);
        let work: Work<T> = Box::pin(start(listeners.clone()));
        let work = work.shared();
        let weak = work.downgrade().ok_or(Error::Closed)?;
        let flight = Flight { work: weak, progress: listeners };
        let flies =
            |flight: &Flight<T>| flight.work.upgrade().is_some_and(|work| work.peek().is_none());
        match flights.insert(key, flight, MAX_FLIGHTS, flies) {
            true => Ok((work, false)),
            false => Err(Error::Busy { what: "content is being fetched" }),
        }
    }
}
