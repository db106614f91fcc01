//! Strategies (row C6): in which order sources are asked, which peers may be asked, and which first.
//! Pure: measurements in, scores out.

use std::{fmt, sync::Arc};

use libp2p::PeerId;

use super::{chain::SourceId, source::SourceKind};
use crate::platform::{MaybeSend, MaybeSync, time::Duration};

/// For a direct connection.
const DIRECT: f64 = 100.0;
/// For a peer that speaks Bitswap.
const HAS_IPFS: f64 = 50.0;
/// For each point of trust.
const TRUST: f64 = 10.0;
/// For more bandwidth than [`FAST`].
const BANDWIDTH: f64 = 20.0;
/// Bytes per second.
const FAST: f64 = 1_000_000.0;
/// Taken off for each millisecond of latency.
const LATENCY: f64 = 0.1;
/// Enough trust to ask a peer that is not connected directly.
const TRUSTED: f64 = 1.0;
/// Takes a relayed peer below every direct one.
const RELAYED: f64 = -1000.0;
/// Largest score that counts: what an app's function gives is cut to it.
const MAX_SCORE: f64 = 1e9;

/// What is known of a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeerScoreInput {
    pub peer: PeerId,
    /// Of the last ping.
    pub latency: Option<Duration>,
    /// Measured, in bytes per second.
    pub bandwidth: Option<f64>,
    /// Share of the requests that it answered with what was asked for, the latest counting most.
    pub success: Option<f64>,
    /// 0 to 10, as the app set it.
    pub trust: f64,
    /// Connected, and not through a relay.
    pub direct: bool,
    /// Speaks Bitswap.
    pub has_ipfs: bool,
}

/// A score function of an app; more is better.
pub trait PeerScore: MaybeSend + MaybeSync {
    fn score(&self, input: &PeerScoreInput) -> f64;
}

impl<F: Fn(&PeerScoreInput) -> f64 + MaybeSend + MaybeSync> PeerScore for F {
    fn score(&self, input: &PeerScoreInput) -> f64 {
        self(input)
    }
}

/// Whom to ask first.
#[derive(Clone, Default)]
pub enum Strategy {
    /// Direct, near and fast peers first.
    #[default]
    Performance,
    /// The most trusted peers first.
    Trust,
    /// Only peers that are trusted or connected directly; neither the DHT nor gateways hear of it.
    PrivacyFirst,
    /// What costs nobody anything first: direct peers, then relayed ones, relays and gateways last.
    Cost,
    /// The app's own order of peers; sources as for [`Strategy::Performance`].
    Custom(Arc<dyn PeerScore>),
}

impl Strategy {
    /// How good a peer is to ask; more is better. Always a finite number.
    pub fn score(&self, input: &PeerScoreInput) -> f64 {
        let score = match self {
            Self::Performance => {
                basic(input) + input.success.map_or(0.0, |success| (success - 1.0) * DIRECT)
            }
            // Trust decides, the rest among those of equal trust.
            Self::Trust => input.trust * 1000.0 + basic(input),
            Self::PrivacyFirst => input.trust * 100.0 + basic(input),
            Self::Cost => basic(input) + if input.direct { 0.0 } else { RELAYED },
            Self::Custom(function) => function.score(input),
        };
        if score.is_nan() { 0.0 } else { score.clamp(-MAX_SCORE, MAX_SCORE) }
    }

    /// Whether the peer may learn what is being fetched.
    pub fn may_ask(&self, input: &PeerScoreInput) -> bool {
        match self {
            Self::PrivacyFirst => input.direct || input.trust >= TRUSTED,
            _ => true,
        }
    }

    /// Whether only peers that [`Strategy::may_ask`] allows are asked.
    pub fn is_private(&self) -> bool {
        matches!(self, Self::PrivacyFirst)
    }

    /// The stages of a chain: the sources of each kind of `order` together, in that order.
    pub fn stages(
        &self,
        sources: &[(SourceId, SourceKind)],
        order: &[SourceKind],
    ) -> Vec<Vec<SourceId>> {
        let mut kinds: Vec<SourceKind> = Vec::new();
        for kind in order {
            let public =
                matches!(kind, SourceKind::Network | SourceKind::Relay | SourceKind::Gateway);
            let refused = public && self.is_private();
            if !refused && !kinds.contains(kind) {
                kinds.push(*kind);
            }
        }
        if let Self::Cost = self {
            kinds.sort_by_key(|kind| matches!(kind, SourceKind::Relay | SourceKind::Gateway));
        }
        let of = |kind: &SourceKind| -> Vec<SourceId> {
            sources.iter().filter(|(_, its)| its == kind).map(|(id, _)| *id).collect()
        };
        kinds.iter().map(of).filter(|stage| !stage.is_empty()).collect()
    }
}

/// The scores that every strategy starts from.
pub fn basic(input: &PeerScoreInput) -> f64 {
    let mut score = input.trust * TRUST;
    if input.direct {
        score += DIRECT;
    }
    if input.has_ipfs {
        score += HAS_IPFS;
    }
    if input.bandwidth.is_some_and(|bandwidth| bandwidth > FAST) {
        score += BANDWIDTH;
    }
    score - input.latency.map_or(0.0, |latency| latency.as_secs_f64() * 1000.0 * LATENCY)
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Performance => "Performance",
            Self::Trust => "Trust",
            Self::PrivacyFirst => "PrivacyFirst",
            Self::Cost => "Cost",
            Self::Custom(_) => "Custom",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> PeerScoreInput {
        PeerScoreInput {
            peer: PeerId::random(),
            latency: None,
            bandwidth: None,
            success: None,
            trust: 0.0,
            direct: false,
            has_ipfs: false,
        }
    }

    #[test]
    fn the_basic_score_is_the_one_of_the_source() {
        let millis = |ms| Some(Duration::from_millis(ms));
        let cases = [
            (input(), 0.0),
            (PeerScoreInput { direct: true, ..input() }, 100.0),
            (PeerScoreInput { has_ipfs: true, ..input() }, 50.0),
            (PeerScoreInput { trust: 7.0, ..input() }, 70.0),
            (PeerScoreInput { bandwidth: Some(1_000_000.0), ..input() }, 0.0),
            (PeerScoreInput { bandwidth: Some(1_000_001.0), ..input() }, 20.0),
            (PeerScoreInput { latency: millis(250), ..input() }, -25.0),
            (
                PeerScoreInput {
                    direct: true,
                    has_ipfs: true,
                    trust: 1.0,
                    bandwidth: Some(5e6),
                    latency: millis(10),
                    ..input()
                },
                179.0,
            ),
        ];
        for (input, score) in cases {
            assert!((basic(&input) - score).abs() < 1e-6, "{input:?}");
        }
    }

    #[test]
    fn each_strategy_has_its_favourite() {
        let near = PeerScoreInput { direct: true, has_ipfs: true, ..input() };
        let friend = PeerScoreInput { trust: 5.0, has_ipfs: true, ..input() };
        let flaky = PeerScoreInput { success: Some(0.1), ..near };
        let better = |strategy: Strategy, a: &PeerScoreInput, b: &PeerScoreInput| {
            assert!(strategy.score(a) > strategy.score(b), "{strategy:?}");
        };
        better(Strategy::Performance, &near, &friend);
        better(Strategy::Performance, &near, &flaky);
        better(Strategy::Trust, &friend, &near);
        better(Strategy::PrivacyFirst, &friend, &near);
        better(Strategy::Cost, &near, &PeerScoreInput { trust: 10.0, ..friend });
        better(Strategy::Custom(Arc::new(|input: &PeerScoreInput| input.trust)), &friend, &near);
        let odd = Strategy::Custom(Arc::new(|_: &PeerScoreInput| f64::NAN));
        assert_eq!(odd.score(&near), 0.0);
        assert!(Strategy::PrivacyFirst.may_ask(&near) && Strategy::PrivacyFirst.may_ask(&friend));
        assert!(!Strategy::PrivacyFirst.may_ask(&input()) && Strategy::Cost.may_ask(&input()));
    }

    #[test]
    fn stages_follow_the_order_and_the_strategy() {
        use SourceKind::*;
        let sources =
            [(0, Gateway), (1, Peers), (2, Peers), (3, Network), (4, Relay), (5, Gateway)];
        let check = |strategy: Strategy, order: &[SourceKind], expected: &[&[SourceId]]| {
            assert_eq!(strategy.stages(&sources, order), expected, "{strategy:?} {order:?}");
        };
        check(Strategy::Performance, &SourceKind::ALL, &[&[1, 2], &[3], &[4], &[0, 5]]);
        check(Strategy::Performance, &[Gateway, Peers, Gateway], &[&[0, 5], &[1, 2]]);
        check(Strategy::PrivacyFirst, &SourceKind::ALL, &[&[1, 2]]);
        let order = [Relay, Gateway, Network, Peers];
        check(Strategy::Cost, &order, &[&[3], &[1, 2], &[4], &[0, 5]]);
        check(Strategy::Trust, &[Local], &[]);
    }
}
