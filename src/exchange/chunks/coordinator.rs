//! Which seeder brings which chunk, and what happens when it does not: one file's chunks spread
//! over many seeders (chunk download specification, "Errors" and "Integration points"). Pure:
//! events and the time in, [`Action`]s out.
//!
//! A chunk is given to one seeder, which has [`ATTEMPTS`] attempts, each by Bitswap first and then,
//! if the seeder has one, at its HTTP URL; between them it waits. After the last it goes to another
//! seeder. The file has failed when a chunk has failed at every seeder.
//!
//! Seeders draw chunks as they deliver, so that faster ones get more. Near the end a slow one gets
//! none that the others would be done with sooner, and what it still holds is given to one that has
//! nothing to do. Otherwise no chunk is ever asked of two.

mod assign;
mod seeder;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::seeder::Seeder;
use crate::boxmap::{BoxMap, BoxSet};
use crate::{content::block::MAX_BLOCK, platform::time::Duration};

/// Attempts of a seeder at a chunk.
pub const ATTEMPTS: u32 = 3;
/// How long is waited after the first, second and third attempt that failed. After the third it is
/// the seeder that rests: the chunk goes to another one at once.
pub const BACKOFF: [Duration; ATTEMPTS as usize] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];
/// Seeders of one file.
pub const MAX_SEEDERS: usize = 64;
/// Chunks of one file.
pub const MAX_CHUNKS: usize = 1 << 18;
/// Bytes asked for and not yet stored, of all seeders together.
pub const MAX_IN_FLIGHT: u64 = 32 << 20;

/// Place of a chunk, in the order in which chunks were added.
pub type ChunkId = usize;
/// Place of a seeder in the list that the coordinator was made with.
pub type SeederId = usize;

/// How a chunk is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Bitswap,
    Http,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The seeder is given the chunk; [`Ask`](Self::Ask) follows.
    Begin { chunk: ChunkId, seeder: SeederId },
    /// Ask for it. Answered with `succeeded` or `failed`, unless stopped before.
    Ask { chunk: ChunkId, seeder: SeederId, via: Via },
    /// Do not wait for it any longer.
    Stop { chunk: ChunkId, seeder: SeederId },
    /// All attempts of the seeder have failed.
    GaveUp { chunk: ChunkId, seeder: SeederId, reason: String },
    /// The chunk is stored.
    Done { chunk: ChunkId },
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Worth another attempt.
    Attempt(String),
    /// Wrong bytes were found at its URL, which is not asked again. (Wrong bytes by Bitswap are no
    /// block that anybody asked for.)
    Url(String),
}

/// How the download stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Chunks are missing, and there is something to be done about it, or it is paused.
    Running,
    /// All chunks added so far are stored.
    Complete,
    /// No seeder has brought this chunk; what each of them said.
    Failed {
        chunk: ChunkId,
        reasons: Vec<(SeederId, String)>,
    },
    Cancelled,
}

#[derive(Debug)]
pub struct Coordinator {
    seeders: Vec<Seeder>,
    chunks: Vec<Chunk>,
    /// To be given to a seeder; the first ones first.
    pending: BoxSet<ChunkId>,
    pending_bytes: u64,
    /// With a seeder.
    held: BoxMap<ChunkId, Held>,
    in_flight: u64,
    actions: VecDeque<Action>,
    outcome: Outcome,
    paused: bool,
    /// When a chunk can be given out that now cannot, as far as it is known.
    wake: Option<Duration>,
}

#[derive(Debug)]
struct Chunk {
    size: u64,
    done: bool,
    /// It was taken from a slow seeder already.
    moved: bool,
    /// The seeders that have given up.
    failed_at: Vec<(SeederId, String)>,
}

/// A chunk that a seeder has been given.
#[derive(Debug)]
struct Held {
    seeder: SeederId,
    since: Duration,
    /// From 1.
    attempt: u32,
    /// What by Bitswap went wrong in this attempt.
    bitswap_failed: Option<String>,
    step: Step,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Asked; counts as failed at `deadline`, which what arrives may put off until `latest`.
    Asked { via: Via, deadline: Duration, latest: Duration },
    /// Waits after a failed attempt.
    Resting { until: Duration },
}

impl Coordinator {
    /// `seeders`: for each whether it has an HTTP URL. Those above [`MAX_SEEDERS`] are left out.
    pub fn new(seeders: impl IntoIterator<Item = bool>) -> Self {
        Self {
            seeders: seeders.into_iter().take(MAX_SEEDERS).map(Seeder::new).collect(),
            chunks: Vec::new(),
            pending: BoxSet::new(),
            pending_bytes: 0,
            held: BoxMap::new(),
            in_flight: 0,
            actions: VecDeque::new(),
            outcome: Outcome::Complete,
            paused: false,
            wake: None,
        }
    }

    /// Adds a chunk of about `size` bytes; one that is stored already is done at once. `None`: there
    /// are [`MAX_CHUNKS`].
    pub fn add(&mut self, size: u64, stored: bool) -> Option<ChunkId> {
        let chunk = self.chunks.len();
        if chunk >= MAX_CHUNKS {
            return None;
        }
        let size = size.clamp(1, MAX_BLOCK as u64);
        self.chunks.push(Chunk { size, done: stored, moved: false, failed_at: Vec::new() });
        if stored {
            self.actions.push_back(Action::Done { chunk });
        } else {
            self.put_back(chunk);
            if self.outcome == Outcome::Complete {
                self.outcome = Outcome::Running;
            }
        }
        Some(chunk)
    }

    /// The chunk came from the seeder, was found to be right, and is stored.
    pub fn succeeded(&mut self, chunk: ChunkId, seeder: SeederId, now: Duration) {
        let Some(state) = self.chunks.get_mut(chunk).filter(|state| !state.done) else { return };
        state.done = true;
        state.failed_at = Vec::new();
        let size = state.size;
        if self.pending.remove(&chunk) {
            self.pending_bytes -= size;
        }
        if let Some(held) = self.release(chunk, now) {
            if held.seeder != seeder {
                self.actions.push_back(Action::Stop { chunk, seeder: held.seeder });
            } else if let Some(state) = self.seeders.get_mut(seeder) {
                state.delivered(size, now, matches!(held.step, Step::Asked { via: Via::Http, .. }));
            }
        }
        self.actions.push_back(Action::Done { chunk });
        self.put_off(seeder, None, now);
        self.assign(now);
    }

    /// What the seeder was asked for last did not come.
    pub fn failed(&mut self, chunk: ChunkId, seeder: SeederId, failure: Failure, now: Duration) {
        let asked = self.held.get(&chunk).filter(|held| held.seeder == seeder);
        if !asked.is_some_and(|held| matches!(held.step, Step::Asked { .. })) {
            return;
        }
        let reason = match failure {
            Failure::Attempt(reason) => reason,
            Failure::Url(reason) => {
                self.seeders.get_mut(seeder).into_iter().for_each(|seeder| seeder.http = false);
                reason
            }
        };
        self.attempt_failed(chunk, reason, now);
        self.assign(now);
    }

    /// A part of the chunk arrived.
    pub fn progress(&mut self, chunk: ChunkId, seeder: SeederId, now: Duration) {
        self.put_off(seeder, Some(chunk), now);
    }

    /// Nothing more is asked for until [`resume`](Self::resume); what is under way is stopped.
    pub fn pause(&mut self, now: Duration) {
        self.paused = true;
        self.stop_all(now);
    }

    pub fn resume(&mut self, now: Duration) {
        self.paused = false;
        self.assign(now);
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    pub fn cancel(&mut self, now: Duration) {
        if self.outcome == Outcome::Running {
            self.outcome = Outcome::Cancelled;
        }
        self.stop_all(now);
    }

    /// Does what is due: at the start, after adding, and whenever [`deadline`](Self::deadline) says.
    pub fn tick(&mut self, now: Duration) {
        let due: Vec<(ChunkId, Step)> = self
            .held
            .iter()
            .filter(|(_, held)| held.due() <= now)
            .map(|(chunk, held)| (*chunk, held.step))
            .collect();
        for (chunk, step) in due {
            match step {
                // Others were given out meanwhile: it rests until one of them has come.
                Step::Resting { .. } if self.in_flight >= MAX_IN_FLIGHT => {
                    if let Some(held) = self.held.get_mut(&chunk) {
                        held.step = Step::Resting { until: now + BACKOFF[0] };
                    }
                }
                Step::Resting { .. } => {
                    let via = self.first_way(chunk);
                    self.ask(chunk, via, now);
                }
                Step::Asked { via, .. } => {
                    let Some(held) = self.held.get(&chunk) else { continue };
                    self.actions.push_back(Action::Stop { chunk, seeder: held.seeder });
                    let what = match via {
                        Via::Bitswap => "no block by Bitswap in time",
                        Via::Http => "no answer by HTTP in time",
                    };
                    self.attempt_failed(chunk, what.to_owned(), now);
                }
            }
        }
        self.assign(now);
    }

    /// When [`tick`](Self::tick) is to be called at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        if self.paused || self.outcome != Outcome::Running {
            return None;
        }
        let held = self.held.values().map(Held::due).min();
        [held, self.wake].into_iter().flatten().min()
    }

    /// The next thing to do; to be drained after every call.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Chunks stored and chunks known.
    pub fn counts(&self) -> (usize, usize) {
        let missing = self.pending.len() + self.held.len();
        (self.chunks.len() - missing, self.chunks.len())
    }

    fn attempt_failed(&mut self, chunk: ChunkId, reason: String, now: Duration) {
        let Some(held) = self.held.get_mut(&chunk) else { return };
        let Some(seeder) = self.seeders.get_mut(held.seeder) else { return };
        if let Step::Asked { via: Via::Bitswap, .. } = held.step {
            seeder.bitswap_failed();
            if seeder.http {
                held.bitswap_failed = Some(reason);
                self.ask(chunk, Via::Http, now);
                return;
            }
        }
        let reason = match held.bitswap_failed.take() {
            Some(bitswap) => format!("{bitswap}; {reason}"),
            None => reason,
        };
        if held.attempt >= ATTEMPTS {
            seeder.rest(now + BACKOFF[ATTEMPTS as usize - 1]);
            self.give_up(chunk, reason, now);
            return;
        }
        let pause = BACKOFF.get(held.attempt as usize - 1).copied().unwrap_or_default();
        held.attempt += 1;
        let was_asked = matches!(held.step, Step::Asked { .. });
        held.step = Step::Resting { until: now + pause };
        if was_asked {
            let size = self.chunks.get(chunk).map_or(0, |chunk| chunk.size);
            seeder.took_back(size, now);
            self.in_flight = self.in_flight.saturating_sub(size);
        }
    }

    /// The seeder that holds the chunk has failed with it for good.
    fn give_up(&mut self, chunk: ChunkId, reason: String, now: Duration) {
        let Some(held) = self.release(chunk, now) else { return };
        let seeder = held.seeder;
        if let Some(state) = self.seeders.get_mut(seeder) {
            state.gave_up(now);
        }
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            chunk.failed_at.push((seeder, reason.clone()));
        }
        self.actions.push_back(Action::GaveUp { chunk, seeder, reason });
        self.put_back(chunk);
    }

    /// Takes the chunk from whoever holds it.
    fn release(&mut self, chunk: ChunkId, now: Duration) -> Option<Held> {
        let held = self.held.remove(&chunk)?;
        let size = self.chunks.get(chunk).map_or(0, |chunk| chunk.size);
        if let Step::Asked { .. } = held.step {
            self.in_flight = self.in_flight.saturating_sub(size);
            if let Some(seeder) = self.seeders.get_mut(held.seeder) {
                seeder.took_back(size, now);
            }
        }
        Some(held)
    }

    fn put_back(&mut self, chunk: ChunkId) {
        let size = self.chunks.get(chunk).map_or(0, |chunk| chunk.size);
        if self.pending.insert(chunk) {
            self.pending_bytes += size;
        }
    }

    fn stop_all(&mut self, now: Duration) {
        while let Some(chunk) = self.held.first_key_value().map(|(chunk, _)| *chunk) {
            if let Some(held) = self.release(chunk, now)
                && let Step::Asked { .. } = held.step
            {
                self.actions.push_back(Action::Stop { chunk, seeder: held.seeder });
            }
            self.put_back(chunk);
        }
    }

    /// The seeder is alive: what it was asked for gets more time.
    fn put_off(&mut self, seeder: SeederId, only: Option<ChunkId>, now: Duration) {
        for (chunk, held) in &mut self.held {
            if held.seeder == seeder
                && only.is_none_or(|only| only == *chunk)
                && let Step::Asked { deadline, latest, .. } = &mut held.step
            {
                *deadline = (*deadline).max(now + seeder::PATIENCE).min(*latest);
            }
        }
    }
}

impl Held {
    fn due(&self) -> Duration {
        match self.step {
            Step::Asked { deadline, .. } => deadline,
            Step::Resting { until } => until,
        }
    }
}
