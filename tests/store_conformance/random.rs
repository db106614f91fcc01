//! Random sequences of everything that sessions and commits do, against a model of two sets.

use std::collections::{BTreeMap, BTreeSet};

use tabpeer::{
    content::block::Block,
    store::{Session, Store, StoreError},
};

use super::fixture::*;

const LEAVES: u64 = 8;
const NODES: usize = 10;
const NAMES: [&str; 3] = ["tree", "cache/a", "cache/b"];
const SESSIONS: usize = 3;
const STEPS: usize = 60;
const SEEDS: std::ops::Range<u64> = 0..6;

pub async fn random_sequences_match_a_model(place: &impl Place) {
    let store = open_store(place).await;
    for seed in SEEDS {
        random_sequence(&store, seed).await;
    }
    assert_eq!(close_and_count(store, place).await, 0);
}

/// Small and the same everywhere: SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// All blocks there are; a node's children come before it.
struct Pool {
    blocks: Vec<Block>,
    children: Vec<BTreeSet<usize>>,
}

impl Pool {
    fn new(random: &mut Random) -> Self {
        let mut pool =
            Self { blocks: leaves(0..LEAVES), children: vec![BTreeSet::new(); LEAVES as usize] };
        while pool.blocks.len() < LEAVES as usize + NODES {
            let count = 1 + random.below(4);
            let children: Vec<usize> =
                (0..count).map(|_| random.below(pool.blocks.len())).collect();
            let block = node(children.iter().map(|at| &pool.blocks[*at]));
            if !pool.blocks.contains(&block) {
                pool.blocks.push(block);
                pool.children.push(children.into_iter().collect());
            }
        }
        pool
    }

    fn below(&self, roots: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut stack: Vec<usize> = roots.into_iter().collect();
        while let Some(at) = stack.pop() {
            if reached.insert(at) {
                stack.extend(&self.children[at]);
            }
        }
        reached
    }

    fn pick(&self, random: &mut Random) -> usize {
        random.below(self.blocks.len())
    }
}

/// Ends with no roots and no sessions, so that the next can follow.
pub async fn random_sequence(store: &Store, seed: u64) {
    let mut random = Random(seed);
    let pool = Pool::new(&mut random);
    let mut roots: BTreeMap<&str, usize> = BTreeMap::new();
    let mut open: Vec<(Session, BTreeSet<usize>)> = Vec::new();
    for step in 0..STEPS {
        let committed = pool.below(roots.values().copied());
        match random.below(10) {
            0 | 1 if open.len() < SESSIONS => open.push((store.session(), BTreeSet::new())),
            0..=4 if !open.is_empty() => {
                let at = random.below(open.len());
                let (session, has) = &mut open[at];
                let top = pool.pick(&mut random);
                // Now and then a block is forgotten.
                let forgotten = pool.pick(&mut random);
                for block in pool.below([top]) {
                    if block != forgotten || random.below(3) > 0 {
                        session.put(pool.blocks[block].clone()).await.expect("put");
                        has.insert(block);
                    }
                }
            }
            5 if !open.is_empty() => {
                let at = random.below(open.len());
                let flush = open[at].0.flush();
                match random.below(2) {
                    0 => flush.await.expect("flush"),
                    _ => drop(futures::poll!(Box::pin(flush))),
                }
            }
            6 if !open.is_empty() => {
                let (session, _) = open.swap_remove(random.below(open.len()));
                match random.below(2) {
                    0 => session.discard().await,
                    _ => drop(session),
                }
            }
            _ => {
                let (sessions, has): (Vec<_>, Vec<_>) = match random.below(4) {
                    0 => open.drain(..).unzip(),
                    1 | 2 if !open.is_empty() => {
                        let (session, has) = open.swap_remove(random.below(open.len()));
                        (vec![session], vec![has])
                    }
                    _ => Default::default(),
                };
                let has: BTreeSet<usize> = has.into_iter().flatten().collect();
                let mut changes = Vec::new();
                let mut after = roots.clone();
                for name in NAMES {
                    if random.below(2) == 0 {
                        continue;
                    }
                    let new = match random.below(3) {
                        0 => None,
                        1 if !has.is_empty() => has.iter().nth(random.below(has.len())).copied(),
                        _ => Some(pool.pick(&mut random)),
                    };
                    let block = |at: usize| &pool.blocks[at];
                    let old = roots.get(name).copied();
                    changes.push(change(name, old.map(block), new.map(block)));
                    match new {
                        Some(new) => after.insert(name, new),
                        None => after.remove(name),
                    };
                }
                let needed = pool.below(after.values().copied());
                let complete = needed.iter().all(|at| committed.contains(at) || has.contains(at));
                match store.commit(sessions, changes).await {
                    Ok(()) => {
                        assert!(complete, "seed {seed} step {step}");
                        roots = after;
                    }
                    Err(StoreError::Incomplete { .. }) => {
                        assert!(!complete, "seed {seed} step {step}");
                    }
                    Err(error) => panic!("seed {seed} step {step}: {error}"),
                }
            }
        }
        let audit = store.check().await.expect("check");
        assert!(audit.is_clean(), "seed {seed} step {step}: {audit:?}");
        let mut expected = pool.below(roots.values().copied());
        for (_, has) in &open {
            expected.extend(has);
        }
        for (at, block) in pool.blocks.iter().enumerate() {
            let there = has(store, block).await;
            assert!(there || !expected.contains(&at), "seed {seed} step {step} lost {at}");
        }
    }
    for (session, _) in open {
        session.discard().await;
    }
    for (name, root) in roots {
        remove_root(store, name, &pool.blocks[root]).await;
    }
}
