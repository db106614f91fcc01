//! Peers that speak `/p2p-webapp/1.0.0` and no Bitswap: they answer with a whole file or directory,
//! so one is asked at a time, and what it gave is read back from the store block by block. Between
//! two of our peers Bitswap moves the bytes.

use std::{collections::BTreeSet, pin::pin, sync::Mutex, sync::PoisonError};

use cid::Cid;
use futures::future::{Either, select};
use libp2p::{PeerId, StreamProtocol};

use super::{
    driven::{Driven, Events, Mailbox, Orders},
    source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
};
use crate::{
    error::Error,
    exchange::{bitswap::message::PROTOCOL as BITSWAP, webapp},
    network::{Network, NetworkError, PeerInfo, PeerStreams as _},
    store::{Session, Store},
};

/// Connected peers asked for one CID, besides the fallback peer.
const MAX_ASKED: usize = 8;
/// Wanted blocks read back from the store at a time.
const READ_BACK: usize = 16;

pub struct WebappSource {
    network: Network,
    store: Store,
}

impl WebappSource {
    pub fn new(network: Network, store: Store) -> Self {
        Self { network, store }
    }
}

impl Source for WebappSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Peers
    }

    fn name(&self) -> String {
        "files protocol".to_owned()
    }

    fn open(&self, request: &FetchRequest) -> Box<dyn SourceSession> {
        let (network, store) = (self.network.clone(), self.store.clone());
        let (root, fallback) = (request.root, request.fallback);
        Driven::start(move |mailbox, events| async move {
            let (wanted, kept) = (BTreeSet::new(), Vec::new());
            let mut asking =
                Asking { network, store, root, fallback, wanted, kept, events, answer: None };
            asking.run(&mailbox).await;
        })
    }
}

/// One fetch.
struct Asking {
    network: Network,
    store: Store,
    root: Cid,
    fallback: Option<PeerId>,
    wanted: BTreeSet<Cid>,
    /// What was fetched; kept from deletion until the caller holds it.
    kept: Vec<Session>,
    events: Events,
    /// The peer that has the root.
    answer: Option<PeerId>,
}

impl Asking {
    async fn run(&mut self, mailbox: &Mailbox) {
        let mut root_tried = false;
        loop {
            let orders = mailbox.next().await;
            self.take(orders);
            self.read_back().await;
            while let Some(wanted) = self.wanted.first().copied() {
                // The root brings all of a file; what is below a directory is asked for by itself.
                let target = if root_tried { wanted } else { self.root };
                let asked = {
                    let fetching = pin!(self.fetch(target));
                    match select(fetching, pin!(mailbox.next())).await {
                        Either::Left((outcome, _)) => Ok(outcome),
                        Either::Right((orders, _)) => Err(orders),
                    }
                };
                let _ = asked;
                root_tried = true;
            }
        }
    }
}
