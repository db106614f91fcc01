//! The importer against `rust-unixfs`, and against itself fed differently.

use bytes::Bytes;
use cid::{Cid, Version};
use proptest::prelude::*;
use rust_unixfs::file::adder::{BalancedCollector, Chunker as OracleChunker, FileAdder};
use tabpeer::content::block::Block;
use tabpeer::content::import::{Chunker, FileBuilder, FileRoot, import_bytes};
use tabpeer::content::layout::Layout;
use tabpeer::content::profile::Profile;

use crate::blocks::{SeededBytes, by_cid, cases};

fn layouts() -> impl Strategy<Value = Layout> {
    (1usize..40, 2usize..6, any::<bool>(), any::<bool>()).prop_map(|(chunk, width, v1, raw)| {
        let version = if v1 { Version::V1 } else { Version::V0 };
        Layout::new(chunk, width, version, raw).expect("valid")
    })
}

/// The oracle's blocks and root.
fn oracle(layout: Layout, bytes: &[u8]) -> (Vec<(String, Vec<u8>)>, String) {
    let mut adder = FileAdder::builder()
        .with_chunker(OracleChunker::Size(layout.chunk_size()))
        .with_collector(BalancedCollector::with_branching_factor(layout.width()))
        .with_cid_version(layout.version())
        .with_raw_leaves(layout.raw_leaves())
        .build();
    let mut blocks = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (made, taken) = adder.push(rest);
        blocks.extend(made);
        rest = &rest[taken..];
    }
    blocks.extend(adder.finish());
    let blocks: Vec<_> = blocks.into_iter().map(|(cid, data)| (cid.to_string(), data)).collect();
    let root = blocks.last().expect("a root").0.clone();
    (blocks, root)
}

/// Imports with the stream cut into pieces of these lengths, over and over.
fn in_pieces(layout: Layout, bytes: &[u8], pieces: &[usize]) -> (Vec<Block>, FileRoot) {
    let (mut chunker, mut files) = (Chunker::new(layout), FileBuilder::new(layout));
    let mut blocks = Vec::new();
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut leaf = |chunk: Bytes| {
        let len = chunk.len() as u64;
        let payload = files.leaf_payload(chunk);
        let block = Block::encode(payload.version, payload.codec, payload.data);
        let above = files.push_leaf(*block.cid(), len, block.data().len() as u64);
        blocks.push(block);
        blocks.extend(above);
    };
    for len in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        chunker.push(rest.split_to(rest.len().min(*len)));
        while let Some(chunk) = chunker.next_chunk() {
            leaf(chunk);
        }
    }
    while let Some(chunk) = chunker.finish() {
        leaf(chunk);
    }
    let (above, root) = files.finish();
    blocks.extend(above);
    (blocks, root)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn files_are_those_of_rust_unixfs(layout in layouts(), bytes in bytes()) {
        let (blocks, root) = import_bytes(layout, &bytes);
        let (expected, expected_root) = oracle(layout, &bytes);
        prop_assert_eq!(root.cid.to_string(), expected_root);
        let tsize: usize = expected.iter().map(|(_, data)| data.len()).sum();
        prop_assert_eq!(root.tsize, tsize as u64);
        let blocks = by_cid(blocks);
        for (cid, data) in &expected {
            let cid: Cid = cid.parse().expect("a CID");
            prop_assert_eq!(&blocks[&cid].data()[..], &data[..]);
        }
        let distinct: std::collections::BTreeSet<_> = expected.iter().map(|(cid, _)| cid).collect();
        prop_assert_eq!(blocks.len(), distinct.len());
    }

    #[test]
    fn how_the_stream_arrives_does_not_matter(
        layout in layouts(),
        bytes in bytes(),
        pieces in prop::collection::vec(1usize..100, 1..5),
    ) {
        let (whole, root) = import_bytes(layout, &bytes);
        let (blocks, same) = in_pieces(layout, &bytes, &pieces);
        prop_assert_eq!(root, same);
        prop_assert_eq!(by_cid(whole), by_cid(blocks));
    }
}

#[test]
fn the_profiles_are_those_of_rust_unixfs() {
    let bytes = SeededBytes::new("profiles").take(2_500_000);
    for profile in Profile::ALL {
        for len in [1, 262_144, 262_145, 1_048_576, 1_048_577, bytes.len()] {
            let (_, root) = import_bytes(profile, &bytes[..len]);
            let expected = oracle(profile.layout(), &bytes[..len]).1;
            assert_eq!(root.cid.to_string(), expected, "{profile} {len}");
        }
    }
}

#[test]
fn the_174th_leaf_fills_a_node_and_the_175th_starts_another() {
    let bytes = SeededBytes::new("width").take(174 * 174 + 1);
    for (version, raw_leaves) in [(Version::V0, false), (Version::V1, true)] {
        let layout = Layout::new(1, 174, version, raw_leaves).expect("valid");
        for len in [174, 175, 174 * 174, 174 * 174 + 1] {
            let (_, root) = import_bytes(layout, &bytes[..len]);
            assert_eq!(root.cid.to_string(), oracle(layout, &bytes[..len]).1, "{layout:?} {len}");
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Two values only, so that blocks repeat.
    prop::collection::vec(0u8..2, 0..600)
}
