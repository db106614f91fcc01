//! The sources that Bitswap serves: the connected peers with the fallback peer of the call, and the
//! network, that is whoever is found to have it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use cid::Cid;
use futures::{Stream as _, stream::FuturesUnordered};
use libp2p::PeerId;

use super::{
    peers::{FALLBACK_SCORE, FindProviders, Judge, LikelyHolders},
    reach::reach,
    source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
};
use crate::boxmap::BoxSet;
use crate::{
    exchange::bitswap::{Bitswap, Session, SessionEvent},
    platform::{BoxFuture, BoxStream},
};

/// Peers tried for one fetch, of all that are said to have it.
const MAX_TRIED: usize = 32;
/// Of these, those being dialled at a time.
const MAX_DIALS: usize = 6;
/// CIDs of one fetch for which providers are looked for: the root, then what it lacks.
const MAX_SEARCHES: usize = 4;
/// Peers that a reason names.
const MAX_NAMED: usize = 8;

/// The connected peers.
pub struct BitswapSource {
    bitswap: Bitswap,
    judge: Judge,
    likely: Option<Arc<dyn LikelyHolders>>,
}

/// Providers that the DHT and delegated routers name.
pub struct NetworkSource {
    bitswap: Bitswap,
    judge: Judge,
    finders: Arc<[Arc<dyn FindProviders>]>,
}

impl BitswapSource {
    pub fn new(bitswap: Bitswap, judge: Judge, likely: Option<Arc<dyn LikelyHolders>>) -> Self {
        Self { bitswap, judge, likely }
    }
}

impl NetworkSource {
    pub fn new(bitswap: Bitswap, judge: Judge, finders: Vec<Arc<dyn FindProviders>>) -> Self {
        Self { bitswap, judge, finders: finders.into() }
    }
}

impl Source for BitswapSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Peers
    }

    fn name(&self) -> String {
        "connected peers".to_owned()
    }

    fn open(&self, request: &FetchRequest) -> Box<dyn SourceSession> {
        let mut asking = Asking::new(&self.bitswap, &self.judge, Vec::new().into(), request.root);
        let connected = self.judge.connected();
        asking.connected = connected.len();
        if let Some(session) = &asking.session {
            if self.judge.only_chosen() {
                session.providers_only(true);
            }
            for (peer, score) in self.judge.choose(&connected) {
                session.add_provider(peer, score);
            }
            let likely = self.likely.as_ref().map(|likely| likely.holders(&request.root));
            for peer in likely.into_iter().flatten() {
                if let Some(score) = self.judge.score(&peer) {
                    session.add_provider(peer, score + FALLBACK_SCORE / 2.0);
                }
            }
        }
        if let Some(fallback) = request.fallback {
            asking.dial(fallback);
        }
        Box::new(asking)
    }
}

impl Source for NetworkSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Network
    }

    fn name(&self) -> String {
        "providers in the network".to_owned()
    }

    fn open(&self, request: &FetchRequest) -> Box<dyn SourceSession> {
        let mut asking =
            Asking::new(&self.bitswap, &self.judge, self.finders.clone(), request.root);
        if let Some(session) = &asking.session {
            session.providers_only(true);
        }
        asking.search(request.root);
        Box::new(asking)
    }
}

type Dial = BoxFuture<(PeerId, Result<bool, String>)>;

/// One fetch. Wants that Bitswap says are exhausted are held back as long as somebody may still be
/// found to have them.
struct Asking {
    judge: Judge,
    finders: Arc<[Arc<dyn FindProviders>]>,
    /// `None`: Bitswap has ended, or is too busy.
    session: Option<Session>,
    /// Peers that a finder names.
    found: Vec<BoxStream<PeerId>>,
    searched: BoxSet<Cid>,
    waiting: Vec<PeerId>,
    dials: FuturesUnordered<Dial>,
    tried: BoxSet<PeerId>,
    /// Those that speak Bitswap.
    providers: Vec<PeerId>,
    connected: usize,
    wanted: BoxSet<Cid>,
    exhausted: BoxSet<Cid>,
    said: Vec<String>,
}

impl Asking {
    fn new(
        bitswap: &Bitswap,
        judge: &Judge,
        finders: Arc<[Arc<dyn FindProviders>]>,
        root: Cid,
    ) -> Self {
        let session = bitswap.session();
        if let Err(error) = &session {
            tracing::debug!(%root, %error, "no Bitswap session");
        }
        Self {
            judge: judge.clone(),
            finders,
            session: session.ok(),
            found: Vec::new(),
            searched: BoxSet::new(),
            waiting: Vec::new(),
            dials: FuturesUnordered::new(),
            tried: BoxSet::new(),
            providers: Vec::new(),
            connected: 0,
            wanted: BoxSet::new(),
            exhausted: BoxSet::new(),
            said: Vec::new(),
        }
    }

    fn search(&mut self, cid: Cid) {
        if self.searched.len() < MAX_SEARCHES && self.searched.insert(cid) {
            self.found.extend(self.finders.iter().map(|finder| finder.providers(&cid)));
        }
    }

    fn dial(&mut self, peer: PeerId) {
        if self.tried.len() < MAX_TRIED && self.tried.insert(peer) {
            let streams = self.judge.streams();
            self.dials.push(Box::pin(async move { (peer, reach(&*streams, peer).await) }));
        }
    }

    fn on_dialled(&mut self, peer: PeerId, outcome: Result<bool, String>) {
        match outcome {
            Ok(true) => {
                self.providers.push(peer);
                let score = FALLBACK_SCORE + self.judge.score(&peer).unwrap_or(0.0);
                let again: Vec<Cid> = std::mem::take(&mut self.exhausted).into_iter().collect();
                if let Some(session) = &self.session {
                    session.add_provider(peer, score);
                    // What is exhausted is said once: to hear of it again, want it anew.
                    session.withdraw(&again);
                    session.request(&again);
                }
            }
            Ok(false) => self.say(format!("{peer} does not speak Bitswap")),
            Err(reason) => self.say(format!("{peer}: {reason}")),
        }
    }

    fn say(&mut self, what: String) {
        if self.said.len() < MAX_NAMED {
            self.said.push(what);
        }
    }

    /// Nobody else is going to be asked.
    fn is_settled(&self) -> bool {
        self.found.is_empty() && self.dials.is_empty() && self.waiting.is_empty()
    }

    fn missing(&mut self, cids: BoxSet<Cid>) -> SourceEvent {
        for cid in &cids {
            self.wanted.remove(cid);
            self.exhausted.remove(cid);
        }
        SourceEvent::Missing { cids: cids.into_iter().collect(), reason: self.reason() }
    }

    /// Empty: there was nobody to ask.
    fn reason(&self) -> String {
        let mut said = match (self.finders.is_empty(), self.connected) {
            (true, 0) => Vec::new(),
            (true, 1) => vec!["1 does not have it".to_owned()],
            (true, n) => vec![format!("{n} do not have it")],
            (false, _) if self.tried.is_empty() => vec!["no provider was found".to_owned()],
            (false, _) => Vec::new(),
        };
        let asked = self.providers.iter().take(MAX_NAMED);
        said.extend(asked.map(|peer| format!("{peer} does not have it")));
        said.extend(self.said.iter().cloned());
        said.join("; ")
    }

    /// Takes what is found and dialled; whether something happened.
    fn poll_peers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let mut at = 0;
        while let Some(found) = self.found.get_mut(at) {
            if self.waiting.len() >= MAX_TRIED {
                break;
            }
            match found.as_mut().poll_next(cx) {
                Poll::Ready(Some(peer)) => {
                    moved = true;
                    if self.judge.may_ask(&peer) {
                        self.waiting.push(peer);
                    }
                }
                Poll::Ready(None) => {
                    moved = true;
                    drop(self.found.swap_remove(at));
                }
                Poll::Pending => at += 1,
            }
        }
        while self.dials.len() < MAX_DIALS
            && let Some(peer) = self.waiting.pop()
        {
            self.dial(peer);
        }
        while let Poll::Ready(Some((peer, outcome))) = Pin::new(&mut self.dials).poll_next(cx) {
            moved = true;
            self.on_dialled(peer, outcome);
        }
        moved
    }
}

impl SourceSession for Asking {
    fn want(&mut self, cids: &[Cid]) {
        self.wanted.extend(cids.iter().copied());
        if let Some(session) = &self.session {
            session.request(cids);
        }
    }

    fn cancel(&mut self, cids: &[Cid]) {
        for cid in cids {
            self.wanted.remove(cid);
            self.exhausted.remove(cid);
        }
        if let Some(session) = &self.session {
            session.withdraw(cids);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SourceEvent>> {
        loop {
            let Some(session) = &mut self.session else {
                let reason = "this peer is closing, or has too much to do".to_owned();
                return Poll::Ready(Some(SourceEvent::Failed { reason }));
            };
            let mut moved = false;
            match session.poll_next(cx) {
                Poll::Ready(None) => self.session = None,
                Poll::Ready(Some(SessionEvent::Block { block, from })) => {
                    self.wanted.remove(block.cid());
                    self.exhausted.remove(block.cid());
                    let event = SourceEvent::Block { block, from: Some(from) };
                    return Poll::Ready(Some(event));
                }
                Poll::Ready(Some(SessionEvent::Exhausted { cids })) => {
                    moved = true;
                    let wanted = cids.into_iter().filter(|cid| self.wanted.contains(cid));
                    self.exhausted.extend(wanted);
                }
                Poll::Pending => {}
            }
            if self.session.is_none() {
                continue;
            }
            moved |= self.poll_peers(cx);
            if self.is_settled() {
                // Without anybody to ask, Bitswap would not say so.
                let nobody = !self.finders.is_empty() && self.providers.is_empty();
                let lacking =
                    if nobody { self.wanted.clone() } else { std::mem::take(&mut self.exhausted) };
                if let Some(cid) = lacking.first().copied() {
                    self.search(cid);
                    if self.found.is_empty() {
                        return Poll::Ready(Some(self.missing(lacking)));
                    }
                    self.exhausted = lacking;
                    moved = true;
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }
}
