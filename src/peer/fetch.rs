//! Getting content that may not be here: one flight per CID, shared by all who ask meanwhile
//! (design: flow of `getFile`).

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures::{
    FutureExt as _,
    future::{Shared, WeakShared},
};
use libp2p::PeerId;
use tokio::sync::Semaphore;

use super::{Peer, ProgressSink, convert, read};
use crate::{
    content::block::Cid,
    error::{Error, Result},
    exchange::webapp::{self, FileList},
    network::{Network, PeerInfo},
    platform::{BoxFuture, MaybeSend},
    store::{RootChange, Store, StoreError},
};

/// CIDs that callers wait for at a time.
const MAX_FLIGHTS: usize = 4096;
/// Of these, those being transferred; the others wait their turn. Below what a peer answers at a time.
const MAX_TRANSFERS: usize = 16;
/// Connected peers asked for one CID, besides the fallback peer.
const MAX_ASKED: usize = 8;

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
    pub(super) async fn list(&self, network: &Network, peer: PeerId) -> Result<Arc<FileList>> {
        let network = network.clone();
        let (flight, _) = self.lists.join(peer, None, |_| async move {
            webapp::fetch_list(&network, peer).await.map(Arc::new)
        })?;
        flight.await
    }
}

pub(super) async fn get(
    peer: Peer,
    cid: Cid,
    fallback: Option<PeerId>,
    progress: Option<Arc<dyn ProgressSink>>,
) -> Result<Content> {
    let store = &peer.inner.store;
    match read::stored(store, cid).await {
        Ok(Some(content)) => {
            if let (Some(progress), Content::File(file)) = (&progress, &content) {
                progress.report(file.size, Some(file.size));
            }
            return Ok(content);
        }
        Ok(None) | Err(Error::CorruptBlock { .. }) => {}
        Err(error) => return Err(error),
    }
    loop {
        let (network, store) = (peer.inner.network.clone(), store.clone());
        let transfers = peer.inner.flights.transfers.clone();
        let (flight, joined) =
            peer.inner.flights.contents.join(cid, progress.as_ref(), |progress| async move {
                let _turn = transfers.acquire_owned().await.map_err(|_| Error::Closed)?;
                from_peers(&network, &store, cid, fallback, progress).await
            })?;
        match flight.await {
            // Somebody else's flight did not ask the peer that this caller names.
            Err(Error::NotFound { .. } | Error::WrongContent { .. })
                if joined && fallback.is_some() => {}
            outcome => return outcome,
        }
    }
}

/// Asks the fallback peer, then the connected ones that speak the protocol, one after the other:
/// the answer is the whole file, so asking two at once would fetch it twice.
async fn from_peers(
    network: &Network,
    store: &Store,
    cid: Cid,
    fallback: Option<PeerId>,
    progress: Listeners,
) -> Result<Content> {
    let connected = network.connected_peers().await.map_err(|_| Error::Closed)?;
    let speaks =
        |info: &PeerInfo| info.protocols.iter().any(|protocol| protocol == webapp::PROTOCOL);
    // A limited circuit would break off in the middle of a file.
    let speaking =
        connected.iter().filter(|info| !info.limited && speaks(info)).map(|info| info.id);
    let others = speaking.filter(|peer| Some(*peer) != fallback).take(MAX_ASKED);
    let mut asked = Vec::new();
    let mut lie = None;
    for peer in fallback.into_iter().chain(others) {
        match from_peer(network, store, peer, cid, &progress).await {
            Ok(content) => return Ok(content),
            Err(error @ (Error::QuotaExceeded | Error::Storage { .. } | Error::Closed)) => {
                return Err(error);
            }
            Err(error) => {
                if matches!(error, Error::WrongContent { .. }) {
                    lie.get_or_insert(error.clone());
                }
                asked.push((peer, error));
            }
        }
    }
    Err(lie.unwrap_or_else(|| convert::not_found(cid, asked)))
}

async fn from_peer(
    network: &Network,
    store: &Store,
    peer: PeerId,
    cid: Cid,
    progress: &Listeners,
) -> Result<Content> {
    let fetched =
        webapp::fetch(network, store, peer, cid, &|done, total| progress.report(done, total))
            .await?;
    if let webapp::Kind::Directory(entries) = fetched.kind {
        // Not kept: the store names only what is whole, and what the directory names is not here.
        return Ok(Content::Directory(entries));
    }
    let name = format!("cache/{cid}");
    let expected = store.root(&name).await?;
    match store
        .commit(vec![fetched.session], vec![RootChange { name, expected, new: Some(cid) }])
        .await
    {
        Ok(()) | Err(StoreError::RootConflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    read::stored(store, cid).await?.ok_or_else(|| convert::missing(&cid))
}

/// Those who want to know how a flight gets on, for as long as their own call lasts.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<Vec<Weak<dyn ProgressSink>>>>);

impl Listeners {
    fn add(&self, listener: Option<&Arc<dyn ProgressSink>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(listener.map(Arc::downgrade));
    }

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
struct Joined<K, T: Clone>(Mutex<HashMap<K, Flight<T>>>);

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
        flights.retain(|_, flight| flight.work.upgrade().is_some_and(|work| work.peek().is_none()));
        if flights.len() >= MAX_FLIGHTS {
            return Err(Error::Busy { what: "content is being fetched" });
        }
        let listeners = Listeners::default();
        listeners.add(progress);
        let work: Work<T> = Box::pin(start(listeners.clone()));
        let work = work.shared();
        let weak = work.downgrade().ok_or(Error::Closed)?;
        flights.insert(key, Flight { work: weak, progress: listeners });
        Ok((work, false))
    }
}
