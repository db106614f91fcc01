//! What the client knows of a connected peer: what it owes, how fast it delivers, how it behaves.

use std::collections::BTreeMap;

use super::{Hash, MAX_BREACHES, WantEntry, WantKind};
use crate::platform::time::Duration;

/// Blocks asked of a peer at a time before its rate is known, and what the allowance grows from.
const FIRST_ASKED: usize = 16;
/// How much of its rate is asked of a peer ahead.
const AHEAD: Duration = Duration::from_secs(2);
/// A silent peer is left alone for this long, and longer each time.
const FIRST_REST: Duration = Duration::from_secs(5);
/// The longest that it is left alone.
const MAX_REST: Duration = Duration::from_secs(60);
/// Rates are not measured over less than this.
const MIN_INTERVAL: Duration = Duration::from_millis(2);

/// What a peer has done since it was connected.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerStats {
    /// Blocks that were wanted, and their bytes.
    pub blocks: u64,
    pub bytes: u64,
    /// Blocks that were wanted no more, or never, and their bytes.
    pub useless: u64,
    pub useless_bytes: u64,
    pub declined: u64,
    /// Times that it was silent for too long.
    pub timeouts: u64,
    /// Bytes per second while it owed something.
    pub rate: Option<f64>,
    /// From being asked to the first answer.
    pub latency: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Peer {
    /// What it owes an answer for.
    pub asked: BTreeMap<Hash, Ask>,
    /// Of these, blocks.
    pub owed: usize,
    pub breaches: u32,
    pub stats: PeerStats,
    outbox: Vec<WantEntry>,
    greeted: bool,
    /// How many blocks it may owe; grows with what it delivers.
    allowance: usize,
    /// Something came from it, or it began to owe something.
    heard: Duration,
    /// Since when the bytes that come next are counted; `None`: it owes nothing.
    measured: Option<Duration>,
    rest: Option<Duration>,
    next_rest: Duration,
    asks: u64,
}

/// One thing asked of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub kind: WantKind,
    /// Counts up: the later, the later it comes.
    pub number: u64,
}

impl Peer {
    pub fn new(now: Duration) -> Self {
        Self {
            asked: BTreeMap::new(),
            owed: 0,
            breaches: 0,
            stats: PeerStats::default(),
            outbox: Vec::new(),
            greeted: false,
            allowance: FIRST_ASKED,
            heard: now,
            measured: None,
            rest: None,
            next_rest: FIRST_REST,
            asks: 0,
        }
    }

    /// Whether it is asked for anything at all.
    pub fn usable(&self) -> bool {
        self.breaches < MAX_BREACHES && self.rest.is_none()
    }

    pub fn say(&mut self, entry: WantEntry) {
        self.outbox.push(entry);
    }

    pub fn take_outbox(&mut self) -> Option<(Vec<WantEntry>, bool)> {
        if self.outbox.is_empty() {
            return None;
        }
        let full = !std::mem::replace(&mut self.greeted, true);
        Some((std::mem::take(&mut self.outbox), full))
    }

    pub fn ask(&mut self, hash: Hash, kind: WantKind, now: Duration) {
        if self.asked.is_empty() {
            self.heard = now;
            self.measured = Some(now);
        }
        self.asks += 1;
        let before = self.asked.insert(hash, Ask { kind, number: self.asks });
        self.owed += usize::from(kind == WantKind::Block);
        self.owed -= usize::from(before.is_some_and(|before| before.kind == WantKind::Block));
    }

    /// It owes no answer for this any more; says what was owed.
    pub fn settle(&mut self, hash: &Hash) -> Option<WantKind> {
        let kind = self.asked.remove(hash)?.kind;
        self.owed -= usize::from(kind == WantKind::Block);
        if self.asked.is_empty() {
            self.measured = None;
        }
        Some(kind)
    }

    /// Room for another block of about `size` bytes.
    pub fn has_room(&self, size: u64, window: u64, max_asked: usize) -> bool {
        if self.owed >= self.allowance.min(max_asked) {
            return false;
        }
        let window = match self.stats.rate {
            Some(rate) => window.min((rate * AHEAD.as_secs_f64()) as u64).max(2 * size),
            None => window,
        };
        (self.owed as u64 + 1).saturating_mul(size) <= window.max(size)
    }

    /// When it would have delivered another block of `size` bytes, in seconds.
    pub fn finish(&self, size: u64) -> f64 {
        let bytes = (self.owed as f64 + 1.0) * size as f64;
        bytes / self.stats.rate.unwrap_or(f64::from(1 << 20)).max(1.0)
    }

    pub fn heard(&mut self, now: Duration) {
        if self.stats.latency.is_none() && !self.asked.is_empty() {
            self.stats.latency = Some(now.saturating_sub(self.heard));
        }
        self.heard = now;
    }

    /// Takes `bytes` into its rate, and lets it owe more.
    pub fn delivered(&mut self, bytes: u64, blocks: usize, now: Duration) {
        self.rest = None;
        self.next_rest = FIRST_REST;
        self.allowance = self.allowance.saturating_add(2 * blocks);
        let Some(since) = self.measured.replace(now) else { return };
        let interval = now.saturating_sub(since).max(MIN_INTERVAL).as_secs_f64();
        let sample = bytes as f64 / interval;
        // By time, so that a burst of a few milliseconds does not pass for the link's rate.
        let weight = (interval / 0.5).clamp(0.05, 0.5);
        self.stats.rate = Some(match self.stats.rate {
            Some(rate) => rate + weight * (sample - rate),
            None => sample,
        });
    }

    /// When it has been silent for too long, if nothing comes.
    pub fn due(&self, patience: Duration) -> Option<Duration> {
        (!self.asked.is_empty()).then(|| self.heard.saturating_add(patience))
    }

    /// Lets it rest; says until when.
    pub fn timed_out(&mut self, now: Duration) -> Duration {
        let until = now.saturating_add(self.next_rest);
        self.stats.timeouts += 1;
        self.rest = Some(until);
        self.next_rest = (self.next_rest * 2).min(MAX_REST);
        self.allowance = FIRST_ASKED;
        until
    }

    pub fn rests_until(&self) -> Option<Duration> {
        self.rest
    }

    /// Whether its rest has just ended.
    pub fn rested(&mut self, now: Duration) -> bool {
        self.rest.take_if(|until| *until <= now).is_some()
    }
}
