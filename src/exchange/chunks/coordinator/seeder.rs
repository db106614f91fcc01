//! What is learned about a seeder while it delivers.

use crate::platform::time::Duration;

/// How long a seeder may be silent before what it was asked for counts as failed, besides the time
/// that the bytes themselves take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// What a seeder is asked for at a time before its rate is known, and at least.
pub(super) const MIN_WINDOW: u64 = 2 << 20;
/// What a seeder is asked for at a time at most.
const MAX_WINDOW: u64 = 16 << 20;
/// A seeder is asked for as much as it brings in this many seconds.
const WINDOW_SECONDS: f64 = 2.0;
/// Bytes per second that a seeder is believed to make before its rate is known.
const FIRST_RATE: f64 = (1 << 20) as f64;
/// Bytes per second: who makes less has failed.
const LEAST_RATE: f64 = (16 << 10) as f64;
/// The time over which a rate is measured, in seconds of work; older work counts for less.
const MEASURED: f64 = 4.0;
/// Chunks given up in a row after which a seeder is asked only when no other is left, or to see
/// whether it has recovered.
const FAILING: u32 = 2;
/// How long a failing seeder is left alone.
const PROBE: Duration = Duration::from_secs(10);
/// Failures by Bitswap in a row after which a seeder with a URL is asked by HTTP at once.
const BITSWAP_TRIES: u32 = 3;

#[derive(Debug)]
pub(super) struct Seeder {
    pub(super) http: bool,
    pub(super) in_flight: u64,
    /// Not asked before.
    pub(super) resting_until: Duration,
    bitswap_failures: u32,
    http_delivers: bool,
    given_up: u32,
    probe_at: Duration,
    /// Bytes delivered in so many seconds of work.
    delivered: f64,
    worked: f64,
    /// Until when `worked` is counted, while it has something to do.
    counted: Duration,
}

impl Seeder {
    pub(super) fn new(http: bool) -> Self {
        Self {
            http,
            in_flight: 0,
            resting_until: Duration::ZERO,
            bitswap_failures: 0,
            http_delivers: false,
            given_up: 0,
            probe_at: Duration::ZERO,
            delivered: 0.0,
            worked: 0.0,
            counted: Duration::ZERO,
        }
    }

    /// Bytes per second, once it has delivered.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.delivered > 0.0).then(|| (self.delivered / self.worked.max(0.001)).max(1.0))
    }

    /// How long until it is done with what it has and `more` bytes; a guess until the rate is known.
    pub(super) fn finish(&self, more: u64, guess: f64) -> f64 {
        (self.in_flight + more) as f64 / self.rate().unwrap_or(guess)
    }

    /// Whether there is room for `size` bytes more.
    pub(super) fn has_room(&self, size: u64) -> bool {
        let ample = self.rate().map_or(0, |rate| (rate * WINDOW_SECONDS) as u64);
        let window = if self.is_failing() { 0 } else { ample.clamp(MIN_WINDOW, MAX_WINDOW) };
        self.in_flight == 0 || self.in_flight + size <= window
    }

    pub(super) fn is_failing(&self) -> bool {
        self.given_up >= FAILING
    }

    /// When a failing seeder may be tried again although others could be asked.
    pub(super) fn probe_at(&self) -> Duration {
        self.probe_at
    }

    pub(super) fn skips_bitswap(&self) -> bool {
        self.http && self.http_delivers && self.bitswap_failures >= BITSWAP_TRIES
    }

    /// How long it may take over `size` bytes, counted among `in_flight` already, at this attempt.
    pub(super) fn patience(&self, attempt: u32) -> Duration {
        let rate = self.rate().unwrap_or(FIRST_RATE).max(LEAST_RATE);
        let bytes = Duration::from_secs_f64(2.0 * self.in_flight as f64 / rate);
        (PATIENCE + bytes) * (1 << attempt.saturating_sub(1).min(4))
    }

    pub(super) fn asked(&mut self, size: u64, now: Duration) {
        self.count(now);
        self.in_flight += size;
    }

    pub(super) fn took_back(&mut self, size: u64, now: Duration) {
        self.count(now);
        self.in_flight = self.in_flight.saturating_sub(size);
    }

    /// After [`took_back`](Self::took_back).
    pub(super) fn delivered(&mut self, size: u64, now: Duration, by_http: bool) {
        self.delivered += size as f64;
        self.given_up = 0;
        self.resting_until = now;
        if by_http {
            self.http_delivers = true;
        } else {
            self.bitswap_failures = 0;
        }
    }

    pub(super) fn bitswap_failed(&mut self) {
        self.bitswap_failures = self.bitswap_failures.saturating_add(1);
    }

    pub(super) fn gave_up(&mut self, now: Duration) {
        self.given_up = self.given_up.saturating_add(1);
        self.probe_at = now + PROBE;
    }

    pub(super) fn rest(&mut self, until: Duration) {
        self.resting_until = self.resting_until.max(until);
    }

    /// Counts the time until now, if there was work.
    fn count(&mut self, now: Duration) {
        if self.in_flight > 0 {
            self.worked += now.saturating_sub(self.counted).as_secs_f64();
        }
        self.counted = now;
        if self.worked > MEASURED {
            let keep = MEASURED / 2.0 / self.worked;
            self.worked *= keep;
            self.delivered *= keep;
        }
    }
}
