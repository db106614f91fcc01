//! Two links over a simulated network that breaks in every way a network of streams can: each message
//! that was acknowledged was taken, once and in order, and every send comes to an end. A seed
//! replays a run: `SEED=17 cargo test random_conversations`.

mod trouble;
mod world;

use std::collections::BTreeSet;

use self::{
    trouble::Trouble,
    world::{Node, World},
};
use crate::{platform::time::Duration, random::Random};

/// Runs of each test.
const SEEDS: u64 = 400;
/// Longer than any send may take after the last of them.
const PATIENCE: Duration = Duration::from_secs(300);

fn seeds() -> Vec<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..SEEDS).collect(),
    }
}

fn any_trouble(random: &mut Random) -> Trouble {
    Trouble {
        cuts: random.below(8) as usize,
        outages: random.below(4) as usize,
        stalls: random.below(4) as usize,
        reloads: random.below(3) as usize,
        stops: random.below(3) as usize,
        lost_acks: if random.chance(30) { random.below(20) } else { 0 },
        slow_app: if random.chance(30) { random.below(20_000) } else { 20 },
        spurious_streams: random.below(4) as usize,
    }
}

fn converse(seed: u64, trouble: Trouble) -> World {
    let mut random = Random(seed);
    let messages = 1 + random.below(120) as usize;
    let mut world = World::new(seed, trouble);
    world.run(messages, PATIENCE);
    check(&world, seed);
    world
}

fn check(world: &World, seed: u64) {
    for (at, node) in world.nodes.iter().enumerate() {
        let other: &Node = &world.nodes[1 - at];
        assert!(node.waiting.is_empty(), "{seed}: node {at} never heard of {:?}", node.waiting);
        for lives in &node.taken {
            // Within one life of the page nothing comes twice, and those of one sender's life in order.
            let mut last = std::collections::BTreeMap::new();
            for (epoch, seq) in lives {
                let before = last.insert(*epoch, *seq);
                assert!(
                    before.is_none_or(|before| before < *seq),
                    "{seed}: {seq} after {before:?}"
                );
            }
        }
        let taken: BTreeSet<u64> = other.taken.iter().flatten().map(|(_, seq)| *seq).collect();
        for seq in &node.acknowledged {
            assert!(taken.contains(seq), "{seed}: {seq} was acknowledged and not taken");
        }
    }
}

#[test]
fn random_conversations() {
    let (mut acknowledged, mut failed) = (0, 0);
    for seed in seeds() {
        let trouble = any_trouble(&mut Random(seed ^ 0xffff));
        let world = converse(seed, trouble);
        acknowledged += world.nodes.iter().map(|node| node.acknowledged.len()).sum::<usize>();
        failed += world.nodes.iter().map(|node| node.failed.len()).sum::<usize>();
    }
    // Else nothing of what may go wrong was met, or nothing went well.
    let one = seeds().len() == 1;
    assert!(one || (acknowledged > 10_000 && failed > 100), "{acknowledged} {failed}");
}

#[test]
fn without_trouble_everything_arrives() {
    for seed in seeds() {
        let world = converse(seed, Trouble { slow_app: 20, ..Trouble::default() });
        for node in &world.nodes {
            assert!(node.failed.is_empty(), "{seed}: {:?}", node.failed);
        }
    }
}

/// Streams that end, however often, cost no message: there is always a next one.
#[test]
fn cut_streams_cost_no_message() {
    for seed in seeds() {
        let cuts = Trouble { cuts: 20, slow_app: 20, spurious_streams: 3, ..Trouble::default() };
        let world = converse(seed, cuts);
        let lost: usize = world.nodes.iter().map(|node| node.failed.len()).sum();
        // Three in a row within one message's attempts may.
        assert!(lost == 0 || world.cut_in_a_row(), "{seed}: {lost}");
    }
}
