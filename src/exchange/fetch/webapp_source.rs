//! Peers that speak `/p2p-webapp/1.0.0` and no Bitswap: they answer with a whole file or directory,
//! so one is asked at a time, and what it gave is read back from the store block by block. Between
//! two of our peers Bitswap moves the bytes.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
};

use cid::Cid;
use futures::future::{Either, select};
use libp2p::PeerId;

use super::{
    driven::{Driven, Events, Mailbox, Orders},
    peers::Judge,
    reach::{reach, speaks},
    source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
};
use crate::boxmap::BoxSet;
use crate::{
    error::{Error, Result},
    exchange::{bitswap::message::PROTOCOL as BITSWAP, webapp},
    network::{Network, PeerStreams as _},
    store::{Session, Store},
};

/// Connected peers asked for one CID, besides the fallback peer.
const MAX_ASKED: usize = 8;
/// Wanted blocks read back from the store at a time.
const READ_BACK: usize = 16;

pub struct WebappSource {
    network: Network,
    store: Store,
    judge: Judge,
}

impl WebappSource {
    pub fn new(network: Network, store: Store, judge: Judge) -> Self {
        Self { network, store, judge }
    }
}

impl Source for WebappSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Peers
    }

    fn name(&self) -> String {
        "peers by the files protocol".to_owned()
    }

    fn open(&self, request: &FetchRequest) -> Box<dyn SourceSession> {
        let peers = Peers {
            network: self.network.clone(),
            store: self.store.clone(),
            judge: self.judge.clone(),
            fallback: request.fallback,
        };
        let root = request.root;
        Driven::start(move |mailbox, events| async move {
            let (wanted, kept) = (BoxSet::new(), Vec::new());
            let mut asking = Asking { peers, root, wanted, kept, directory: false, events };
            asking.run(&mailbox).await;
        })
    }
}

/// What one fetch wants of such peers.
struct Asking {
    peers: Peers,
    root: Cid,
    wanted: BoxSet<Cid>,
    /// What was fetched; held until the caller holds it.
    kept: Vec<Session>,
    /// The root was fetched and is a directory: what is below it has to be asked for by itself.
    directory: bool,
    events: Events,
}

impl Asking {
    async fn run(&mut self, mailbox: &Mailbox) {
        loop {
            self.take(mailbox.next().await);
            while let Some(target) = self.target().await {
                let outcome = {
                    let mut fetching = pin!(self.peers.fetch(target, self.events.clone()));
                    loop {
                        match select(&mut fetching, pin!(mailbox.next())).await {
                            Either::Left((outcome, _)) => break Some(outcome),
                            Either::Right((orders, _)) => take(&mut self.wanted, orders),
                        }
                        if self.wanted.is_empty() {
                            break None; // another source was first
                        }
                    }
                };
                match outcome {
                    None => {}
                    Some(Ok(fetched)) => {
                        if target == self.root {
                            self.directory = matches!(fetched.kind, webapp::Kind::Directory(_));
                        }
                        self.kept.push(fetched.session);
                        self.read_back().await;
                        if !self.directory {
                            self.refuse(|_| true, "it is not part of the root").await;
                        }
                    }
                    Some(Err(Refusal::Broken(error))) => {
                        return self.events.say(SourceEvent::Broken(error)).await;
                    }
                    Some(Err(Refusal::Nobody(reason))) if target == self.root => {
                        // Nobody gives the root: it would be the same for every part of it.
                        return self.events.say(SourceEvent::Failed { reason }).await;
                    }
                    Some(Err(Refusal::Nobody(reason))) => {
                        self.refuse(|cid| *cid == target, &reason).await;
                    }
                }
            }
        }
    }

    /// What to fetch next. The root brings all of a file.
    async fn target(&mut self) -> Option<Cid> {
        if !self.kept.is_empty() {
            self.read_back().await;
        }
        let wanted = self.wanted.first().copied()?;
        Some(if self.directory { wanted } else { self.root })
    }

    fn take(&mut self, orders: Orders) {
        take(&mut self.wanted, orders);
    }

    /// Gives what is wanted and has been fetched.
    async fn read_back(&mut self) {
        let wanted: Vec<Cid> = self.wanted.iter().copied().collect();
        for some in wanted.chunks(READ_BACK) {
            // A damaged block counts as not there.
            let blocks = self.peers.store.get_many(some).await.unwrap_or_default();
            for block in blocks.into_iter().flatten() {
                self.wanted.remove(block.cid());
                self.events.say(SourceEvent::Block { block, from: None }).await;
            }
        }
    }

    async fn refuse(&mut self, which: impl Fn(&Cid) -> bool, reason: &str) {
        let cids: Vec<Cid> = self.wanted.iter().copied().filter(which).collect();
        if !cids.is_empty() {
            self.wanted.retain(|cid| !cids.contains(cid));
            let reason = reason.to_owned();
            self.events.say(SourceEvent::Missing { cids, reason }).await;
        }
    }
}

fn take(wanted: &mut BoxSet<Cid>, orders: Orders) {
    wanted.extend(orders.want);
    for cid in orders.cancel {
        wanted.remove(&cid);
    }
}

/// Whom to ask.
struct Peers {
    network: Network,
    store: Store,
    judge: Judge,
    fallback: Option<PeerId>,
}

/// Why nothing was fetched.
enum Refusal {
    /// Who was asked, and what each said; empty: there was nobody to ask.
    Nobody(String),
    /// The fault is here.
    Broken(Error),
}

impl Peers {
    /// Asks the fallback peer, then the connected ones, one after the other: the answer is the whole
    /// file, so asking two at once would fetch it twice.
    async fn fetch(&self, cid: Cid, mut events: Events) -> Result<webapp::Fetched, Refusal> {
        let progress = Mutex::new(events.clone());
        let report = |done, total| {
            let mut events = progress.lock().unwrap_or_else(PoisonError::into_inner);
            events.try_say(SourceEvent::Progress { done, total });
        };
        let mut said = Vec::new();
        let fallback = match self.fallback {
            None => None,
            Some(peer) => match reach(&self.network, peer).await {
                Ok(true) => None,
                Ok(false) => Some(peer),
                Err(_) => None, // those who ask it by Bitswap say why
            },
        };
        for peer in fallback.into_iter().chain(self.connected()) {
            match webapp::fetch(&self.network, &self.store, peer, cid, &report).await {
                Ok(fetched) => return Ok(fetched),
                Err(error @ (Error::QuotaExceeded | Error::Storage { .. } | Error::Closed)) => {
                    return Err(Refusal::Broken(error));
                }
                Err(Error::WrongContent { peer, cid, reason }) => {
                    said.push(format!("{peer} sent wrong bytes: {reason}"));
                    events.say(SourceEvent::Wrong { peer, cid, reason }).await;
                }
                Err(error) => said.push(format!("{peer}: {error}")),
            }
        }
        Err(Refusal::Nobody(said.join("; ")))
    }

    fn connected(&self) -> Vec<PeerId> {
        let peers = self.network.peers().current();
        let fit = peers.values().filter(|info| {
            speaks(info, webapp::PROTOCOL)
                && !speaks(info, BITSWAP)
                && Some(info.id) != self.fallback
                && self.judge.may_ask(&info.id)
        });
        fit.map(|info| info.id).take(MAX_ASKED).collect()
    }
}
