//! Whole fetches over a simulated network: they end, deliver what was wanted once, keep links full
//! and waste little. A seed replays a run: `SEED=17 cargo test random_networks`.

mod world;

use self::world::{Manner, Server, World};
pub(super) use self::world::{block, cid, number, peer_id};
use crate::{
    platform::time::{Duration, Instant},
    random::Random,
};

/// Runs of [`random_networks`].
const SEEDS: u64 = 300;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A peer as it may be met.
fn any_server(random: &mut Random) -> Server {
    let mut server = Server::new(1 + random.below(200), (50 * KIB) << random.below(9));
    server.manner = match random.below(12) {
        0 => Manner::Promises,
        1 => Manner::Mute,
        2 => Manner::Junk,
        3 => Manner::Lies,
        _ => Manner::Honest,
    };
    let of = 1 + random.below(6) as usize;
    server.of = (of, 0, 1 + random.below(of as u64) as usize);
    server.helia = random.chance(20);
    server.ignores_haves = random.chance(10);
    server.duplicates = if random.chance(10) { 20 } else { 0 };
    server.provider = random.chance(60);
    server.loss = if random.chance(15) { 5 } else { 0 };
    if random.chance(25) {
        let back = random.chance(60).then(|| Duration::from_millis(1 + random.below(8000)));
        server.leaves.push((Duration::from_millis(random.below(5000)), back));
    }
    server
}

/// One random network and its fetches.
fn random_network(seed: u64) {
    let mut random = Random(seed);
    let servers: Vec<Server> = (0..1 + random.below(7)).map(|_| any_server(&mut random)).collect();
    let steady = servers.iter().any(|server| {
        server.manner == Manner::Honest
            && server.of.2 == server.of.0
            && server.leaves.is_empty()
            && server.loss == 0
            && server.provider
    });
    let size = [16 * KIB, 256 * KIB, MIB][random.below(3) as usize];
    let blocks = 1 + random.below(80) as usize;
    let mut world = World::new(seed, size, servers);
    world.small_root = random.chance(50);
    let window = 16 + random.below(49) as usize;
    world.fetch(0..blocks, window);
    if random.chance(30) {
        world.fetch(blocks / 2..blocks + 10, 16);
    }
    if random.chance(20) && world.fetches.len() == 2 {
        let until = Duration::from_millis(random.below(2000));
        world.run(until);
        let gone = world.fetches.remove(0);
        world.client.close(gone.id);
        world.drain();
    }
    world.run(seconds(900));
    for fetch in &world.fetches {
        let missing: Vec<_> = fetch.wanted.difference(&fetch.exhausted).collect();
        assert!(missing.is_empty(), "{seed}: neither delivered nor exhausted: {missing:?}");
        assert!(!steady || fetch.wanted.is_empty(), "{seed}: a peer has {:?}", fetch.wanted);
    }
    world.end();
}

#[test]
fn random_networks() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    match seed {
        Some(seed) => random_network(seed),
        None => (0..SEEDS).for_each(random_network),
    }
}

/// Fetches `blocks` with a reader's window of 16 MiB and says how long it took and what came.
fn timed(size: u64, blocks: usize, servers: Vec<Server>) -> (f64, f64) {
    let mut world = World::new(1, size, servers);
    world.small_root = true;
    let window = (16 * MIB / size) as usize;
    world.fetch(0..blocks, window.clamp(16, 64));
    world.run(seconds(3600));
    let ended = world.fetches[0].ended.expect("all there").as_secs_f64();
    let waste = world.bytes as f64 / (blocks as u64 * size) as f64;
    world.end();
    (ended, waste)
}

#[test]
fn one_link_is_full() {
    for size in [256 * KIB, MIB] {
        for bandwidth in [2_000_000, 12_500_000, 50_000_000] {
            let blocks = (128 * MIB / size) as usize;
            let (ended, waste) = timed(size, blocks, vec![Server::new(50, bandwidth)]);
            let utilisation = blocks as f64 * size as f64 / ended / bandwidth as f64;
            println!("blocks of {size}, {bandwidth} B/s: {utilisation:.3} of the link, {waste:.3}");
            assert!(utilisation >= 0.85, "{size} {bandwidth}: {utilisation}");
            assert!(waste <= 1.0);
        }
    }
}

#[test]
fn five_providers_send_little_twice() {
    for size in [256 * KIB, MIB] {
        for (name, bandwidths) in [
            ("equal", [12_500_000; 5]),
            ("unequal", [1_000_000, 2_000_000, 5_000_000, 12_500_000, 50_000_000]),
        ] {
            for helia in [false, true] {
                let mut servers: Vec<Server> =
                    bandwidths.iter().map(|bandwidth| Server::new(40, *bandwidth)).collect();
                servers.iter_mut().for_each(|server| server.helia = helia);
                let (ended, waste) = timed(size, (128 * MIB / size) as usize, servers);
                println!("{name}, helia {helia}, {size}: {ended:.2} s, {waste:.3} of the bytes");
                assert!(waste <= 1.05, "{name} {size}: {waste}");
            }
        }
    }
}

#[test]
fn three_providers_are_not_slower_than_one() {
    for size in [256 * KIB, MIB] {
        let blocks = (64 * MIB / size) as usize;
        let server = Server::new(50, 12_500_000);
        let (one, _) = timed(size, blocks, vec![server.clone()]);
        let (three, waste) = timed(size, blocks, vec![server; 3]);
        println!("{size}: one {one:.2} s, three {three:.2} s, {waste:.3} of the bytes");
        assert!(three <= one / 2.0, "{size}: {one} {three}");
    }
}

#[test]
fn a_bad_provider_does_not_delay_the_end() {
    let fast = Server::new(30, 12_500_000);
    let bad = |manner| Server { manner, ..Server::new(30, 1_000_000) };
    let slow = Server::new(100, 50_000);
    for bad in
        [slow, bad(Manner::Promises), bad(Manner::Mute), bad(Manner::Junk), bad(Manner::Lies)]
    {
        for size in [256 * KIB, MIB] {
            let blocks = (48 * MIB / size) as usize;
            let (without, _) = timed(size, blocks, vec![fast.clone(); 3]);
            // First, so that it has the best score.
            let mut servers = vec![bad.clone()];
            servers.extend(vec![fast.clone(); 3]);
            let (with, _) = timed(size, blocks, servers);
            println!("{:?}, {size}: {without:.2} s without, {with:.2} s with", bad.manner);
            assert!(with <= without + 2.0, "{:?}: {without} {with}", bad.manner);
        }
    }
}

#[test]
fn holders_that_are_no_providers_are_found() {
    let mut servers = vec![Server::new(20, 5_000_000); 3];
    servers.iter_mut().for_each(|server| server.provider = false);
    let (ended, waste) = timed(256 * KIB, 256, servers);
    assert!(ended < 7.0 && waste <= 1.05, "{ended} {waste}");
}

#[test]
fn two_fetches_share_a_peer() {
    let mut world = World::new(1, 256 * KIB, vec![Server::new(20, 5_000_000)]);
    world.fetch(0..800, 800);
    world.run(seconds(5));
    let began = world.now;
    let small = world.fetch(1000..1004, 16);
    while world.fetches[small].ended.is_none() && world.step(seconds(300)) {}
    let took = world.fetches[small].ended.expect("there").saturating_sub(began);
    assert!(took < seconds(4), "a small file waits for a large one: {took:?}");
    world.run(seconds(300));
    world.end();
}

fn many(blocks: usize, window: usize) -> Duration {
    let mut world = World::new(1, KIB, vec![Server::new(20, 2_000_000); 20]);
    world.fetch(0..blocks, window);
    world.run(seconds(3600));
    let ended = world.fetches[0].ended.expect("all there");
    assert_eq!(world.fetches[0].got.len(), blocks);
    world.end();
    ended
}

#[test]
fn many_blocks_of_many_peers() {
    many(10_000, 10_000);
}

#[test]
#[ignore = "some seconds"]
fn very_many_blocks_of_many_peers() {
    let started = Instant::now();
    many(25_000, 25_000);
    let quarter = started.elapsed();
    many(100_000, 60_000);
    let all = started.elapsed() - quarter;
    println!("25 000 blocks: {quarter:?}, 100 000: {all:?}");
    assert!(all < quarter * 8, "far from linear: {quarter:?}, {all:?}");
}

#[test]
fn a_block_has_its_number() {
    assert_eq!(number(&cid(77)), 77);
}
