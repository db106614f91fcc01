//! Files read back: any range of any tree, blocks arriving in any order.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use cid::{Cid, Version};
use proptest::prelude::*;
use tabpeer::content::block::{DAG_PB, IDENTITY, RAW};
use tabpeer::content::dagpb::PbNode;
use tabpeer::content::import::import_bytes;
use tabpeer::content::layout::Layout;
use tabpeer::content::read::{NotAFile, ReadError, ReadStep, Reader};
use tabpeer::content::unixfs::{Kind, UnixFs};

use crate::blocks::{Blocks, SeededBytes, by_cid, cases, file, node, raw};

/// What a run of the reader did.
struct Run {
    bytes: Vec<u8>,
    asked: Vec<Cid>,
}

/// Reads with blocks delivered in an order that `order` decides; checks on the way that the window
/// is kept, that nothing is asked for twice at once and that `missing` tells the truth.
fn read(
    blocks: &Blocks,
    root: Cid,
    range: Option<Range<u64>>,
    window: usize,
    order: &[usize],
) -> Result<Run, ReadError> {
    let mut reader = Reader::new(root, range)?;
    let mut run = Run { bytes: Vec::new(), asked: Vec::new() };
    let mut flying: VecDeque<Cid> = VecDeque::new();
    let mut order = order.iter().cycle();
    loop {
        match reader.next() {
            ReadStep::Bytes(bytes) => {
                assert!(!bytes.is_empty());
                run.bytes.extend_from_slice(&bytes);
                assert_eq!(reader.range().start + run.bytes.len() as u64, reader.position());
            }
            ReadStep::Done => {
                assert!(reader.missing().next().is_none(), "done with blocks still asked for");
                assert_eq!(reader.position(), reader.range().end);
                return Ok(run);
            }
            ReadStep::Wait => {
                let wants = reader.wants(window);
                run.asked.extend(&wants);
                flying.extend(wants);
                assert!(flying.len() <= window);
                let distinct: BTreeSet<Cid> = flying.iter().copied().collect();
                assert_eq!(distinct.len(), flying.len(), "asked for twice");
                assert!(reader.missing().eq(distinct.iter()));
                let pick = order.next().copied().unwrap_or(0) % flying.len().max(1);
                let cid = flying.remove(pick).expect("the reader waits for nothing");
                reader.supply(&blocks[&cid])?;
            }
        }
    }
}

/// The blocks on the way to `range`, found by looking at the whole tree.
fn needed(blocks: &Blocks, cid: Cid, at: u64, range: &Range<u64>, out: &mut BTreeSet<Cid>) {
    out.insert(cid);
    if cid.codec() != DAG_PB {
        return;
    }
    let node = PbNode::decode(blocks[&cid].data()).expect("dag-pb");
    let message = UnixFs::decode(&node.data.expect("data")).expect("unixfs");
    let mut at = at + message.data.map_or(0, |data| data.len() as u64);
    for (link, len) in node.links.iter().zip(message.block_sizes) {
        if at < range.end && at + len > range.start && len > 0 && !range.is_empty() {
            needed(blocks, link.cid, at, range, out);
        }
        at += len;
    }
}

fn layouts() -> impl Strategy<Value = Layout> {
    (1usize..20, 2usize..6, any::<bool>(), any::<bool>()).prop_map(|(chunk, width, v1, raw)| {
        let version = if v1 { Version::V1 } else { Version::V0 };
        Layout::new(chunk, width, version, raw).expect("valid")
    })
}

/// A tree of no importer's making: data in interior nodes, leaves of all kinds, empty ones among
/// them, uneven depths. Returns the root and its length.
fn shape(bytes: &mut &[u8], plan: &mut &[u8], depth: usize, blocks: &mut Blocks) -> (Cid, u64) {
    let mut step = || match plan.split_first() {
        Some((first, rest)) => {
            *plan = rest;
            usize::from(*first)
        }
        None => 0,
    };
    let (kind, amount) = (if depth == 0 { 0 } else { step() }, step());
    let before = bytes.len();
    let take = |bytes: &mut &[u8], len: usize| {
        let (data, rest) = bytes.split_at(len.min(bytes.len()));
        *bytes = rest;
        data.to_vec()
    };
    let version = if kind & 1 == 0 { Version::V0 } else { Version::V1 };
    let block = match kind % 10 {
        0..=4 if depth < 5 => {
            let data = take(bytes, amount % 3);
            let children: Vec<_> =
                (0..amount % 5 + 1).map(|_| shape(bytes, plan, depth + 1, blocks)).collect();
            file(version, &data, &children)
        }
        5 => {
            let mut message = UnixFs::new(Kind::Raw);
            message.data = Some(take(bytes, amount % 10).into());
            node(version, &message, &[])
        }
        6 => file(version, &take(bytes, amount % 10), &[]),
        7 => {
            let data = take(bytes, amount % 10);
            return (inline(RAW, &data), data.len() as u64);
        }
        8 => {
            let leaf = file(version, &take(bytes, amount % 10), &[]);
            return (inline(DAG_PB, leaf.data()), (before - bytes.len()) as u64);
        }
        _ => raw(&take(bytes, amount % 10)),
    };
    let cid = *block.cid();
    blocks.insert(cid, block);
    (cid, (before - bytes.len()) as u64)
}

fn inline(codec: u64, data: &[u8]) -> Cid {
    Cid::new_v1(codec, multihash::Multihash::wrap(IDENTITY, data).expect("short"))
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_range_of_an_imported_file_is_read_and_nothing_else_is_asked_for(
        layout in layouts(),
        bytes in prop::collection::vec(0u8..8, 0..800),
        cut in (0u64..900, 0u64..900),
        window in 1usize..40,
        order in prop::collection::vec(0usize..40, 1..20),
    ) {
        let (blocks, root) = import_bytes(layout, &bytes);
        let blocks = by_cid(blocks);
        let whole = read(&blocks, root.cid, None, window, &order).expect("readable");
        prop_assert_eq!(&whole.bytes, &bytes);
        prop_assert_eq!(whole.asked.iter().collect::<BTreeSet<_>>(), blocks.keys().collect());

        let range = cut.0..cut.1;
        let part = read(&blocks, root.cid, Some(range.clone()), window, &order).expect("readable");
        let end = cut.1.min(bytes.len() as u64) as usize;
        let start = (cut.0 as usize).min(end);
        prop_assert_eq!(&part.bytes, &bytes[start..end]);
        let mut expected = BTreeSet::new();
        needed(&blocks, root.cid, 0, &range, &mut expected);
        prop_assert_eq!(part.asked.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn trees_of_other_shapes_are_read_too(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        plan in prop::collection::vec(any::<u8>(), 0..300),
        cut in (0u64..300, 0u64..300),
        window in 1usize..20,
        order in prop::collection::vec(0usize..20, 1..20),
    ) {
        let (mut rest, mut blocks) = (&bytes[..], Blocks::new());
        let (root, len) = shape(&mut rest, &mut &plan[..], 0, &mut blocks);
        let bytes = &bytes[..bytes.len() - rest.len()];
        prop_assert_eq!(len, bytes.len() as u64);
        let whole = read(&blocks, root, None, window, &order).expect("readable");
        prop_assert_eq!(&whole.bytes, bytes);
        let part = read(&blocks, root, Some(cut.0..cut.1), window, &order).expect("readable");
        let end = (cut.1 as usize).min(bytes.len());
        prop_assert_eq!(&part.bytes, &bytes[(cut.0 as usize).min(end)..end]);
    }
}

#[test]
fn blocks_come_in_the_order_of_need_and_the_window_is_a_stretch_of_the_file() {
    let layout = Layout::new(10, 4, Version::V1, true).expect("valid");
    let bytes = SeededBytes::new("window").take(160);
    let (blocks, root) = import_bytes(layout, &bytes);
    let blocks = by_cid(blocks);
    let mut reader = Reader::new(root.cid, None).expect("a file");
    assert_eq!((reader.size(), reader.wants(8)), (None, vec![root.cid]));
    reader.supply(&blocks[&root.cid]).expect("a node");
    assert_eq!((reader.size(), reader.next()), (Some(160), ReadStep::Wait));
    let nodes = reader.wants(8);
    assert_eq!(nodes.len(), 4, "how much is in a leaf is not known yet");
    reader.supply(&blocks[&nodes[1]]).expect("a node");
    reader.supply(&blocks[&nodes[0]]).expect("a node");
    let leaves = reader.wants(5);
    let data: Vec<&Bytes> = leaves.iter().map(|cid| blocks[cid].data()).collect();
    assert_eq!(data, [&bytes[..10], &bytes[10..20], &bytes[20..30]]);
    reader.supply(&blocks[&leaves[1]]).expect("a leaf");
    assert_eq!((reader.next(), reader.wants(5)), (ReadStep::Wait, vec![]));
    reader.supply(&blocks[&leaves[0]]).expect("a leaf");
    let ReadStep::Bytes(first) = reader.next() else { panic!("the first leaf is there") };
    assert_eq!(first.as_ptr(), blocks[&leaves[0]].data().as_ptr(), "not a copy");
    assert_eq!(reader.wants(5).len(), 1);
    assert_eq!(reader.position(), 10);
}

#[test]
fn leaves_far_ahead_do_not_take_the_place_of_the_next_ones() {
    let layout = Layout::new(10, 4, Version::V1, true).expect("valid");
    let (blocks, root) = import_bytes(layout, &SeededBytes::new("order").take(640));
    let blocks = by_cid(blocks);
    // All of the first leaf, so that the reader knows how much leaves hold, then as a stream.
    let mut reader = Reader::new(root.cid, None).expect("a file");
    for _ in 0..4 {
        for cid in reader.wants(1) {
            reader.supply(&blocks[&cid]).expect("valid");
        }
    }
    let ReadStep::Bytes(_) = reader.next() else { panic!("the first leaf is there") };
    // Three leaves, then a node of four: the node fills the window.
    let wants = reader.wants(7);
    let codecs: Vec<u64> = wants.iter().map(Cid::codec).collect();
    assert_eq!(codecs, [RAW, RAW, RAW, DAG_PB]);
}

#[test]
fn a_block_that_stands_in_many_places_is_asked_for_once_per_window() {
    let layout = Layout::new(4, 4, Version::V0, false).expect("valid");
    let zeros = vec![0; 4 * 200];
    let (blocks, root) = import_bytes(layout, &zeros);
    let distinct = blocks.len();
    let run = read(&by_cid(blocks), root.cid, None, 1000, &[0]).expect("readable");
    assert_eq!((run.bytes, run.asked.len()), (zeros, distinct));
}

#[test]
fn what_is_no_file_says_what_it_is() {
    let error = |message: &UnixFs| {
        let block = node(Version::V1, message, &[]);
        let mut reader = Reader::new(*block.cid(), None).expect("maybe a file");
        reader.wants(1);
        match reader.supply(&block) {
            Err(ReadError::NotAFile { cid, kind }) if cid == *block.cid() => kind,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error(&UnixFs::new(Kind::Directory)), NotAFile::Directory);
    assert_eq!(error(&UnixFs::new(Kind::HamtShard)), NotAFile::ShardedDirectory);
    let mut symlink = UnixFs::new(Kind::Symlink);
    symlink.data = Some(Bytes::from_static(b"../there"));
    assert_eq!(error(&symlink), NotAFile::Symlink { target: "../there".into() });
}

#[test]
fn an_inline_file_needs_no_block() {
    let mut reader = Reader::new(inline(RAW, b"tiny"), Some(1..3)).expect("a file");
    assert_eq!((reader.wants(8), reader.size()), (vec![], Some(4)));
    assert_eq!(reader.next(), ReadStep::Bytes(Bytes::from_static(b"in")));
    assert_eq!(reader.next(), ReadStep::Done);
}
