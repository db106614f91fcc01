//! What was measured of each peer: the input of the strategies. Averages that decay, so that a peer
//! that has changed is soon judged by what it does now. Pure: times are durations since the start.

use std::collections::HashMap;

use libp2p::PeerId;

use crate::platform::time::Duration;

/// Peers of whom something is remembered; beyond that the one not heard of for longest goes.
pub const MAX_PEERS_MEASURED: usize = 1024;
/// Most trust that there is.
pub const MAX_TRUST: f64 = 10.0;
/// How much the latest measurement counts.
const WEIGHT: f64 = 0.25;
/// Bandwidth is measured over stretches at least this long.
const STRETCH: Duration = Duration::from_millis(500);
/// A pause as long as this is no part of a transfer.
const PAUSE: Duration = Duration::from_secs(2);

/// What was measured of one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PeerMetrics {
    /// Bytes per second.
    pub bandwidth: Option<f64>,
    /// 0 to 1.
    pub success: Option<f64>,
    /// 0 to [`MAX_TRUST`].
    pub trust: f64,
    /// Blocks that it delivered.
    pub blocks: u64,
    pub bytes: u64,
    heard: Duration,
    stretch: Option<Stretch>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    since: Duration,
    bytes: u64,
}

/// The measurements of all peers.
#[derive(Debug, Default)]
pub struct Metrics {
    peers: HashMap<PeerId, PeerMetrics>,
}

impl Metrics {
    pub fn get(&self, peer: &PeerId) -> PeerMetrics {
        self.peers.get(peer).copied().unwrap_or_default()
    }

    /// A block of `bytes` came.
    pub fn delivered(&mut self, peer: PeerId, bytes: usize, now: Duration) {
        let metrics = self.entry(peer, now);
        let paused = now.saturating_sub(metrics.heard) > PAUSE;
        (metrics.heard, metrics.blocks) = (now, metrics.blocks + 1);
        metrics.bytes = metrics.bytes.saturating_add(bytes as u64);
        metrics.success = Some(average(metrics.success, 1.0));
        match &mut metrics.stretch {
            // The time before the first block says nothing: count from it on.
            None => metrics.stretch = Some(Stretch { since: now, bytes: 0 }),
            Some(stretch) if paused => *stretch = Stretch { since: now, bytes: 0 },
            Some(stretch) => {
                stretch.bytes = stretch.bytes.saturating_add(bytes as u64);
                let took = now.saturating_sub(stretch.since);
                if took >= STRETCH {
                    let rate = stretch.bytes as f64 / took.as_secs_f64();
                    *stretch = Stretch { since: now, bytes: 0 };
                    metrics.bandwidth = Some(average(metrics.bandwidth, rate));
                }
            }
        }
    }

    /// It did not bring what was asked of it, or not in time.
    pub fn failed(&mut self, peer: PeerId, now: Duration) {
        let metrics = self.entry(peer, now);
        metrics.heard = now;
        metrics.success = Some(average(metrics.success, 0.0));
    }

    /// The app's judgement.
    pub fn set_trust(&mut self, peer: PeerId, trust: f64, now: Duration) {
        let trust = if trust.is_nan() { 0.0 } else { trust.clamp(0.0, MAX_TRUST) };
        self.entry(peer, now).trust = trust;
    }

    pub fn len(&self) -> usize {
        self.peers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// What the app has said of a peer is forgotten last.
    fn entry(&mut self, peer: PeerId, now: Duration) -> &mut PeerMetrics {
        if self.peers.len() >= MAX_PEERS_MEASURED && !self.peers.contains_key(&peer) {
            let oldest =
                self.peers.iter().min_by_key(|(_, metrics)| (metrics.trust > 0.0, metrics.heard));
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.peers.remove(&oldest);
            }
        }
        let fresh = PeerMetrics { heard: now, ..PeerMetrics::default() };
        self.peers.entry(peer).or_insert(fresh)
    }
}

fn average(before: Option<f64>, latest: f64) -> f64 {
    before.map_or(latest, |before| before + (latest - before) * WEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bandwidth_is_what_came_while_it_came() {
        let (mut metrics, peer) = (Metrics::default(), PeerId::random());
        // 1 MB every 100 ms, then a long pause, then the same again.
        for start in [0, 60_000] {
            for i in 0..=20 {
                metrics.delivered(peer, 1_000_000, millis(start + i * 100));
            }
            let rate = metrics.get(&peer).bandwidth.expect("measured");
            assert!((rate - 1e7).abs() < 1e5, "{rate}");
        }
        assert_eq!(metrics.get(&peer).blocks, 42);
    }

    #[test]
    fn the_latest_counts_most() {
        let (mut metrics, peer) = (Metrics::default(), PeerId::random());
        metrics.delivered(peer, 1, millis(0));
        assert_eq!(metrics.get(&peer).success, Some(1.0));
        for i in 0..10 {
            metrics.failed(peer, millis(i));
        }
        assert!(metrics.get(&peer).success.is_some_and(|success| success < 0.1));
        metrics.set_trust(peer, f64::INFINITY, millis(1));
        assert_eq!(metrics.get(&peer).trust, MAX_TRUST);
    }

    #[test]
    fn memory_is_bounded_and_trusted_peers_stay() {
        let (mut metrics, friend) = (Metrics::default(), PeerId::random());
        metrics.set_trust(friend, 3.0, millis(0));
        for i in 0..2 * MAX_PEERS_MEASURED as u64 {
            metrics.delivered(PeerId::random(), 1, millis(i));
        }
        assert_eq!(metrics.len(), MAX_PEERS_MEASURED);
        assert_eq!(metrics.get(&friend).trust, 3.0);
    }
}
