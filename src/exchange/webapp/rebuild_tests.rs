//! Tests of rebuilding: what comes out is what was imported, and a peer that lies gets nowhere.

use std::collections::BTreeMap;

use bytes::Bytes;
use cid::{Cid, Version};

use super::content::{ContentDecoder, ContentDone, ContentEvent};
use super::outcome::{Lie, Outcome, RebuildError, Unverifiable};
use super::rebuild::Rebuild;
use super::{FileEncoder, encode_directory, encode_failure};
use crate::content::block::{Block, DAG_PB, RAW, sha256};
use crate::content::dagpb::{PbLink, PbNode};
use crate::content::import::import_bytes;
use crate::content::layout::Layout;
use crate::content::profile::Profile;
use crate::content::unixfs::{Kind, UnixFs};

/// A file, its blocks and its root.
struct File {
    content: Vec<u8>,
    blocks: Vec<Block>,
    root: Block,
}

fn file(layout: Layout, len: usize) -> File {
    let content: Vec<u8> =
        (0..len).map(|i| (i as u64).wrapping_mul(0x9e37_79b9) as u8 ^ (i >> 8) as u8).collect();
    let (blocks, root) = import_bytes(layout, &content);
    let root = blocks.iter().find(|block| *block.cid() == root.cid).cloned().expect("a root");
    File { content, blocks, root }
}

fn layout(version: Version, raw_leaves: bool) -> Layout {
    Layout::new(1024, 8, version, raw_leaves).expect("valid")
}

fn done(cid: Cid) -> ContentEvent {
    ContentEvent::Done(ContentDone { cid: Some(cid), ..ContentDone::default() })
}

impl File {
    fn cid(&self) -> Cid {
        *self.root.cid()
    }

    fn node(&self) -> ContentEvent {
        ContentEvent::RawNode(self.root.data().clone())
    }

    fn pieces(&self, size: usize) -> Vec<ContentEvent> {
        let pieces = self.content.chunks(size).map(Bytes::copy_from_slice);
        pieces.map(ContentEvent::Content).collect()
    }

    /// The events with the root first, as we write them.
    fn in_our_order(&self) -> Vec<ContentEvent> {
        [vec![self.node()], self.pieces(700), vec![done(self.cid())]].concat()
    }

    /// The events with the content first, as Go writes them.
    fn in_go_order(&self) -> Vec<ContentEvent> {
        [self.pieces(700), vec![self.node(), done(self.cid())]].concat()
    }
}

/// Feeds events until there is an outcome; the blocks handed out and how many events it took.
fn run(
    rebuild: &mut Rebuild,
    events: Vec<ContentEvent>,
) -> Result<(Vec<Block>, usize), RebuildError> {
    let mut blocks = Vec::new();
    let mut taken = 0;
    for event in events {
        rebuild.event(event)?;
        taken += 1;
        let leaves: Vec<_> = std::iter::from_fn(|| rebuild.next_leaf()).collect();
        for leaf in leaves {
            rebuild.leaf_hashed(sha256(&leaf.data))?;
        }
        blocks.extend(std::iter::from_fn(|| rebuild.next_block()));
        if rebuild.outcome().is_some() {
            break;
        }
    }
    Ok((blocks, taken))
}

fn outcome(cid: Cid, events: Vec<ContentEvent>) -> (Outcome, usize) {
    let mut rebuild = Rebuild::new(cid);
    let (_, taken) = run(&mut rebuild, events).expect("no error");
    (rebuild.outcome().cloned().expect("an outcome"), taken)
}

fn lie(cid: Cid, events: Vec<ContentEvent>) -> (Lie, usize) {
    match outcome(cid, events) {
        (Outcome::Lying(lie), taken) => (lie, taken),
        (other, _) => panic!("not caught: {other:?}"),
    }
}

fn sorted(blocks: &[Block]) -> BTreeMap<Vec<u8>, Bytes> {
    blocks.iter().map(|block| (block.cid().to_bytes(), block.data().clone())).collect()
}

#[test]
fn every_layout_and_depth_is_rebuilt_in_both_orders() {
    for version in [Version::V0, Version::V1] {
        for raw_leaves in [true, false] {
            for len in [0usize, 1, 1023, 1024, 1025, 3000, 8192, 8193, 30_000, 66_000] {
                let file = file(layout(version, raw_leaves), len);
                for events in [file.in_our_order(), file.in_go_order()] {
                    let mut rebuild = Rebuild::new(file.cid());
                    let (blocks, _) = run(&mut rebuild, events).expect("no error");
                    let complete =
                        Outcome::Complete { root: file.cid(), size: len as u64, mime_type: None };
                    assert_eq!(
                        rebuild.outcome(),
                        Some(&complete),
                        "{version:?} {raw_leaves} {len}"
                    );
                    assert_eq!(sorted(&blocks), sorted(&file.blocks));
                    assert_eq!(blocks.last().map(Block::cid), Some(file.root.cid()));
                }
            }
        }
    }
}

#[test]
fn a_message_on_the_wire_becomes_the_blocks_that_were_sent() {
    let file = file(Profile::UnixfsV1_2025.layout(), (5 << 20) / 2);
    let (mut encoder, head) =
        FileEncoder::new(&file.cid(), file.root.data(), file.content.len() as u64, "video/mp4")
            .expect("small");
    let mut wire = vec![head];
    for piece in file.content.chunks(100_000) {
        wire.push(encoder.push(piece).expect("fits"));
    }
    wire.push(encoder.finish().expect("whole"));
    let (mut decoder, mut rebuild) = (ContentDecoder::new(), Rebuild::new(file.cid()));
    let mut blocks = Vec::new();
    for bytes in wire {
        blocks.extend(run(&mut rebuild, decoder.push(&bytes).expect("good bytes")).expect("ok").0);
    }
    assert_eq!(decoder.end(), Ok(()));
    assert_eq!(sorted(&blocks), sorted(&file.blocks));
    assert!(matches!(rebuild.outcome(), Some(Outcome::Complete { mime_type: Some(_), .. })));
}

#[test]
fn the_first_wrong_leaf_ends_it() {
    let mut file = file(layout(Version::V1, true), 8000);
    file.content[2500] ^= 1;
    let (lie, taken) = lie(file.cid(), file.in_our_order());
    assert_eq!(lie, Lie::Leaf { index: 2 });
    assert_eq!(taken, 1 + 3072usize.div_ceil(700), "as soon as the leaf was whole");
}

#[test]
fn the_first_wrong_subtree_ends_it() {
    let mut deep = file(layout(Version::V1, true), 40_000);
    deep.content[9000] ^= 1;
    let (end, taken) = outcome(deep.cid(), deep.in_our_order());
    let Outcome::ContentOnly { root, why: Unverifiable::Differs } = end else { panic!("{end:?}") };
    assert_eq!(root, Some(deep.root.clone()));
    assert!(taken < 2 + 25 * 1024 / 700, "{taken}");
    let mut wrapped = file(layout(Version::V0, false), 8000);
    wrapped.content[0] ^= 1;
    let (end, taken) = outcome(wrapped.cid(), wrapped.in_our_order());
    assert!(matches!(end, Outcome::ContentOnly { why: Unverifiable::Differs, .. }));
    assert_eq!(taken, 3);
}

#[test]
fn other_lies_are_caught() {
    let good = file(layout(Version::V1, true), 3000);
    let other = file(layout(Version::V1, true), 4000);
    assert_eq!(lie(good.cid(), other.in_our_order()), (Lie::RawNode, 1));
    let named = [vec![good.node()], good.pieces(700), vec![done(other.cid())]].concat();
    assert_eq!(lie(good.cid(), named).0, Lie::OtherCid);
    let short = [vec![good.node()], good.pieces(2000)[..1].to_vec(), vec![done(good.cid())]];
    assert_eq!(lie(good.cid(), short.concat()).0, Lie::Length);
    let long = [vec![good.node()], good.pieces(700), good.pieces(700)].concat();
    assert_eq!(lie(good.cid(), long).0, Lie::Length);
    let directory = ContentDone { is_directory: true, ..ContentDone::default() };
    let as_directory = vec![good.node(), ContentEvent::Done(directory)];
    assert_eq!(lie(good.cid(), as_directory).0, Lie::Kind);
    for after in [other.pieces(9000), good.pieces(100)[..1].to_vec()] {
        let content_first = [after, vec![good.node(), done(good.cid())]].concat();
        assert_eq!(lie(good.cid(), content_first).0, Lie::Length);
    }
}

#[test]
fn content_before_the_root_is_held_up_to_the_limit() {
    let file = file(layout(Version::V1, true), 8000);
    let mut rebuild = Rebuild::new(file.cid()).with_held_limit(8000);
    run(&mut rebuild, file.in_go_order()).expect("fits exactly");
    assert!(matches!(rebuild.outcome(), Some(Outcome::Complete { .. })));
    let mut rebuild = Rebuild::new(file.cid()).with_held_limit(7999);
    let refused = run(&mut rebuild, file.in_go_order()).map(|_| ());
    assert_eq!(refused, Err(RebuildError::HeldTooMuch { cid: file.cid(), limit: 7999 }));
    let mut rebuild = Rebuild::new(file.cid()).with_held_limit(0);
    run(&mut rebuild, file.in_our_order()).expect("nothing is held when the root is first");
    assert!(matches!(rebuild.outcome(), Some(Outcome::Complete { .. })));
}

#[test]
fn past_the_limit_a_guessed_layout_is_judged_by_the_root() {
    for raw_leaves in [true, false] {
        let layout = layout(Version::V1, raw_leaves);
        for len in [500, 8000, 66_000] {
            let file = file(layout, len);
            let mut rebuild = Rebuild::new(file.cid()).with_held_limit(1000).with_guess(layout);
            let (blocks, _) = run(&mut rebuild, file.in_go_order()).expect("guessed");
            assert!(matches!(rebuild.outcome(), Some(Outcome::Complete { .. })), "{len}");
            assert_eq!(sorted(&blocks), sorted(&file.blocks));
        }
    }
    let file = file(layout(Version::V1, true), 8000);
    let wrong = layout(Version::V0, false);
    let mut rebuild = Rebuild::new(file.cid()).with_held_limit(1000).with_guess(wrong);
    run(&mut rebuild, file.in_go_order()).expect("no error");
    let why = Unverifiable::Differs;
    assert_eq!(rebuild.outcome(), Some(&Outcome::ContentOnly { root: Some(file.root), why }));
}

#[test]
fn what_the_reference_program_imports_is_guessed() {
    let reference = Layout::new(256 << 10, 174, Version::V1, false).expect("valid");
    let file = file(reference, 1_000_000);
    let mut rebuild = Rebuild::new(file.cid()).with_held_limit(1000).with_usual_guess();
    let (blocks, _) = run(&mut rebuild, file.in_go_order()).expect("guessed");
    assert!(matches!(rebuild.outcome(), Some(Outcome::Complete { .. })));
    assert_eq!(sorted(&blocks), sorted(&file.blocks));
}

#[test]
fn a_caller_that_takes_no_leaves_does_not_fill_the_memory() {
    let file = file(Profile::UnixfsV1_2025.layout(), 6 << 20);
    let mut rebuild = Rebuild::new(file.cid()).with_held_limit(1 << 20);
    let refused = file.in_our_order().into_iter().try_for_each(|event| rebuild.event(event));
    assert!(matches!(refused, Err(RebuildError::HeldTooMuch { .. })));
    assert!(rebuild.leaf_hashed([0; 32]).is_err());
}

#[test]
fn chunks_of_any_size_are_checked_when_leaves_are_raw() {
    let parts: [&[u8]; 4] = [b"one", b"", b"twenty-one", b"3"];
    let leaves = parts.map(|part| Block::encode(Version::V1, RAW, Bytes::from_static(part)));
    let mut message = UnixFs::new(Kind::File);
    message.file_size = Some(14);
    message.block_sizes = parts.iter().map(|part| part.len() as u64).collect();
    let link = |leaf: &Block| PbLink {
        cid: *leaf.cid(),
        name: String::new(),
        tsize: leaf.data().len() as u64,
    };
    let node = PbNode { links: leaves.iter().map(link).collect(), data: Some(message.encode()) };
    let root = Block::encode(Version::V1, DAG_PB, node.encode());
    assert_eq!(Layout::of_root(&root), None);
    let blocks = [&leaves[..], std::slice::from_ref(&root)].concat();
    let file = File { content: parts.concat(), blocks, root };
    let mut rebuild = Rebuild::new(file.cid());
    let (blocks, _) = run(&mut rebuild, file.in_go_order()).expect("no error");
    assert!(matches!(rebuild.outcome(), Some(Outcome::Complete { size: 14, .. })));
    assert_eq!(sorted(&blocks), sorted(&file.blocks));
}

#[test]
fn what_cannot_be_tied_to_its_root_is_said_to_be_so() {
    let cbor = Block::encode(Version::V1, 0x71, Bytes::from_static(b"\xa0"));
    let events = vec![ContentEvent::RawNode(cbor.data().clone())];
    let (end, _) = outcome(*cbor.cid(), events);
    assert_eq!(end, Outcome::ContentOnly { root: Some(cbor), why: Unverifiable::NotUnixFs });
    let blake: Cid =
        "bafk2bzaced4xstofs4tc5q4irede6uzaz3qzcdvcb2eedxgfakzwdyjnxgohq".parse().expect("a CID");
    let mut rebuild = Rebuild::new(blake);
    let refused = rebuild.event(ContentEvent::RawNode(Bytes::new()));
    assert!(matches!(refused, Err(RebuildError::Block(_))));
}

#[test]
fn directories_and_failures_have_outcomes_of_their_own() {
    let leaf = Block::encode(Version::V1, RAW, Bytes::from_static(b"x"));
    let message = UnixFs::new(Kind::Directory).encode();
    let link = PbLink { cid: *leaf.cid(), name: "a".into(), tsize: 1 };
    let node = PbNode { links: vec![link], data: Some(message) };
    let root = Block::encode(Version::V1, DAG_PB, node.encode());
    let entries: BTreeMap<String, Cid> = [("a".to_owned(), *leaf.cid())].into();
    let events = |bytes: Bytes| ContentDecoder::new().push(&bytes).expect("good bytes");
    let sent = encode_directory(root.cid(), root.data(), &entries).expect("small");
    let mut rebuild = Rebuild::new(*root.cid());
    let (blocks, _) = run(&mut rebuild, events(sent)).expect("no error");
    assert_eq!(blocks, std::slice::from_ref(&root));
    let verified = Outcome::Directory { root: *root.cid(), entries, verified: true };
    assert_eq!(rebuild.outcome(), Some(&verified));
    let sent = encode_directory(root.cid(), root.data(), &BTreeMap::new()).expect("small");
    assert_eq!(lie(*root.cid(), events(sent)).0, Lie::Entries);
    let sent = encode_failure(&root.cid().to_string(), "gone").expect("small");
    assert_eq!(outcome(*root.cid(), events(sent)).0, Outcome::NotFound { reason: "gone".into() });
}
