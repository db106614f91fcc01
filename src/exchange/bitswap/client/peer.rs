//! What the client knows of a connected peer: what it owes, how fast it delivers, how it behaves.

use super::{Hash, MAX_BREACHES, WantEntry, WantKind};
use crate::boxmap::BoxMap;
use crate::platform::time::Duration;

/// Blocks asked of a peer at a time before its rate is known, and what the allowance grows from.
const FIRST_ASKED: usize = 16;
/// How much of its rate is asked of a peer ahead.
const AHEAD: Duration = Duration::from_secs(2);
/// A question may stay open for so many times the patience: nobody waits for its answer alone, and a
/// busy peer looks up what it was asked after what it owes to others.
const QUESTION_PATIENCE: u32 = 3;
/// Silences in a row after which a peer is taken not to have what it was asked for.
const MAX_SILENCES: u32 = 2;
/// A silent peer is left alone for this long, and longer each time.
const FIRST_REST: Duration = Duration::from_secs(5);
/// The longest that it is left alone.
const MAX_REST: Duration = Duration::from_secs(60);
/// Rates are not measured over less than this,
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// unless nothing is known of the peer,
const MIN_FIRST_INTERVAL: Duration = Duration::from_millis(2);
/// nor over fewer bytes: a small block says how long the way is, not how wide,
const MIN_SAMPLE: u64 = 64 << 10;
/// unless that is all that came in this time.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// What a peer is taken to deliver, in bytes per second, before its rate is known.
const FIRST_RATE: f64 = (1 << 20) as f64;
/// Bytes may trickle in for this long before one of the blocks asked for has to be there.
const MAX_TRICKLE: Duration = Duration::from_secs(60);
/// A peer that owes blocks and completes none for this long is compared with those that do.
pub(super) const STALL: Duration = Duration::from_secs(1);
/// Stalls in a row after which a peer is left alone for a while.
const MAX_STALLS: u32 = 2;
/// Blocks that a peer may send beyond the things it was asked; each further lot is a breach.
const MAX_UNASKED: u64 = 16;
/// How often it is looked whether something asked for was left out.
const OVERTAKEN_EVERY: u64 = 256;

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
    pub asked: BoxMap<Hash, Ask>,
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
    /// An answer to what it was asked came, or it began to owe something.
    progressed: Duration,
    /// When its progress was last judged.
    judged: Duration,
    stalls: u32,
    /// Since when `counted` is counted; `None`: it owes nothing.
    measured: Option<Duration>,
    counted: u64,
    rest: Option<Duration>,
    next_rest: Duration,
    /// In a row; promises between them do not count.
    silences: u32,
    asks: u64,
    /// How many blocks it may have sent before the next is a breach.
    may_send: u64,
    next_overtaken: u64,
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
            asked: BoxMap::new(),
            owed: 0,
            breaches: 0,
            stats: PeerStats::default(),
            outbox: Vec::new(),
            greeted: false,
            allowance: FIRST_ASKED,
            heard: now,
            progressed: now,
            judged: now,
            stalls: 0,
            measured: None,
            counted: 0,
            rest: None,
            next_rest: FIRST_REST,
            silences: 0,
            asks: 0,
            may_send: MAX_UNASKED,
            next_overtaken: OVERTAKEN_EVERY,
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
            (self.measured, self.counted) = (Some(now), 0);
        }
        if self.asked.is_empty() || (self.owed == 0 && kind == WantKind::Block) {
            (self.heard, self.progressed, self.judged) = (now, now, now);
        }
        self.asks += 1;
        self.may_send += 1;
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

    /// When it would have delivered `more` blocks of `size` bytes, in seconds.
    pub fn finish(&self, size: u64, more: usize) -> f64 {
        let bytes = (self.owed + more) as f64 * size as f64;
        bytes / self.stats.rate.unwrap_or(FIRST_RATE).max(1.0)
    }

    /// When it will have delivered what it owes, judged by what it does; `None`: too early to say.
    pub fn lags(&self, size: u64, now: Duration) -> Option<f64> {
        let since = now.saturating_sub(self.progressed);
        let stalled = (since >= STALL).then_some(self.owed as f64 * since.as_secs_f64());
        let rated = self.stats.rate.map(|_| self.finish(size, 0) - since.as_secs_f64());
        stalled.into_iter().chain(rated).reduce(f64::max).filter(|_| self.owed > 0)
    }

    /// Its blocks were given to others because it completed none for too long. Says until when it
    /// is left alone, if that was once too often.
    pub fn stalled(&mut self, size: u64, now: Duration) -> Option<Duration> {
        let since = now.saturating_sub(self.progressed);
        if since < STALL {
            return None;
        }
        (self.progressed, self.judged) = (now, now);
        let most = size as f64 / since.as_secs_f64();
        self.stats.rate = Some(self.stats.rate.unwrap_or(most).min(most) / 2.0);
        self.allowance = 2;
        self.stalls += 1;
        (self.stalls >= MAX_STALLS).then(|| self.timed_out(now))
    }

    /// Whether it has answered so far.
    pub fn reliable(&self) -> bool {
        self.usable() && self.stats.latency.is_some() && self.stalls == 0
    }

    /// When its progress is to be judged.
    pub fn judge_at(&self) -> Option<Duration> {
        (self.owed > 0).then(|| self.progressed.max(self.judged).saturating_add(STALL))
    }

    pub fn judge(&mut self, now: Duration) {
        if self.judge_at().is_some_and(|at| at <= now) {
            self.judged = now;
        }
    }

    /// Bytes come from it.
    pub fn heard(&mut self, now: Duration) {
        if self.stats.latency.is_none() && !self.asked.is_empty() {
            self.stats.latency = Some(now.saturating_sub(self.heard));
        }
        self.heard = now;
    }

    /// It answered something that it was asked.
    pub fn progressed(&mut self, now: Duration) {
        self.heard(now);
        (self.progressed, self.judged) = (now, now);
    }

    /// Takes wanted blocks into its rate, and lets it owe more. Says whether it was left alone.
    pub fn delivered(&mut self, bytes: u64, blocks: usize, now: Duration) -> bool {
        (self.next_rest, self.silences, self.stalls) = (FIRST_REST, 0, 0);
        self.allowance = self.allowance.saturating_add(2 * blocks);
        let rested = self.rest.take().is_some();
        let Some(since) = self.measured else { return rested };
        self.counted += bytes;
        let interval = now.saturating_sub(since);
        if interval < MIN_INTERVAL && self.stats.rate.is_some()
            || self.counted < MIN_SAMPLE && interval < MAX_INTERVAL
        {
            return rested;
        }
        let interval = interval.max(MIN_FIRST_INTERVAL).as_secs_f64();
        let sample = self.counted as f64 / interval;
        // By time, so that a burst of a few milliseconds does not pass for the link's rate.
        let weight = (interval / 0.5).clamp(0.05, 0.5);
        self.stats.rate = Some(match self.stats.rate {
            Some(rate) => rate + weight * (sample - rate),
            None => sample,
        });
        (self.measured, self.counted) = (Some(now), 0);
        rested
    }

    /// Whether a block, wanted or not, is more than what it was asked accounts for.
    pub fn sent_too_much(&mut self) -> bool {
        match self.may_send.checked_sub(1) {
            Some(left) => self.may_send = left,
            None => {
                self.may_send = MAX_UNASKED;
                return true;
            }
        }
        false
    }

    /// What it left out while it delivered hundreds of blocks that it was asked for later.
    pub fn overtaken(&mut self, max_asked: usize) -> Vec<Hash> {
        if self.asks < self.next_overtaken {
            return Vec::new();
        }
        self.next_overtaken = self.asks + OVERTAKEN_EVERY;
        let oldest = self.asks.saturating_sub(2 * max_asked as u64);
        let asks = self.asked.iter().filter(|(_, ask)| ask.number < oldest);
        asks.map(|(hash, _)| *hash).collect()
    }

    /// What it owes, what it was asked last first.
    pub fn latest_first(&self) -> Vec<Hash> {
        let mut asked: Vec<_> = self.asked.iter().map(|(hash, ask)| (ask.number, *hash)).collect();
        asked.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        asked.into_iter().map(|(_, hash)| hash).collect()
    }

    /// When it has been silent for too long, if nothing comes.
    pub fn due(&self, patience: Duration) -> Option<Duration> {
        let patience = if self.owed == 0 { patience * QUESTION_PATIENCE } else { patience };
        let silent = self.heard.saturating_add(patience);
        let trickles = self.progressed.saturating_add(MAX_TRICKLE);
        (!self.asked.is_empty()).then(|| silent.min(trickles))
    }

    /// Lets it rest; says until when.
    pub fn timed_out(&mut self, now: Duration) -> Duration {
        let until = now.saturating_add(self.next_rest);
        self.stats.timeouts += 1;
        let trickled = now >= self.progressed.saturating_add(MAX_TRICKLE);
        let more = if self.owed == 0 || trickled { MAX_SILENCES } else { 1 };
        self.silences = self.silences.saturating_add(more);
        self.rest = Some(until);
        self.next_rest = (self.next_rest * 2).min(MAX_REST);
        self.allowance = 2;
        until
    }

    /// Whether it rests now, but may just have been busy.
    pub fn may_come_back(&self) -> bool {
        self.breaches < MAX_BREACHES && self.rest.is_some() && self.silences < MAX_SILENCES
    }

    pub fn rests_until(&self) -> Option<Duration> {
        self.rest
    }

    /// Whether its rest has just ended.
    pub fn rested(&mut self, now: Duration) -> bool {
        self.rest.take_if(|until| *until <= now).is_some()
    }
}
