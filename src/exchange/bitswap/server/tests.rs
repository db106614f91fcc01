use std::collections::BTreeMap;

use bytes::Bytes;
use cid::Version;

use super::*;
use crate::content::block::{DAG_PB, RAW};

fn block(seed: u64, len: usize) -> Block {
    let mut data = vec![0; len.max(8)];
    data[..8].copy_from_slice(&seed.to_le_bytes());
    Block::encode(Version::V1, RAW, Bytes::from(data))
}

fn want(cid: &Cid) -> WantEntry {
    let kind = WantKind::Block;
    WantEntry { cid: *cid, priority: 1, kind, cancel: false, send_dont_have: true }
}

fn want_have(cid: &Cid) -> WantEntry {
    WantEntry { kind: WantKind::Have, ..want(cid) }
}

fn cancel(cid: &Cid) -> WantEntry {
    WantEntry { cancel: true, ..want(cid) }
}

#[derive(Default)]
struct Blocks(BTreeMap<Cid, Block>);

impl Blocks {
    fn add(&mut self, seed: u64, len: usize) -> Cid {
        let block = block(seed, len);
        self.0.insert(*block.cid(), block.clone());
        *block.cid()
    }

    fn find(&self, lookup: &Lookup) -> Vec<Found> {
        let one = |item: &LookupItem| match self.0.get(&item.cid) {
            Some(block) if item.kind == WantKind::Block || block.data().len() <= SMALL_BLOCK => {
                Found::Block(block.clone())
            }
            Some(_) => Found::Here,
            None => Found::Absent,
        };
        lookup.items.iter().map(one).collect()
    }

    /// Answers until nothing is left to do; everything is sent at once.
    fn serve(&self, server: &mut Server) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Some(lookup) = server.next_lookup() {
            let found = self.find(&lookup);
            for reply in server.found(lookup, found) {
                server.sent(reply.peer, reply.bytes);
                replies.push(reply);
            }
        }
        replies
    }
}

fn blocks_of(replies: &[Reply]) -> usize {
    replies.iter().map(|reply| reply.message.blocks.len()).sum()
}

fn presences(replies: &[Reply]) -> Vec<(Cid, Presence)> {
    replies.iter().flat_map(|reply| reply.message.presences.clone()).collect()
}

fn check(server: &Server) {
    let total: usize = server.ledgers.values().map(Ledger::len).sum();
    assert_eq!(server.total, total);
    let held: usize = server.ledgers.values().map(|ledger| ledger.outstanding).sum();
    assert_eq!(server.room.counts().0, held);
    assert!(total <= MAX_WANTS + server.ledgers.len() * MIN_WANTS_PER_PEER);
    for ledger in server.ledgers.values() {
        assert!(ledger.len() <= MAX_WANTS_PER_PEER && !ledger.is_idle());
    }
    for (hash, peers) in &server.watched {
        assert!(!peers.is_empty());
        for peer in peers {
            assert!(server.ledgers[peer].hashes().contains(hash));
        }
    }
}

#[test]
fn wants_are_answered_in_the_order_of_priority() {
    let (mut server, peer) = (Server::new(), PeerId::random());
    let mut here = Blocks::default();
    let (first, second) = (here.add(1, 100_000), here.add(2, 100_000));
    let absent = *block(3, 10).cid();
    let urgent = WantEntry { priority: 9, ..want(&second) };
    server.received(peer, vec![want(&first), urgent, want_have(&absent)], false);
    let replies = here.serve(&mut server);
    assert_eq!(presences(&replies), [(absent, Presence::DontHave)]);
    let sent: Vec<_> = replies.iter().flat_map(|r| &r.message.blocks).collect();
    assert_eq!(sent, [&RawBlock::from(&here.0[&second]), &RawBlock::from(&here.0[&first])]);
    check(&server);
    server.disconnected(peer);
    assert_eq!((server.total, server.ledgers.len(), server.watched.len()), (0, 0, 0));
}

#[test]
fn who_asks_for_a_small_block_gets_it_at_once() {
    let (mut server, peer) = (Server::new(), PeerId::random());
    let mut here = Blocks::default();
    let (small, large) = (here.add(1, SMALL_BLOCK), here.add(2, SMALL_BLOCK + 1));
    server.received(peer, vec![want_have(&small), want_have(&large)], false);
    let replies = here.serve(&mut server);
    assert_eq!((blocks_of(&replies), presences(&replies)), (1, vec![(large, Presence::Have)]));
    assert!(server.ledgers.is_empty(), "both are done with");
}

#[test]
fn a_want_waits_for_its_block_whatever_codec_it_comes_under() {
    let (mut server, peer) = (Server::new(), PeerId::random());
    let mut here = Blocks::default();
    let stored = block(1, 5000);
    let cid = Cid::new_v1(DAG_PB, *stored.cid().hash());
    let quiet = WantEntry { send_dont_have: false, ..want(&cid) };
    server.received(peer, vec![quiet], false);
    assert!(here.serve(&mut server).is_empty());
    here.0.insert(cid, Block::verify(cid, stored.data().clone()).expect("matches"));
    assert!(server.next_lookup().is_none(), "it waits");
    server.stored([stored.cid()]);
    assert_eq!(blocks_of(&here.serve(&mut server)), 1);
    assert!(server.ledgers.is_empty());
}

#[test]
fn a_block_that_comes_while_it_is_looked_up_is_not_missed() {
    let (mut server, peer) = (Server::new(), PeerId::random());
    let mut here = Blocks::default();
    let cid = *block(1, 5000).cid();
    server.received(peer, vec![want(&cid)], false);
    let lookup = server.next_lookup().expect("wanted");
    here.add(1, 5000);
    server.stored([&cid]);
    let replies = server.found(lookup, vec![Found::Absent]);
    assert_eq!(presences(&replies), [(cid, Presence::DontHave)]);
    server.sent(peer, replies[0].bytes);
    let replies = here.serve(&mut server);
    assert_eq!((blocks_of(&replies), presences(&replies).len()), (1, 0));
    // And when nobody can say what came.
    let cid = *block(2, 5000).cid();
    server.received(peer, vec![want(&cid)], false);
    here.serve(&mut server);
    here.add(2, 5000);
    server.stored_unknown();
    assert_eq!(blocks_of(&here.serve(&mut server)), 1);
}

#[test]
fn what_is_cancelled_or_replaced_is_not_sent() {
    let (mut server, peer) = (Server::new(), PeerId::random());
    let mut here = Blocks::default();
    let cids: Vec<Cid> = (0..4).map(|seed| here.add(seed, 5000)).collect();
    server.received(peer, cids.iter().map(want).collect(), false);
    server.received(peer, vec![cancel(&cids[0])], false);
    let lookup = server.next_lookup().expect("wanted");
    assert_eq!(lookup.items.len(), 3);
    server.received(peer, vec![cancel(&cids[1])], false);
    let found = here.find(&lookup);
    let replies = server.found(lookup, found);
    assert_eq!(blocks_of(&replies), 2);
    replies.iter().for_each(|reply| server.sent(peer, reply.bytes));

    server.received(peer, cids.iter().map(want).collect(), false);
    server.received(peer, vec![want(&cids[3])], true);
    assert_eq!(blocks_of(&here.serve(&mut server)), 1);
    assert!(server.ledgers.is_empty());
    // A lookup may end after its peer has gone.
    server.received(peer, vec![want(&cids[0])], false);
    let lookup = server.next_lookup().expect("wanted");
    server.disconnected(peer);
    assert!(server.found(lookup, vec![]).is_empty() && server.total == 0);
}

#[test]
fn messages_and_what_is_on_its_way_are_bounded() {
    let (mut server, peer) = (Server::new(), PeerId::random());
    let mut here = Blocks::default();
    let cids: Vec<Cid> = (0..100).map(|seed| here.add(seed, 300_000)).collect();
    server.received(peer, cids.iter().map(want).collect(), false);
    let mut unsent = Vec::new();
    while let Some(lookup) = server.next_lookup() {
        let found = here.find(&lookup);
        unsent.extend(server.found(lookup, found));
    }
    let bytes: usize = unsent.iter().map(|reply| reply.bytes).sum();
    assert!((MAX_OUTSTANDING - 300_100..=MAX_OUTSTANDING).contains(&bytes), "{bytes} bytes");
    for reply in &unsent {
        assert!(reply.message.encoded_len() <= MESSAGE_TARGET + 20);
    }
    assert!(unsent.last().is_some_and(|last| last.message.pending_bytes > 20_000_000));
    server.sent(peer, unsent[0].bytes);
    assert!(server.next_lookup().is_some());
}

/// Takes lookups, of which as much is found as may be, until there are none.
fn fill(here: &Blocks, server: &mut Server) -> Vec<Reply> {
    let mut unsent = Vec::new();
    while let Some(lookup) = server.next_lookup() {
        assert!((MAX_BLOCK..=MAX_READ).contains(&lookup.read));
        let mut kept = 0;
        let mut found = here.find(&lookup);
        for found in &mut found {
            let Found::Block(block) = found else { continue };
            let len = block.data().len();
            let fits = kept == 0 || kept + len <= lookup.keep;
            kept += if fits { len } else { 0 };
            *found = if fits { found.clone() } else { Found::Unread };
        }
        unsent.extend(server.found(lookup, found));
        check(server);
    }
    unsent
}

#[test]
fn those_who_take_nothing_leave_room_for_others() {
    let mut server = Server::new();
    let mut here = Blocks::default();
    let cids: Vec<Cid> = (0..40).map(|seed| here.add(seed, 1 << 20)).collect();
    let lazy: Vec<PeerId> = (0..20).map(|_| PeerId::random()).collect();
    for peer in &lazy {
        server.received(*peer, cids.iter().map(want).collect(), false);
    }
    let unsent = fill(&here, &mut server);
    let held: usize = unsent.iter().map(|reply| reply.bytes).sum();
    assert_eq!(server.room.counts(), (held, 0));
    assert!(held < MAX_HELD, "{held} bytes");
    for peer in &lazy {
        let ledger = &server.ledgers[peer];
        assert!((1..=MAX_OUTSTANDING + (1 << 20)).contains(&ledger.outstanding));
    }
    // Who reads gets all, as fast as it reads.
    let reader = PeerId::random();
    server.received(reader, cids.iter().map(want).collect(), false);
    let mut got = 0;
    while got < cids.len() {
        let replies = fill(&here, &mut server);
        assert!(!replies.is_empty(), "starved after {got} blocks");
        for reply in replies {
            assert_eq!(reply.peer, reader);
            got += reply.message.blocks.len();
            server.sent(reader, reply.bytes);
        }
    }
    // What was never taken is given up.
    lazy.iter().for_each(|peer| server.disconnected(*peer));
    assert_eq!(server.room.counts(), (0, 0));
}

#[test]
fn a_lookup_waits_for_room_and_what_was_not_read_is_looked_up_again() {
    let mut server = Server::new();
    let mut here = Blocks::default();
    let peers: Vec<PeerId> = (0..100).map(|_| PeerId::random()).collect();
    let large = here.add(1, MAX_BLOCK);
    peers.iter().for_each(|peer| server.received(*peer, vec![want(&large)], false));
    let mut unsent = fill(&here, &mut server);
    assert!((MAX_HELD - 2 * MAX_BLOCK..MAX_HELD + MAX_BLOCK / 2).contains(&server.room.counts().0));
    assert!(server.next_lookup().is_none());
    let mut served = 0;
    while let Some(reply) = unsent.pop() {
        served += 1;
        server.sent(reply.peer, reply.bytes);
        unsent.extend(fill(&here, &mut server));
    }
    assert_eq!((served, server.room.counts()), (peers.len(), (0, 0)));

    // A lookup that is under way counts for as much as it may bring.
    peers.iter().for_each(|peer| server.received(*peer, vec![want(&large)], false));
    let lookups: Vec<Lookup> = std::iter::from_fn(|| server.next_lookup()).collect();
    assert_eq!(lookups.iter().map(|lookup| lookup.read).sum::<usize>(), MAX_HELD);
    for lookup in lookups {
        let found = vec![Found::Unread; lookup.items.len()];
        assert!(server.found(lookup, found).is_empty());
    }
    assert_eq!(server.room.counts(), (0, 0));
    assert_eq!(blocks_of(&here.serve(&mut server)), peers.len());
}

#[test]
fn peers_are_served_evenly_by_bytes() {
    let mut server = Server::new();
    let mut here = Blocks::default();
    let peers = [(); 3].map(|()| PeerId::random());
    let sizes = [1 << 20, 20_000, 300];
    let mut given = BTreeMap::new();
    for (n, (peer, size)) in peers.iter().zip(sizes).enumerate() {
        let count = [8, 60, 1000][n];
        let cids: Vec<Cid> =
            (0..count).map(|seed| here.add(seed + 10_000 * n as u64, size)).collect();
        server.received(*peer, cids.iter().map(want).collect(), false);
    }
    // Until the one with the tiny blocks has all of its 300 kB.
    while server.ledgers.contains_key(&peers[2]) {
        let lookup = server.next_lookup().expect("wanted");
        let found = here.find(&lookup);
        for reply in server.found(lookup, found) {
            server.sent(reply.peer, reply.bytes);
            *given.entry(reply.peer).or_insert(0) += reply.bytes;
        }
    }
    let of = |n: usize| given.get(&peers[n]).copied().unwrap_or_default();
    assert!(of(2) >= 300_000, "{}", of(2));
    // One batch is the unit: nobody is ahead by more.
    assert!(of(0) <= MAX_OUTSTANDING * 2 + 1000 && of(1) <= MAX_OUTSTANDING, "{given:?}");
    // Who comes late neither waits for the others to be even with it nor they for it.
    let late = PeerId::random();
    let cid = here.add(77_777, 5000);
    server.received(late, vec![want(&cid)], false);
    let next: Vec<PeerId> = (0..3)
        .filter_map(|_| {
            let lookup = server.next_lookup()?;
            let (peer, found) = (lookup.peer, here.find(&lookup));
            let replies = server.found(lookup, found);
            replies.iter().for_each(|reply| server.sent(peer, reply.bytes));
            Some(peer)
        })
        .collect();
    assert!(next.contains(&late), "{next:?}");
}

#[test]
fn a_million_wants_stay_bounded_and_others_are_served() {
    let (mut server, hostile, honest) = (Server::new(), PeerId::random(), PeerId::random());
    let mut here = Blocks::default();
    let good = here.add(u64::MAX, 5000);
    let hash = |n: u64| {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_le_bytes());
        crate::content::block::cid_of(Version::V1, RAW, &digest)
    };
    let mut told = 0;
    for round in 0..40 {
        let wants = (0..25_000).map(|n| want(&hash(round * 25_000 + n))).collect();
        server.received(hostile, wants, false);
        assert!(server.ledgers[&hostile].len() <= MAX_WANTS_PER_PEER);
        server.received(honest, vec![want(&good)], false);
        let replies = here.serve(&mut server);
        assert_eq!(blocks_of(&replies), 1);
        told += presences(&replies).len();
    }
    assert!(told <= 40 * 2 * MAX_WANTS_PER_PEER);
    check(&server);
    // Old wants that wait in vain make room for a new one that is here.
    server.received(hostile, vec![want(&good)], false);
    assert_eq!(blocks_of(&here.serve(&mut server)), 1);
    server.disconnected(hostile);
    assert!(server.watched.is_empty() && server.total == 0);
}

#[test]
fn many_peers_share_the_room_and_each_has_some() {
    let mut server = Server::new();
    let peers: Vec<PeerId> = (0..80).map(|_| PeerId::random()).collect();
    for (n, peer) in peers.iter().enumerate() {
        let wants = (0..MAX_WANTS_PER_PEER).map(|i| want(block((n * 2000 + i) as u64, 8).cid()));
        server.received(*peer, wants.collect(), false);
    }
    assert!(server.ledgers.values().all(|ledger| ledger.len() >= MIN_WANTS_PER_PEER));
    check(&server);
}

/// A random walk: whatever comes in whatever order, the books are right, and in the end everything
/// that is here has been sent.
#[test]
fn the_books_stay_right() {
    let blocks: Vec<Block> = (0..60).map(|n| block(n, n as usize * 60)).collect();
    for seed in 0..20u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        let mut server = Server::new();
        let mut here = Blocks::default();
        let peers = [(); 3].map(|()| PeerId::random());
        let (mut lookups, mut unsent) = (Vec::new(), Vec::<Reply>::new());
        for _ in 0..1000 {
            let peer = peers[random(3) as usize];
            match random(8) {
                0..3 => {
                    let cid = *blocks[random(60) as usize].cid();
                    let mut entry = if random(2) == 0 { want(&cid) } else { want_have(&cid) };
                    (entry.priority, entry.cancel) = (random(5) as i32, random(6) == 0);
                    server.received(peer, vec![entry], random(50) == 0);
                }
                3 => {
                    let block = &blocks[random(60) as usize];
                    let cid = *block.cid();
                    here.0.insert(cid, block.clone());
                    server.stored([&cid]);
                }
                4 => lookups.extend(server.next_lookup()),
                5 if !lookups.is_empty() => {
                    let lookup: Lookup = lookups.swap_remove(random(lookups.len() as u64) as usize);
                    let mut found = here.find(&lookup);
                    match random(9) {
                        0 => {
                            found.fill(Found::Absent);
                            server.stored_unknown();
                        }
                        1 => found.fill(Found::Unread),
                        _ => {}
                    }
                    unsent.extend(server.found(lookup, found));
                }
                6 if !unsent.is_empty() => {
                    let reply = unsent.swap_remove(random(unsent.len() as u64) as usize);
                    server.sent(reply.peer, reply.bytes);
                }
                7 if random(20) == 0 => server.disconnected(peer),
                _ => {}
            }
            check(&server);
        }
        for lookup in lookups {
            let found = here.find(&lookup);
            unsent.extend(server.found(lookup, found));
        }
        unsent.iter().for_each(|reply| server.sent(reply.peer, reply.bytes));
        server.stored_unknown();
        here.serve(&mut server);
        for ledger in server.ledgers.values() {
            let left: Vec<Cid> =
                ledger.unanswered().filter(|cid| here.0.contains_key(cid)).collect();
            assert!(left.is_empty() && ledger.queued() == 0, "seed {seed}: {left:?}");
        }
    }
}
