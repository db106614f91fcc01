//! The peers that speak this protocol and not Bitswap, as a source of blocks. The root is asked for
//! first, as its content is the whole file; what it does not cover is asked for block by block.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use cid::Cid;
use libp2p::PeerId;

use super::{CasError, MAX_CONTENT, PROTOCOL, Request, ask_peers};
use crate::boxmap::BoxMap;
use crate::{
    content::block::Block,
    exchange::fetch::source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
    network::peers::PeerStreams,
    platform::BoxFuture,
};

/// CIDs asked for at a time, once the root was.
pub const MAX_LOOKUPS: usize = 4;
/// Bytes of blocks kept for wants to come: the largest file and its nodes.
pub const MAX_HELD: usize = MAX_CONTENT + (4 << 20);
/// Who speaks this is asked by Bitswap.
const BITSWAP: &str = "/ipfs/bitswap/1.2.0";

/// See the module.
pub struct CasSource {
    streams: Arc<dyn PeerStreams>,
}

impl CasSource {
    pub fn new(streams: Arc<dyn PeerStreams>) -> Self {
        Self { streams }
    }
}

impl Source for CasSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Peers
    }

    fn name(&self) -> String {
        format!("the peers that speak {PROTOCOL}")
    }

    fn open(&self, request: &FetchRequest) -> Box<dyn SourceSession> {
        Box::new(Session {
            streams: self.streams.clone(),
            request: request.clone(),
            root: Root::NotAsked,
            waiting: VecDeque::new(),
            lookups: Vec::new(),
            held: BoxMap::new(),
            held_bytes: 0,
            events: VecDeque::new(),
            waker: None,
        })
    }
}

struct Session {
    streams: Arc<dyn PeerStreams>,
    request: FetchRequest,
    root: Root,
    /// Wanted, in the order of the wants.
    waiting: VecDeque<Cid>,
    lookups: Vec<(Cid, Lookup)>,
    /// Verified and not wanted yet.
    held: BoxMap<Cid, (PeerId, Block)>,
    held_bytes: usize,
    events: VecDeque<SourceEvent>,
    waker: Option<Waker>,
}

type Lookup = BoxFuture<Result<(PeerId, Vec<Block>), Vec<CasError>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    NotAsked,
    Asked,
    Answered,
}

impl Session {
    /// Asks for what can be asked for now.
    fn start(&mut self) {
        if self.waiting.is_empty() || self.root == Root::Asked {
            return;
        }
        let peers = self.holders();
        if peers.is_empty() {
            // Whoever connects later is asked for what is wanted then.
            if self.lookups.is_empty() {
                let cids = std::mem::take(&mut self.waiting).into();
                let reason = format!("no connected peer speaks {PROTOCOL}");
                self.events.push_back(SourceEvent::Missing { cids, reason });
            }
            return;
        }
        if self.root == Root::NotAsked {
            self.root = Root::Asked;
            self.look_up(self.request.root, peers);
            return;
        }
        let free = MAX_LOOKUPS.saturating_sub(self.lookups.len());
        let wanted = self.waiting.iter().filter(|cid| !self.lookups.iter().any(|(c, _)| c == *cid));
        let next: Vec<Cid> = wanted.take(free).copied().collect();
        next.into_iter().for_each(|cid| self.look_up(cid, peers.clone()));
    }

    fn look_up(&mut self, cid: Cid, peers: Vec<PeerId>) {
        let request = Request {
            cid,
            requester: self.request.requester.clone(),
            preferred_sources: self.request.preferred_sources.clone(),
            ttl: self.request.ttl,
        };
        let streams = self.streams.clone();
        let lookup = async move { ask_peers(&*streams, peers, &request).await };
        self.lookups.push((cid, Box::pin(lookup)));
    }

    /// Whom to ask. With hops to go, those that speak Bitswap as well: only here they may pass it on
    /// (peers of ours do not).
    fn holders(&self) -> Vec<PeerId> {
        let passed_on = self.request.ttl.is_some_and(|ttl| ttl > 0);
        let peers = self.streams.peers().current();
        let speaking = peers.values().filter(|info| {
            let speaks = |name: &str| info.protocols.iter().any(|protocol| protocol == name);
            !info.limited && speaks(PROTOCOL) && (passed_on || !speaks(BITSWAP))
        });
        let mut holders: Vec<PeerId> = speaking.map(|info| info.id).collect();
        holders.sort_by_key(|peer| self.request.fallback != Some(*peer));
        holders
    }

    fn poll_lookups(&mut self, cx: &mut Context<'_>) -> bool {
        let done = self.lookups.iter_mut().enumerate().find_map(|(at, (_, lookup))| {
            match lookup.as_mut().poll(cx) {
                Poll::Ready(result) => Some((at, result)),
                Poll::Pending => None,
            }
        });
        let Some((at, result)) = done else { return false };
        let (cid, _) = self.lookups.swap_remove(at);
        if cid == self.request.root {
            self.root = Root::Answered;
        }
        match result {
            Ok((peer, blocks)) => blocks.into_iter().for_each(|block| self.bring(peer, block)),
            Err(errors) => {
                if remove(&mut self.waiting, &cid) {
                    let reasons: Vec<String> = errors.iter().map(CasError::to_string).collect();
                    let (cids, reason) = (vec![cid], reasons.join("; "));
                    self.events.push_back(SourceEvent::Missing { cids, reason });
                }
            }
        }
        true
    }

    /// To whom wants it, or keeps it.
    fn bring(&mut self, peer: PeerId, block: Block) {
        let (cid, len) = (*block.cid(), block.data().len());
        if remove(&mut self.waiting, &cid) {
            self.lookups.retain(|(asked, _)| *asked != cid);
            self.events.push_back(SourceEvent::Block { block, from: Some(peer) });
        } else if self.held_bytes + len <= MAX_HELD && !self.held.contains_key(&cid) {
            self.held_bytes += len;
            self.held.insert(cid, (peer, block));
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl SourceSession for Session {
    fn want(&mut self, cids: &[Cid]) {
        for cid in cids {
            if let Some((peer, block)) = self.held.remove(cid) {
                self.held_bytes -= block.data().len();
                self.events.push_back(SourceEvent::Block { block, from: Some(peer) });
            } else if !self.waiting.contains(cid) {
                self.waiting.push_back(*cid);
            }
        }
        self.wake();
    }

    fn cancel(&mut self, cids: &[Cid]) {
        for cid in cids {
            remove(&mut self.waiting, cid);
            if let Some((_, block)) = self.held.remove(cid) {
                self.held_bytes -= block.data().len();
            }
            // The root's lookup brings the others too.
            let root = self.request.root;
            self.lookups.retain(|(asked, _)| asked != cid || *asked == root);
        }
        self.wake();
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SourceEvent>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            self.start();
            if !self.poll_lookups(cx) && self.events.is_empty() {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    }
}

fn remove(queue: &mut VecDeque<Cid>, cid: &Cid) -> bool {
    let at = queue.iter().position(|waiting| waiting == cid);
    at.and_then(|at| queue.remove(at)).is_some()
}
