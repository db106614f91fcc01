//! Seeded simulations: seeders of many kinds, and what must hold whatever they do.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::random::Random;

/// Steps after which a simulation counts as one that never ends.
const MAX_STEPS: usize = 200_000;

/// What a seeder does.
#[derive(Clone, Debug)]
struct Behaviour {
    /// Bytes per second.
    rate: f64,
    latency: Duration,
    /// Of a thousand asks, so many are never answered.
    loses: u64,
    /// It has those chunks whose number modulo this is not 0; 0: all, 1: none.
    lacks_every: usize,
    /// From then on it answers nothing.
    dies: Option<Duration>,
    /// There are wrong bytes at its URL from this many answers on.
    lies_after: Option<usize>,
    http: bool,
    bitswap: bool,
}

fn good(rate: f64) -> Behaviour {
    let latency = Duration::from_millis(20);
    Behaviour {
        rate,
        latency,
        loses: 0,
        lacks_every: 0,
        dies: None,
        lies_after: None,
        http: false,
        bitswap: true,
    }
}

#[derive(Debug)]
struct Report {
    outcome: Outcome,
    took: Duration,
    /// Chunks that each seeder brought.
    brought: Vec<usize>,
    sent: u64,
    begins: Vec<(ChunkId, SeederId)>,
    gave_up: usize,
}

enum Answer {
    Bytes,
    Lie,
    Lacks,
}

/// Runs a download of `chunks` chunks of `size` bytes and checks what must hold at each step.
fn run(seed: u64, behaviours: &[Behaviour], chunks: usize, size: u64) -> Report {
    let mut random = Random(seed);
    let mut coordinator = Coordinator::new(behaviours.iter().map(|b| b.http));
    let stored: BTreeSet<ChunkId> = (0..chunks).filter(|_| random.below(10) == 0).collect();
    for chunk in 0..chunks {
        assert_eq!(coordinator.add(size, stored.contains(&chunk)), Some(chunk));
    }
    let mut now = Duration::ZERO;
    // When each answer arrives, which ask it belongs to.
    let mut answers: BTreeMap<(Duration, usize), (ChunkId, SeederId, Answer)> = BTreeMap::new();
    let mut asked: BTreeMap<ChunkId, (SeederId, usize)> = BTreeMap::new();
    let mut busy_until = vec![Duration::ZERO; behaviours.len()];
    let mut answered = vec![0; behaviours.len()];
    let mut asks: BTreeMap<(ChunkId, SeederId, bool), u32> = BTreeMap::new();
    let mut done = BTreeSet::new();
    let (mut begins, mut gave_up) = (Vec::new(), 0);
    let (mut brought, mut sent) = (vec![0; behaviours.len()], 0);
    coordinator.tick(now);
    let mut ticked = true;
    for step in 0..MAX_STEPS {
        while let Some(action) = coordinator.next_action() {
            match action {
                Action::Begin { chunk, seeder } => {
                    asks.retain(|(c, s, _), _| (*c, *s) != (chunk, seeder));
                    begins.push((chunk, seeder));
                }
                Action::Ask { chunk, seeder, via } => {
                    let other = asked.insert(chunk, (seeder, step));
                    assert!(other.is_none_or(|(at, _)| at == seeder), "asked of two at a time");
                    assert!(!done.contains(&chunk), "asked for although it is stored");
                    *asks.entry((chunk, seeder, via == Via::Http)).or_default() += 1;
                    let b = &behaviours[seeder];
                    let dead = b.dies.is_some_and(|at| now >= at);
                    let deaf = via == Via::Bitswap && !b.bitswap;
                    if dead || random.below(1000) < b.loses {
                        continue;
                    }
                    answered[seeder] += 1;
                    let lacks = deaf || (b.lacks_every > 0 && chunk % b.lacks_every == 0);
                    let answer = match b.lies_after {
                        _ if lacks => Answer::Lacks,
                        Some(after) if via == Via::Http && answered[seeder] > after => Answer::Lie,
                        _ => Answer::Bytes,
                    };
                    let bytes = if lacks { 0.0 } else { size as f64 };
                    sent += bytes as u64;
                    let start = busy_until[seeder].max(now);
                    busy_until[seeder] = start + Duration::from_secs_f64(bytes / b.rate);
                    let arrives = busy_until[seeder] + b.latency;
                    if b.dies.is_none_or(|at| arrives < at) {
                        answers.insert(
                            (arrives, step * 1000 + answers.len()),
                            (chunk, seeder, answer),
                        );
                    }
                }
                Action::Stop { chunk, seeder } => {
                    assert_eq!(asked.remove(&chunk).map(|(at, _)| at), Some(seeder));
                }
                Action::GaveUp { seeder, chunk, .. } => {
                    gave_up += 1;
                    asked.remove(&chunk);
                    let tries = asks.get(&(chunk, seeder, false)).copied().unwrap_or_default();
                    assert!(tries <= ATTEMPTS, "{tries} attempts");
                }
                Action::Done { chunk } => {
                    assert!(done.insert(chunk), "done twice");
                    asked.remove(&chunk);
                }
            }
            let asked_bytes = asked.len() as u64 * size;
            assert!(asked_bytes <= MAX_IN_FLIGHT + size, "{asked_bytes} bytes in flight");
        }
        if coordinator.outcome() != &Outcome::Running {
            let outcome = coordinator.outcome().clone();
            assert_eq!(outcome == Outcome::Complete, done.len() == chunks);
            return Report { outcome, took: now, brought, sent, begins, gave_up };
        }
        let next = answers.first_key_value().map(|((at, _), _)| *at);
        let deadline = coordinator.deadline();
        let Some(at) = [next, deadline].into_iter().flatten().min() else {
            panic!("nothing will ever happen: {coordinator:?}")
        };
        assert!(deadline.is_none_or(|deadline| deadline > now || !ticked), "it spins");
        ticked = false;
        now = at.max(now);
        match answers.first_entry() {
            Some(entry) if entry.key().0 <= now => {
                let (chunk, seeder, answer) = entry.remove();
                // A driver hands on nothing that was stopped.
                if asked.get(&chunk).is_none_or(|(at, _)| *at != seeder) {
                    continue;
                }
                match answer {
                    Answer::Bytes => {
                        brought[seeder] += 1;
                        coordinator.succeeded(chunk, seeder, now);
                    }
                    Answer::Lie => {
                        asked.remove(&chunk);
                        coordinator.failed(chunk, seeder, Failure::Url("lie".into()), now);
                    }
                    Answer::Lacks => {
                        asked.remove(&chunk);
                        coordinator.failed(chunk, seeder, Failure::Attempt("no".into()), now);
                    }
                }
            }
            _ => {
                coordinator.tick(now);
                ticked = true;
            }
        }
    }
    panic!("no end after {MAX_STEPS} steps")
}

#[test]
fn faster_seeders_bring_more_and_three_are_not_slower_than_one() {
    let size = 256 << 10;
    let alone = run(1, &[good(4e6)], 400, size);
    let three = run(1, &[good(4e6), good(1e6), good(2e6)], 400, size);
    assert_eq!((alone.outcome, &three.outcome), (Outcome::Complete, &Outcome::Complete));
    assert!(three.took < alone.took * 7 / 10, "{:?} and {:?}", three.took, alone.took);
    assert!(three.brought[0] > three.brought[2] && three.brought[2] > three.brought[1]);
    let bytes = three.brought.iter().sum::<usize>() as u64 * size;
    assert!(three.sent * 100 <= bytes * 105, "{} of {bytes}", three.sent);
}

#[test]
fn a_very_slow_seeder_does_not_hold_up_the_end() {
    let size = 1 << 20;
    let alone = run(2, &[good(8e6)], 100, size);
    let with_slow = run(2, &[good(8e6), good(2e4)], 100, size);
    assert!(with_slow.took < alone.took * 13 / 10, "{:?} {:?}", with_slow.took, alone.took);
}

#[test]
fn a_dead_one_among_three_costs_little() {
    let dead = Behaviour { dies: Some(Duration::ZERO), ..good(1e6) };
    let report = run(3, &[good(4e6), dead, good(4e6)], 200, 256 << 10);
    assert_eq!(report.outcome, Outcome::Complete);
    assert!(report.took < Duration::from_secs(12), "{:?}", report.took);
}

#[test]
fn chunks_spread_over_seeders_are_all_found() {
    // Each lacks every second or third; together they have all.
    let a = Behaviour { lacks_every: 2, ..good(1e6) };
    let b = Behaviour { lacks_every: 3, ..good(1e6) };
    let report = run(4, &[a, b, good(1e5)], 60, 64 << 10);
    assert_eq!(report.outcome, Outcome::Complete);
    assert!(report.gave_up > 0);
}

#[test]
fn what_nobody_has_fails_with_all_their_reasons() {
    let none = Behaviour { lacks_every: 1, ..good(1e6) };
    let dead = Behaviour { dies: Some(Duration::ZERO), ..good(1e6) };
    let report = run(5, &[none.clone(), dead, none], 20, 1 << 20);
    let Outcome::Failed { reasons, .. } = report.outcome else { panic!("{report:?}") };
    assert_eq!(reasons.len(), 3);
    assert!(report.took < Duration::from_secs(120), "{:?}", report.took);
}

#[test]
fn http_helps_out_where_bitswap_is_not_spoken() {
    let web = Behaviour { http: true, bitswap: false, ..good(2e6) };
    let report = run(6, &[web], 50, 256 << 10);
    assert_eq!((report.outcome, report.gave_up), (Outcome::Complete, 0));
}

#[test]
fn whatever_they_do_it_ends_and_nothing_is_stored_twice() {
    for seed in 0..300 {
        let mut random = Random(seed ^ 0xffff);
        let seeders = 1 + random.below(6) as usize;
        let mut behaviours: Vec<Behaviour> = (0..seeders)
            .map(|_| Behaviour {
                rate: 10f64.powi(4 + random.below(4) as i32),
                latency: Duration::from_millis(random.below(300)),
                loses: [0, 0, 10, 200][random.below(4) as usize],
                lacks_every: [0, 0, 2, 1][random.below(4) as usize],
                dies: (random.below(4) == 0).then(|| Duration::from_millis(random.below(5000))),
                lies_after: (random.below(5) == 0).then(|| random.below(20) as usize),
                http: random.below(3) == 0,
                bitswap: random.below(5) != 0,
            })
            .collect();
        // In half of the runs there is one that can be relied on.
        let reliable = seed % 2 == 0;
        if reliable {
            behaviours[0] = good(1e5);
        }
        let (chunks, size) = (1 + random.below(80) as usize, 1 + random.below(1 << 20));
        let first = run(seed, &behaviours, chunks, size);
        if reliable {
            assert_eq!(first.outcome, Outcome::Complete, "seed {seed}");
        }
        let again = run(seed, &behaviours, chunks, size);
        assert_eq!((first.took, first.begins), (again.took, again.begins), "seed {seed}");
    }
}
