//! The rules one by one, then all of them against random sources, from a seed.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::content::block::{RAW, cid_of, sha256};

const CONFIG: ChainConfig = ChainConfig {
    patience: Duration::from_secs(3),
    source_timeout: Duration::from_secs(30),
    timeout: None,
};

fn cid(n: u32) -> Cid {
    cid_of(cid::Version::V1, RAW, &sha256(&n.to_be_bytes()))
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn steps(chain: &mut Chain) -> Vec<Step> {
    std::iter::from_fn(|| chain.next_step()).collect()
}

fn open(source: SourceId) -> Step {
    Step::Open { source }
}

fn ask(source: SourceId, n: &[u32]) -> Step {
    Step::Ask { source, cids: n.iter().map(|n| cid(*n)).collect() }
}

fn cancel(source: SourceId, n: &[u32]) -> Step {
    Step::Cancel { source, cids: n.iter().map(|n| cid(*n)).collect() }
}

fn not_found(n: &[u32]) -> Step {
    Step::NotFound { cids: n.iter().map(|n| cid(*n)).collect() }
}

#[test]
fn a_stage_is_asked_at_once_and_the_first_wins() {
    let mut chain = Chain::new(vec![vec![0, 1], vec![2]], CONFIG);
    chain.want(&[cid(1)], secs(0));
    assert_eq!(steps(&mut chain), [open(0), open(1), ask(0, &[1]), ask(1, &[1])]);
    assert!(chain.received(1, &cid(1), secs(1)));
    assert_eq!(steps(&mut chain), [cancel(0, &[1])]);
    assert!(!chain.received(0, &cid(1), secs(1)), "it is not wanted any more");
    // The winner leads: it alone is asked now.
    chain.want(&[cid(2), cid(3)], secs(1));
    assert_eq!(steps(&mut chain), [ask(1, &[2, 3])]);
    assert_eq!(chain.deadline(), Some(secs(4)));
}

#[test]
fn the_next_stage_comes_when_all_said_no_and_the_end_when_nobody_is_left() {
    let mut chain = Chain::new(vec![vec![0, 1], vec![2], vec![3]], CONFIG);
    chain.want(&[cid(1), cid(2)], secs(0));
    steps(&mut chain);
    chain.missing(0, &[cid(1), cid(2)], "no", secs(0));
    assert_eq!(steps(&mut chain), []);
    chain.missing(1, &[cid(2)], "not that one", secs(0));
    assert_eq!(steps(&mut chain), [open(2), ask(2, &[2])]);
    chain.failed(1, "gone", secs(0));
    assert_eq!(steps(&mut chain), [Step::Close { source: 1 }, ask(2, &[1])]);
    // The next stage at once when a source fails.
    chain.failed(2, "404", secs(0));
    assert_eq!(
        steps(&mut chain),
        [Step::Close { source: 2 }, open(3), ask(3, &[1, 2])].map(sorted)
    );
    chain.missing(3, &[cid(1)], "never heard of it", secs(0));
    assert_eq!(steps(&mut chain), [cancel(0, &[1]), cancel(3, &[1]), not_found(&[1])]);
    let asked: Vec<_> = chain.asked().collect();
    let reasons = [Some("no"), Some("gone"), Some("404"), Some("never heard of it")];
    assert_eq!(asked, reasons.into_iter().enumerate().collect::<Vec<_>>());
    assert!(chain.received(0, &cid(2), secs(0)), "one that had said no may bring it later");
}

/// Wants go through a map, so their order is that of the CIDs.
fn sorted(step: Step) -> Step {
    match step {
        Step::Ask { source, mut cids } => {
            cids.sort();
            Step::Ask { source, cids }
        }
        step => step,
    }
}

#[test]
fn patience_ends_without_a_sign_of_life_and_the_one_who_overtakes_leads() {
    let mut chain = Chain::new(vec![vec![0], vec![1], vec![2]], CONFIG);
    chain.want(&[cid(1)], secs(0));
    chain.received(0, &cid(1), secs(1));
    chain.want(&[cid(2)], secs(1));
    steps(&mut chain);
    chain.alive(0, secs(3));
    chain.tick(secs(5));
    assert_eq!(steps(&mut chain), []);
    assert_eq!(chain.deadline(), Some(secs(6)));
    chain.tick(secs(6));
    assert_eq!(steps(&mut chain), [open(1), ask(1, &[2])]);
    chain.tick(secs(9));
    assert_eq!(steps(&mut chain), [open(2), ask(2, &[2])]);
    chain.received(2, &cid(2), secs(10));
    assert_eq!(steps(&mut chain), [cancel(0, &[2]), cancel(1, &[2])]);
    chain.want(&[cid(3)], secs(10));
    assert_eq!(steps(&mut chain), [ask(2, &[3])]);
    chain.missing(2, &[cid(3)], "not that one", secs(10));
    assert_eq!(steps(&mut chain), [ask(0, &[3])], "then the others in their order");
}

#[test]
fn a_silent_source_is_left_and_the_whole_has_a_time_of_its_own() {
    let config = ChainConfig { timeout: Some(secs(100)), patience: secs(1000), ..CONFIG };
    let mut chain = Chain::new(vec![vec![0], vec![1]], config);
    chain.want(&[cid(1)], secs(0));
    chain.alive(0, secs(20));
    assert_eq!(chain.deadline(), Some(secs(50)));
    chain.tick(secs(49));
    steps(&mut chain);
    chain.tick(secs(50));
    assert_eq!(steps(&mut chain), [Step::Close { source: 0 }, open(1), ask(1, &[1])]);
    assert_eq!(chain.asked().next(), Some((0, Some("nothing came for 30 s"))));
    chain.alive(1, secs(99));
    chain.tick(secs(100));
    assert_eq!(steps(&mut chain), [Step::TimedOut]);
    chain.want(&[cid(2)], secs(101));
    assert_eq!((chain.wants(), chain.deadline()), (0, None));
    // A source that owes nothing may be silent as long as it likes.
    let mut chain = Chain::new(vec![vec![0]], CONFIG);
    chain.want(&[cid(1)], secs(0));
    chain.received(0, &cid(1), secs(0));
    chain.want(&[cid(2)], secs(500));
    steps(&mut chain);
    chain.tick(secs(510));
    assert_eq!(steps(&mut chain), []);
}

#[test]
fn nobody_to_ask_and_too_much_to_want_are_not_found() {
    let mut chain = Chain::new(Vec::new(), CONFIG);
    chain.want(&[cid(1)], secs(0));
    assert_eq!(steps(&mut chain), [not_found(&[1])]);
    let mut chain = Chain::new(vec![vec![0]], CONFIG);
    let many: Vec<Cid> = (0..=MAX_WANTS as u32).map(cid).collect();
    chain.want(&many, secs(0));
    assert_eq!(chain.wants(), MAX_WANTS);
    assert_eq!(steps(&mut chain).last(), Some(&not_found(&[MAX_WANTS as u32])));
    chain.cancel(&many);
    assert_eq!(chain.wants(), 0);
    chain.missing(0, &many, &"é".repeat(1000), secs(0));
    assert!(chain.asked().all(|(_, reason)| reason.is_some_and(|reason| reason.len() <= 600)));
}

/// xorshift, so that a run is told by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What a random source does with an ask: deliver, refuse or nothing at all, after a delay.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    Refuses,
    Silent,
    Dies,
}

#[test]
fn every_want_ends_once_whatever_the_sources_do() {
    for seed in 1..400 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let stages: Vec<Vec<SourceId>> = {
        let mut next = 0;
        (0..=dice.roll(3))
            .map(|_| {
                let first = next;
                next += 1 + dice.roll(3) as usize;
                (first..next).collect()
            })
            .collect()
    };
    let count = stages.iter().flatten().count();
    let manners: Vec<Manner> = (0..count)
        .map(|_| match dice.roll(5) {
            0 => Manner::Refuses,
            1 => Manner::Silent,
            2 => Manner::Dies,
            _ => Manner::Good,
        })
        .collect();
    let somebody_good = manners.contains(&Manner::Good);
    let mut chain = Chain::new(stages, CONFIG);
    let total = 60;
    let (mut wanted, mut delivered, mut lost) = (0u32, BTreeSet::new(), BTreeSet::new());
    // What each source is asked for and has not been told to forget.
    let mut open: BTreeMap<SourceId, BTreeSet<Cid>> = BTreeMap::new();
    let mut events: Vec<(Duration, SourceId, Cid)> = Vec::new();
    let mut now = Duration::ZERO;
    for _ in 0..20_000 {
        while wanted < total && chain.wants() < 8 {
            chain.want(&[cid(wanted)], now);
            wanted += 1;
            settle(&mut chain, &mut open, &mut events, &mut dice, &mut lost, now);
        }
        assert!(chain.wants() <= 8 && chain.sources.len() == count);
        if delivered.len() + lost.len() == total as usize {
            break;
        }
        // The next thing to happen: an answer, or what the chain waits for.
        let next = events.iter().map(|(at, ..)| *at).min();
        let deadline = chain.deadline().expect("something is wanted, so there is a deadline");
        if let Some(at) = next.filter(|at| *at <= deadline) {
            now = now.max(at);
            let index = events.iter().position(|(due, ..)| *due == at).expect("there");
            let (_, source, cid) = events.swap_remove(index);
            let asked = open.get(&source).is_some_and(|cids| cids.contains(&cid));
            match manners[source] {
                Manner::Good => {
                    if chain.received(source, &cid, now) {
                        assert!(asked, "seed {seed}: delivered by one who was told to forget it");
                        assert!(delivered.insert(cid), "seed {seed}: delivered twice");
                        if let Some(cids) = open.get_mut(&source) {
                            cids.remove(&cid);
                        }
                    }
                }
                Manner::Refuses => chain.missing(source, &[cid], "no", now),
                Manner::Dies => chain.failed(source, "gone", now),
                Manner::Silent => {}
            }
        } else {
            now = now.max(deadline);
            chain.tick(now);
        }
        settle(&mut chain, &mut open, &mut events, &mut dice, &mut lost, now);
    }
    let ended = delivered.len() + lost.len();
    assert_eq!(ended, total as usize, "seed {seed}: every want ends");
    assert!(delivered.is_disjoint(&lost), "seed {seed}: once");
    assert!(lost.is_empty() || !somebody_good, "seed {seed}: one who had it was not asked");
    assert!(open.values().all(BTreeSet::is_empty), "seed {seed}: somebody still works for nothing");
}

fn settle(
    chain: &mut Chain,
    open: &mut BTreeMap<SourceId, BTreeSet<Cid>>,
    events: &mut Vec<(Duration, SourceId, Cid)>,
    dice: &mut Dice,
    lost: &mut BTreeSet<Cid>,
    now: Duration,
) {
    for step in steps(chain) {
        match step {
            Step::Open { source } => assert!(open.insert(source, BTreeSet::new()).is_none()),
            Step::Ask { source, cids } => {
                for cid in cids {
                    assert!(open.get_mut(&source).expect("open").insert(cid), "asked twice");
                    let delay = Duration::from_millis(dice.roll(5000));
                    events.push((now + delay, source, cid));
                }
            }
            Step::Cancel { source, cids } => {
                for cid in cids {
                    open.get_mut(&source).expect("open").remove(&cid);
                }
            }
            Step::Close { source } => {
                open.insert(source, BTreeSet::new());
                events.retain(|(_, from, _)| *from != source);
            }
            Step::NotFound { cids } => lost.extend(cids),
            Step::TimedOut => panic!("no time was set"),
        }
    }
}
