//! How much may come from whom: token buckets of messages and of bytes. Pure: the time is given.

use libp2p::PeerId;

use crate::boxmap::BoxMap;
use crate::platform::time::Duration;

/// So much a second, and so much at once after a silence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// A rate of messages and one of their bytes; both hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    pub messages: Rate,
    pub bytes: Rate,
}

impl Flow {
    /// Of messages whose bytes are not counted.
    pub const fn of_messages(per_second: u32, burst: u32) -> Self {
        let messages = Rate { per_second, burst };
        Self { messages, bytes: Rate { per_second: 1, burst: 1 } }
    }

    /// `times` as much of both.
    pub const fn times(self, times: u32) -> Self {
        Self { messages: self.messages.times(times), bytes: self.bytes.times(times) }
    }
}

impl Rate {
    const fn times(self, times: u32) -> Self {
        Self { per_second: self.per_second * times, burst: self.burst * times }
    }
}

/// What is left of a [`Flow`].
#[derive(Debug, Clone)]
pub struct Meter {
    messages: f64,
    bytes: f64,
    at: Duration,
}

impl Meter {
    /// Nothing is used yet.
    pub fn new(flow: Flow, now: Duration) -> Self {
        let Flow { messages, bytes } = flow;
        Self { messages: messages.burst.into(), bytes: bytes.burst.into(), at: now }
    }

    /// Takes one message of so many bytes if there is room for it.
    pub fn take(&mut self, flow: Flow, bytes: usize, now: Duration) -> bool {
        self.refill(flow, now);
        let bytes = bytes as f64;
        if self.messages < 1.0 || self.bytes < bytes {
            return false;
        }
        self.messages -= 1.0;
        self.bytes -= bytes;
        true
    }

    /// When there will be room for it.
    pub fn room_at(&self, flow: Flow, bytes: usize) -> Duration {
        let wait = |missing: f64, rate: Rate| missing.max(0.0) / f64::from(rate.per_second.max(1));
        let messages = wait(1.0 - self.messages, flow.messages);
        let bytes = wait(bytes as f64 - self.bytes, flow.bytes);
        // A millisecond more, so that rounding does not wake anybody in vain.
        self.at + Duration::from_secs_f64(messages.max(bytes)) + Duration::from_millis(1)
    }

    /// It is as if it were new: it need not be remembered.
    pub fn is_full(&mut self, flow: Flow, now: Duration) -> bool {
        self.refill(flow, now);
        self.messages >= f64::from(flow.messages.burst) && self.bytes >= f64::from(flow.bytes.burst)
    }

    fn refill(&mut self, flow: Flow, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let add = |left: f64, rate: Rate| {
            (left + passed * f64::from(rate.per_second)).min(rate.burst.into())
        };
        self.messages = add(self.messages, flow.messages);
        self.bytes = add(self.bytes, flow.bytes);
    }
}

/// A [`Meter`] for each peer that something comes from, as long as it is worth remembering.
#[derive(Debug)]
pub struct Meters {
    flow: Flow,
    most: usize,
    meters: BoxMap<PeerId, Meter>,
}

impl Meters {
    /// Of at most so many peers.
    pub fn new(flow: Flow, most: usize) -> Self {
        Self { flow, most, meters: BoxMap::new() }
    }

    /// Takes one message of so many bytes of `peer` if there is room for it.
    pub fn take(&mut self, peer: PeerId, bytes: usize, now: Duration) -> bool {
        let flow = self.flow;
        make_room(&mut self.meters, self.most, |meter| meter.is_full(flow, now));
        self.meters.entry(peer).or_insert_with(|| Meter::new(flow, now)).take(flow, bytes, now)
    }

    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.meters.len()
    }
}

/// Forgets those who are as if they were new; if nobody is, everybody.
pub(super) fn make_room<V>(
    known: &mut BoxMap<PeerId, V>,
    most: usize,
    mut idle: impl FnMut(&mut V) -> bool,
) {
    if known.len() >= most {
        known.retain(|_, value| !idle(value));
        if known.len() >= most {
            known.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: Flow = Flow {
        messages: Rate { per_second: 10, burst: 20 },
        bytes: Rate { per_second: 1000, burst: 3000 },
    };

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let at = |ms| Duration::from_millis(ms);
        let mut meter = Meter::new(FLOW, at(5));
        let taken = (0..50).filter(|_| meter.take(FLOW, 10, at(5))).count();
        assert_eq!(taken, 20);
        let room = meter.room_at(FLOW, 10);
        assert!((at(105)..=at(107)).contains(&room), "{room:?}");
        assert!(!meter.take(FLOW, 10, at(90)) && meter.take(FLOW, 10, room));
        let taken = (0..10_000).filter(|ms| meter.take(FLOW, 10, room + at(*ms))).count();
        assert!((99..=101).contains(&taken), "{taken}");
        assert!(!meter.is_full(FLOW, room + at(10_001)));
        assert!(meter.is_full(FLOW, room + at(15_000)));
    }

    #[test]
    fn bytes_count_too_and_time_never_runs_back() {
        let mut meter = Meter::new(FLOW, Duration::from_secs(10));
        assert!(meter.take(FLOW, 3000, Duration::from_secs(10)));
        assert!(!meter.take(FLOW, 1, Duration::from_secs(10)));
        assert!(!meter.take(FLOW, 1, Duration::from_secs(5)));
        assert!(meter.take(FLOW, 1000, Duration::from_secs(11)));
        assert!(!meter.take(FLOW, 1, Duration::from_secs(11)));
    }
}
