//! What the sources know of peers: who is connected, how a strategy judges them, who may have what.

use std::sync::{Arc, Mutex, PoisonError};

use cid::Cid;
use libp2p::PeerId;

use super::{Metrics, PeerScoreInput, Strategy, reach::speaks};
use crate::{
    exchange::bitswap::message::PROTOCOL,
    network::{PeerInfo, PeerStreams},
    platform::{BoxStream, MaybeSend, MaybeSync},
};

/// What a peer gets that was named to have it: above all scores that are measured.
pub(super) const FALLBACK_SCORE: f64 = 1e6;
/// Connected peers that are asked for blocks before they have said that they have them.
const MAX_CHOSEN: usize = 8;
/// A peer whose answers are as good as this is asked for blocks at once.
const PROVEN: f64 = 0.5;

/// Where providers are looked for: the DHT, a delegated router.
pub trait FindProviders: MaybeSend + MaybeSync {
    /// Peers said to have `cid`, in the order in which they are found; bounded, and it ends.
    fn providers(&self, cid: &Cid) -> BoxStream<PeerId>;
}

/// Who is likely to have something, by what the peers have said of themselves.
pub trait LikelyHolders: MaybeSend + MaybeSync {
    /// Connected peers; few.
    fn holders(&self, cid: &Cid) -> Vec<PeerId>;
}

/// Judges peers by the configured strategy.
#[derive(Clone)]
pub struct Judge {
    streams: Arc<dyn PeerStreams>,
    metrics: Arc<Mutex<Metrics>>,
    strategy: Strategy,
}

impl Judge {
    pub fn new(
        streams: Arc<dyn PeerStreams>,
        metrics: Arc<Mutex<Metrics>>,
        strategy: Strategy,
    ) -> Self {
        Self { streams, metrics, strategy }
    }

    pub(super) fn streams(&self) -> Arc<dyn PeerStreams> {
        self.streams.clone()
    }

    /// The connected peers that speak Bitswap, best first.
    pub(super) fn connected(&self) -> Vec<(PeerId, f64)> {
        let peers = self.streams.peers().current();
        let fit = peers.values().filter(|info| speaks(info, PROTOCOL));
        let inputs = fit.map(|info| self.input(&info.id, Some(info)));
        let allowed = inputs.filter(|input| self.strategy.may_ask(input));
        let mut scored: Vec<(PeerId, f64)> =
            allowed.map(|input| (input.peer, self.strategy.score(&input))).collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        scored
    }

    /// Whom of these to ask for blocks at once, without asking first who has them.
    pub(super) fn choose(&self, connected: &[(PeerId, f64)]) -> Vec<(PeerId, f64)> {
        let all = !matches!(self.strategy, Strategy::Performance);
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let proven = |(peer, _): &&(PeerId, f64)| {
            all || metrics.get(peer).success.is_some_and(|success| success >= PROVEN)
        };
        connected.iter().filter(proven).take(MAX_CHOSEN).copied().collect()
    }

    /// Whether nobody else may be asked than whom the strategy allows.
    pub(super) fn only_chosen(&self) -> bool {
        self.strategy.is_private()
    }

    pub(super) fn may_ask(&self, peer: &PeerId) -> bool {
        let peers = self.streams.peers().current();
        *peer != self.streams.peer_id() && self.strategy.may_ask(&self.input(peer, peers.get(peer)))
    }

    /// `None`: it may not be asked.
    pub(super) fn score(&self, peer: &PeerId) -> Option<f64> {
        let peers = self.streams.peers().current();
        let input = self.input(peer, peers.get(peer));
        self.strategy.may_ask(&input).then(|| self.strategy.score(&input))
    }

    fn input(&self, peer: &PeerId, info: Option<&PeerInfo>) -> PeerScoreInput {
        let measured = self.metrics.lock().unwrap_or_else(PoisonError::into_inner).get(peer);
        PeerScoreInput {
            peer: *peer,
            latency: info.and_then(|info| info.latency),
            bandwidth: measured.bandwidth,
            success: measured.success,
            trust: measured.trust,
            direct: info.is_some_and(|info| info.relay.is_none()),
            has_ipfs: info.is_some_and(|info| speaks(info, PROTOCOL)),
        }
    }
}
