//! Who gets which chunk next.

use super::{
    Action, Chunk, ChunkId, Coordinator, Held, MAX_IN_FLIGHT, Outcome, SeederId, Step, Via,
};
use crate::platform::time::Duration;

/// Chunks looked at in one go for one that some seeder can take.
const LOOK_AHEAD: usize = 256;
/// A chunk is taken from a slow seeder for an idle one that could have brought all that the slow one
/// is at so many times over since the chunk was given out.
const MUCH_FASTER: f64 = 4.0;
/// It is not taken away before.
const LET_WORK: Duration = Duration::from_secs(2);
/// What may come late after a deadline was put off: so many times the first patience.
const MAX_PATIENCE: u32 = 10;
/// Bytes per second taken for a seeder that has not delivered yet while no other has.
const UNKNOWN_RATE: f64 = (1 << 20) as f64;

impl Coordinator {
    /// Gives out chunks as long as seeders have room.
    pub(super) fn assign(&mut self, now: Duration) {
        if self.outcome == Outcome::Running && self.pending.is_empty() && self.held.is_empty() {
            self.outcome = Outcome::Complete;
        }
        self.wake = None;
        if self.outcome != Outcome::Running || self.paused {
            return;
        }
        let mut from = 0;
        for _ in 0..LOOK_AHEAD {
            if self.in_flight >= MAX_IN_FLIGHT || !self.has_room() {
                break;
            }
            let Some(&chunk) = self.pending.range(from..).next() else { break };
            from = chunk + 1;
            match self.choose(chunk, now) {
                Choice::Seeder(seeder) => self.begin(chunk, seeder, now),
                Choice::Later(at) => self.wake = [self.wake, at].into_iter().flatten().min(),
                Choice::Nobody => {
                    self.fail(chunk, now);
                    return;
                }
            }
        }
        self.relieve(now);
        let relief = self.reliefs().map(|(_, _, at)| at).min();
        self.wake = [self.wake, relief].into_iter().flatten().min();
    }

    /// How a chunk is asked for first.
    pub(super) fn first_way(&self, chunk: ChunkId) -> Via {
        let held = self.held.get(&chunk).and_then(|held| self.seeders.get(held.seeder));
        if held.is_some_and(|seeder| seeder.skips_bitswap()) { Via::Http } else { Via::Bitswap }
    }

    /// Asks the seeder that holds the chunk.
    pub(super) fn ask(&mut self, chunk: ChunkId, via: Via, now: Duration) {
        let size = self.chunks.get(chunk).map_or(0, |chunk| chunk.size);
        let Some(held) = self.held.get_mut(&chunk) else { return };
        let Some(seeder) = self.seeders.get_mut(held.seeder) else { return };
        if let Step::Resting { .. } = held.step {
            seeder.asked(size, now);
            self.in_flight += size;
        }
        let patience = seeder.patience(held.attempt);
        let (deadline, latest) = (now + patience, now + patience * MAX_PATIENCE);
        held.step = Step::Asked { via, deadline, latest };
        self.actions.push_back(Action::Ask { chunk, seeder: held.seeder, via });
    }

    /// Whether it makes sense to look for a seeder: one has room, or there is none at all.
    fn has_room(&self) -> bool {
        self.seeders.is_empty() || self.seeders.iter().any(|seeder| seeder.has_room(1))
    }

    fn begin(&mut self, chunk: ChunkId, seeder: SeederId, now: Duration) {
        if self.pending.remove(&chunk) {
            let size = self.chunks.get(chunk).map_or(0, |chunk| chunk.size);
            self.pending_bytes = self.pending_bytes.saturating_sub(size);
        }
        let step = Step::Resting { until: now };
        let held = Held { seeder, since: now, attempt: 1, bitswap_failed: None, step };
        self.held.insert(chunk, held);
        self.actions.push_back(Action::Begin { chunk, seeder });
        let via = self.first_way(chunk);
        self.ask(chunk, via, now);
    }

    fn choose(&self, chunk: ChunkId, now: Duration) -> Choice {
        let Some(state) = self.chunks.get(chunk) else { return Choice::Later(None) };
        let guess = self.seeders.iter().filter_map(|s| s.rate()).fold(UNKNOWN_RATE, f64::max);
        let able = || (0..self.seeders.len()).filter(|id| state.is_able(*id));
        if able().next().is_none() {
            return Choice::Nobody;
        }
        let healthy = able().any(|id| self.seeders.get(id).is_some_and(|s| !s.is_failing()));
        let mut best: Option<(f64, SeederId)> = None;
        let mut later: Option<Duration> = None;
        for id in able() {
            let Some(seeder) = self.seeders.get(id) else { continue };
            let mut ready = seeder.resting_until;
            if seeder.is_failing() && healthy {
                ready = ready.max(seeder.probe_at());
            }
            if !seeder.has_room(state.size) {
                continue;
            }
            if ready > now {
                later = Some(later.map_or(ready, |later| later.min(ready)));
                continue;
            }
            let finish = seeder.finish(state.size, guess);
            if best.is_none_or(|(other, _)| finish < other) {
                best = Some((finish, id));
            }
        }
        let Some((finish, id)) = best else { return Choice::Later(later) };
        // Another one, busy now, that would be done with all that is left before this one is with
        // this chunk.
        let rest = self.pending_bytes;
        let sooner = able().filter(|other| *other != id).any(|other| {
            self.seeders.get(other).is_some_and(|other| {
                let known = other.rate().is_some() && other.in_flight > 0 && !other.is_failing();
                known && other.finish(rest, guess) < finish
            })
        });
        let slow = self.seeders.get(id).is_some_and(|seeder| seeder.rate().is_some());
        if sooner && slow { Choice::Later(later) } else { Choice::Seeder(id) }
    }

    fn fail(&mut self, chunk: ChunkId, now: Duration) {
        let state = self.chunks.get_mut(chunk);
        let reasons = state.map(|chunk| std::mem::take(&mut chunk.failed_at)).unwrap_or_default();
        self.outcome = Outcome::Failed { chunk, reasons };
        self.stop_all(now);
    }

    /// At the end: takes chunks from slow seeders for those who have nothing to do.
    fn relieve(&mut self, now: Duration) {
        loop {
            let due = self.reliefs().find(|(_, _, at)| *at <= now);
            let Some((chunk, idle, _)) = due else { return };
            let Some(held) = self.release(chunk, now) else { return };
            if let Step::Asked { .. } = held.step {
                self.actions.push_back(Action::Stop { chunk, seeder: held.seeder });
            }
            if let Some(chunk) = self.chunks.get_mut(chunk) {
                chunk.moved = true;
            }
            self.begin(chunk, idle, now);
        }
    }

    /// Chunks that may be taken over by an idle seeder, and when.
    fn reliefs(&self) -> impl Iterator<Item = (ChunkId, SeederId, Duration)> + '_ {
        let none_pending = self.pending.is_empty();
        let idle = self.seeders.iter().enumerate().filter(move |(_, seeder)| {
            none_pending && seeder.in_flight == 0 && !seeder.is_failing()
        });
        idle.flat_map(move |(id, seeder)| {
            let rate = seeder.rate();
            self.held.iter().filter_map(move |(chunk, held)| {
                let state = self.chunks.get(*chunk)?;
                if state.moved || held.seeder == id || !state.is_able(id) {
                    return None;
                }
                let queued = self.seeders.get(held.seeder)?.in_flight.max(state.size);
                let needs = Duration::from_secs_f64(MUCH_FASTER * queued as f64 / rate?);
                Some((*chunk, id, (held.since + LET_WORK + needs).max(seeder.resting_until)))
            })
        })
    }
}

impl Chunk {
    /// Whether the seeder has not given up on it.
    fn is_able(&self, id: SeederId) -> bool {
        !self.failed_at.iter().any(|(at, _)| *at == id)
    }
}

enum Choice {
    Seeder(SeederId),
    /// Somebody may later; if it is known, then.
    Later(Option<Duration>),
    /// All have given up.
    Nobody,
}
