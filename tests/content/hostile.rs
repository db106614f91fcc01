//! Blocks made to deceive, and bytes that are nothing at all: always an error, never a panic, and
//! never more memory than is bounded by name.

use bytes::Bytes;
use cid::{Cid, Version};
use proptest::prelude::*;
use tabpeer::content::block::{Block, DAG_PB, RAW, SHA2_256};
use tabpeer::content::dagpb::PbNode;
use tabpeer::content::import::import_bytes;
use tabpeer::content::layout::Layout;
use tabpeer::content::read::{MAX_DEPTH, MAX_PARTS, MAX_WINDOW, ReadError, ReadStep, Reader};
use tabpeer::content::unixfs::{Kind, UnixFs};
use tabpeer::content::walk::{Leaves, Walk};

use crate::blocks::{Blocks, by_cid, cases, file, node, raw};

/// Reads the whole file, however long it claims to be, up to `most` bytes.
fn read(blocks: &Blocks, root: Cid, most: usize) -> Result<Vec<u8>, ReadError> {
    let mut reader = Reader::new(root, None)?;
    let mut bytes = Vec::new();
    loop {
        match reader.next() {
            ReadStep::Bytes(more) => bytes.extend_from_slice(&more),
            ReadStep::Done => return Ok(bytes),
            ReadStep::Wait => {
                for cid in reader.wants(MAX_WINDOW) {
                    reader.supply(&blocks[&cid])?;
                }
            }
        }
        if bytes.len() > most {
            return Ok(bytes);
        }
    }
}

#[test]
fn a_lying_size_names_the_block() {
    let leaf = raw(b"abc");
    for claimed in [2, 4, u64::MAX] {
        let root = file(Version::V1, b"", &[(*leaf.cid(), claimed)]);
        let blocks = by_cid([leaf.clone(), root.clone()]);
        let error = ReadError::Size { cid: *leaf.cid(), claimed, found: 3 };
        assert_eq!(read(&blocks, *root.cid(), 99), Err(error));
    }
    let mut message = UnixFs::new(Kind::File);
    message.data = Some(Bytes::from_static(b"abc"));
    message.file_size = Some(4);
    let root = node(Version::V0, &message, &[]);
    let error = ReadError::Size { cid: *root.cid(), claimed: 4, found: 3 };
    assert_eq!(read(&by_cid([root.clone()]), *root.cid(), 99), Err(error));
}

#[test]
fn malformed_nodes_are_refused() {
    let leaf = raw(b"abc");
    let mut unsized_link = UnixFs::new(Kind::File);
    unsized_link.file_size = Some(3);
    let mut raw_with_links = UnixFs::new(Kind::Raw);
    raw_with_links.block_sizes = vec![3];
    let mut overflow = UnixFs::new(Kind::File);
    overflow.block_sizes = vec![u64::MAX, 1];
    let no_data = PbNode { links: vec![], data: None };
    for root in [
        node(Version::V1, &unsized_link, &[*leaf.cid()]),
        node(Version::V1, &raw_with_links, &[*leaf.cid()]),
        node(Version::V1, &overflow, &[*leaf.cid(), *leaf.cid()]),
        Block::encode(Version::V1, DAG_PB, no_data.encode()),
    ] {
        let cid = *root.cid();
        let error = read(&by_cid([root]), cid, 99);
        assert!(matches!(error, Err(ReadError::Shape { cid: at, .. }) if at == cid), "{error:?}");
    }
    let directory = node(Version::V1, &UnixFs::new(Kind::Directory), &[]);
    let root = file(Version::V1, b"", &[(*directory.cid(), 1)]);
    let error = read(&by_cid([directory.clone(), root.clone()]), *root.cid(), 99);
    assert!(matches!(error, Err(ReadError::NotAFile { cid, .. }) if cid == *directory.cid()));
}

#[test]
fn cids_that_could_not_be_verified_are_refused_before_they_are_fetched() {
    let hash = multihash::Multihash::wrap(0xb220, &[7; 32]).expect("short");
    let short = multihash::Multihash::wrap(SHA2_256, &[7; 20]).expect("short");
    let cbor = Cid::new_v1(0x71, *raw(b"x").cid().hash());
    for cid in [Cid::new_v1(RAW, hash), Cid::new_v1(RAW, short), cbor] {
        assert_eq!(Reader::new(cid, None).map(drop), Err(ReadError::Unsupported { cid }));
        let root = file(Version::V1, b"", &[(cid, 1)]);
        let error = read(&by_cid([root.clone()]), *root.cid(), 99);
        assert_eq!(error, Err(ReadError::Unsupported { cid }));
    }
}

#[test]
fn a_tree_too_deep_is_refused() {
    let mut blocks = Blocks::new();
    let mut top = raw(b"x");
    for level in 0..=MAX_DEPTH {
        let above = file(Version::V1, b"", &[(*top.cid(), 1)]);
        blocks.insert(*top.cid(), top);
        top = above;
        if level + 1 == MAX_DEPTH {
            blocks.insert(*top.cid(), top.clone());
            assert_eq!(read(&blocks, *top.cid(), 99), Ok(b"x".to_vec()));
        }
    }
    let root = *top.cid();
    blocks.insert(root, top);
    assert!(matches!(read(&blocks, root, 99), Err(ReadError::TooDeep { .. })));
}

#[test]
fn a_small_bomb_is_read_lazily() {
    // 1000 links to a node of 1000 links and so on: 10^15 bytes out of six blocks.
    let mut top = raw(b"x");
    let (mut blocks, mut len) = (by_cid([top.clone()]), 1);
    for _ in 0..5 {
        top = file(Version::V1, b"", &vec![(*top.cid(), len); 1000]);
        blocks.insert(*top.cid(), top.clone());
        len *= 1000;
    }
    assert_eq!(read(&blocks, *top.cid(), 3000).map(|bytes| bytes.len()), Ok(3001));
    // The same with nothing at the bottom ends at once.
    let mut top = raw(b"");
    let mut blocks = by_cid([top.clone()]);
    for _ in 0..5 {
        top = file(Version::V1, b"", &vec![(*top.cid(), 0); 1000]);
        blocks.insert(*top.cid(), top.clone());
    }
    assert_eq!(read(&blocks, *top.cid(), 99), Ok(Vec::new()));
    let mut walk = Walk::new(*top.cid(), Leaves::Fetch).expect("a walk");
    while let Some(cid) = walk.wants(1).pop() {
        walk.supply(&blocks[&cid]).expect("a node");
    }
    assert_eq!((walk.is_done(), walk.found().len()), (true, 6));
}

#[test]
fn nodes_of_very_many_links_are_split_only_when_they_are_next() {
    // Ten nodes of 14000 leaves of one byte: all at once would be more parts than are kept.
    let leaf = raw(b"x");
    let wide = 14_000;
    let mut blocks = by_cid([leaf.clone()]);
    let mut children = Vec::new();
    for n in 0..10u8 {
        let node = file(Version::V1, &[n], &vec![(*leaf.cid(), 1); wide]);
        children.push((*node.cid(), wide as u64 + 1));
        blocks.insert(*node.cid(), node);
    }
    let root = file(Version::V1, b"", &children);
    blocks.insert(*root.cid(), root.clone());
    assert!(wide * 10 > MAX_PARTS);
    let bytes = read(&blocks, *root.cid(), usize::MAX).expect("readable");
    assert_eq!(bytes.len(), (wide + 1) * 10);
    assert!(bytes.chunks(wide + 1).zip(0u8..).all(|(node, n)| node[0] == n && node[1] == b'x'));
}

fn small_tree() -> (Vec<Block>, Cid) {
    let layout = Layout::new(7, 3, Version::V0, false).expect("valid");
    let bytes: Vec<u8> = (0..100).collect();
    let (blocks, root) = import_bytes(layout, &bytes);
    (blocks, root.cid)
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_tree_is_noticed_or_harmless() {
    let (blocks, root) = small_tree();
    let original = by_cid(blocks.clone());
    let root = &original[&root];
    let check = |data: Bytes| {
        // A changed block has another CID, so it can only come in as a root; it must not read as
        // a file unless it is one in its own right.
        let changed = Block::encode(Version::V0, DAG_PB, data.clone());
        let _ = Walk::new(*changed.cid(), Leaves::Fetch).map(|mut walk| {
            walk.wants(1);
            let _ = walk.supply(&changed);
        });
        let _ = Layout::of_root(&changed);
        let mut blocks = original.clone();
        blocks.insert(*changed.cid(), changed.clone());
        let mut reader = Reader::new(*changed.cid(), None).expect("dag-pb");
        reader.wants(1);
        if reader.supply(&changed).is_err() {
            return;
        }
        // Canonical but for the order of links and data, so what was accepted can be written back.
        let node = PbNode::decode(&data).expect("accepted");
        assert_eq!(node.encode().len(), data.len());
        while let Some(cid) = reader.wants(1).pop() {
            match blocks.get(&cid) {
                Some(block) if reader.supply(block).is_ok() => {
                    while let ReadStep::Bytes(_) = reader.next() {}
                }
                _ => break,
            }
        }
    };
    let data = root.data();
    for end in 0..data.len() {
        let cut = data.slice(..end);
        assert!(PbNode::decode(&cut).map_or(true, |node| node.encode().len() <= end));
        check(cut);
    }
    for bit in 0..data.len() * 8 {
        let mut flipped = data.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Block::verify(*root.cid(), flipped.clone().into()).is_err());
        check(flipped.into());
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let data = Bytes::from(data);
        let _ = PbNode::decode(&data);
        let _ = UnixFs::decode(&data);
        // As a message too, so that more than the first field is reached.
        let node = PbNode { links: vec![], data: Some(data.clone()) };
        for data in [data, node.encode()] {
            let block = Block::encode(Version::V1, DAG_PB, data);
            let _ = Layout::of_root(&block);
            let mut reader = Reader::new(*block.cid(), None).expect("dag-pb");
            reader.wants(1);
            let _ = reader.supply(&block);
            while let ReadStep::Bytes(bytes) = reader.next() {
                prop_assert!(!bytes.is_empty());
            }
        }
    }

    #[test]
    fn messages_of_random_fields_never_panic(
        fields in prop::collection::vec((1u8..10, any::<bool>(), any::<u64>()), 0..12),
        links in 0usize..4,
    ) {
        let mut data = Vec::new();
        for (number, text, value) in fields {
            let value = value >> (value % 64);
            if text {
                let bytes = value.to_le_bytes();
                data.extend_from_slice(&[number << 3 | 2, 8]);
                data.extend_from_slice(&bytes);
            } else {
                data.push(number << 3);
                tabpeer::content::varint::write_varint(&mut data, value);
            }
        }
        let leaf = raw(b"x");
        let link = tabpeer::content::dagpb::PbLink { cid: *leaf.cid(), name: String::new(), tsize: 1 };
        let node = PbNode { links: vec![link; links], data: Some(data.into()) };
        let block = Block::encode(Version::V1, DAG_PB, node.encode());
        let _ = Layout::of_root(&block);
        let _ = read(&by_cid([leaf, block.clone()]), *block.cid(), 1000);
    }
}
