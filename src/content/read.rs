//! Reading a file, or a range of it, out of blocks that arrive in any order (UnixFS
//! specification, "Reading"). Sans-io: [`Reader::wants`] names blocks, [`Reader::supply`] takes
//! them, [`Reader::next`] hands out the bytes in order.
//!
//! Nothing that a block claims is believed before it is compared with what its children hold.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use bytes::Bytes;
use cid::Cid;

use super::block::{Block, DAG_PB, IDENTITY, RAW, SHA2_256};
use super::dagpb::{PbError, PbNode};
use super::unixfs::{Kind, UnixFs, UnixFsError};

/// Deepest file tree that is read; three levels of 1024 links already hold a pebibyte.
pub const MAX_DEPTH: u8 = 64;
/// Largest window of [`Reader::wants`]: at most this many blocks are asked for or held at a time.
pub const MAX_WINDOW: usize = 1024;
/// Most parts of a file (nodes not yet read) that are kept track of at a time. A tree of four
/// levels of 1024 links needs 4096.
pub const MAX_PARTS: usize = 1 << 17;
/// What a leaf is taken to hold until one was seen: the chunk size of most files around.
const USUAL_LEAF: u64 = 256 << 10;

/// Reads one file.
#[derive(Debug)]
pub struct Reader {
    root: Cid,
    range: Range<u64>,
    size: Option<u64>,
    /// What is left of the range, by offset in the file. Parts never overlap and never are empty.
    parts: BTreeMap<u64, Part>,
    /// Where a block that was asked for goes: one CID can stand in several places.
    asked: BTreeMap<Cid, Vec<u64>>,
    /// How many parts are asked for or hold data.
    in_hand: usize,
    /// The most that a leaf held so far; 0 before the first.
    leaf_len: u64,
    failed: bool,
}

/// What [`Reader::next`] has for its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadStep {
    /// The next bytes of the range.
    Bytes(Bytes),
    /// Nothing before a block that [`Reader::wants`] names is supplied.
    Wait,
    /// The whole range was handed out.
    Done,
}

/// What a root is that is not a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAFile {
    Directory,
    ShardedDirectory,
    Symlink { target: String },
}

/// Why a file cannot be read. Each names the block at fault; as blocks are verified, fetching it
/// again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("{cid} is {kind}, not a file")]
    NotAFile { cid: Cid, kind: NotAFile },
    #[error("block {cid} is {source}")]
    DagPb { cid: Cid, source: PbError },
    #[error("block {cid} is {source}")]
    UnixFs { cid: Cid, source: UnixFsError },
    #[error("block {cid} is no valid part of a file: {what}")]
    Shape { cid: Cid, what: &'static str },
    #[error("block {cid} holds {found} bytes of the file where {claimed} were announced")]
    Size { cid: Cid, claimed: u64, found: u64 },
    #[error("block {cid} lies more than {MAX_DEPTH} levels below its file's root")]
    TooDeep { cid: Cid },
    #[error("block {cid} splits the file into more than {MAX_PARTS} parts at once")]
    TooManyParts { cid: Cid },
    #[error("{cid} cannot be part of a file: its codec or hash function is not supported")]
    Unsupported { cid: Cid },
}

/// A stretch of the file.
#[derive(Debug)]
enum Part {
    /// `deferred`: it was supplied too early to be split, and is asked for again when it is next.
    Idle {
        node: Node,
        deferred: bool,
    },
    Asked(Node),
    Data(Bytes),
}

#[derive(Debug, Clone, Copy)]
struct Node {
    cid: Cid,
    /// Bytes of the file that its parent says are below it; not known of the root.
    len: Option<u64>,
    depth: u8,
}

/// A decoded block of a file.
#[derive(Clone)]
struct Content {
    data: Bytes,
    children: Vec<(Cid, u64)>,
    len: u64,
}

impl Reader {
    /// Reads the file `root`, or the part of `range` that it has.
    pub fn new(root: Cid, range: Option<Range<u64>>) -> Result<Self, ReadError> {
        check_supported(&root)?;
        let mut reader = Self {
            root,
            range: range.unwrap_or(0..u64::MAX),
            size: None,
            parts: BTreeMap::new(),
            asked: BTreeMap::new(),
            in_hand: 0,
            leaf_len: 0,
            failed: false,
        };
        let node = Node { cid: root, len: None, depth: 0 };
        match Block::inline(&root) {
            Some(block) => reader.place(0, node, Content::of(&block)?)?,
            None => drop(reader.parts.insert(0, Part::Idle { node, deferred: false })),
        }
        Ok(reader)
    }

    /// The blocks to fetch now, those needed first in front. Each is named once, until it is needed
    /// again after it was read. Blocks asked for and blocks supplied but not read yet are at most
    /// `window` together (never above [`MAX_WINDOW`]); a node that stands for many leaves counts
    /// as many, so that leaves far ahead do not take the place of those that come next.
    pub fn wants(&mut self, window: usize) -> Vec<Cid> {
        let window = window.min(MAX_WINDOW);
        let mut free = window.saturating_sub(self.in_hand);
        let mut stretch = window as u64;
        let crowded = self.parts.len() > MAX_PARTS / 2;
        let leaf_len = if self.leaf_len == 0 { USUAL_LEAF } else { self.leaf_len };
        let mut wants = Vec::new();
        for (place, (offset, part)) in self.parts.iter_mut().enumerate() {
            if stretch == 0 {
                break;
            }
            if let Part::Idle { node, deferred } = part {
                let node = *node;
                let early = *deferred || free == 0 || (crowded && node.cid.codec() != RAW);
                if place > 0 && early {
                    break;
                }
                *part = Part::Asked(node);
                self.in_hand += 1;
                free = free.saturating_sub(1);
                match self.asked.entry(node.cid) {
                    Entry::Vacant(first) => {
                        first.insert(vec![*offset]);
                        wants.push(node.cid);
                    }
                    Entry::Occupied(places) => places.into_mut().push(*offset),
                }
            }
            stretch = stretch.saturating_sub(part.leaves(leaf_len));
        }
        wants
    }

    /// Takes a block; one that was not asked for is ignored. After an error the reader hands out
    /// nothing more and waits forever: drop it.
    pub fn supply(&mut self, block: &Block) -> Result<(), ReadError> {
        let Some(places) = self.asked.remove(block.cid()) else {
            return Ok(());
        };
        self.supply_at(places, block).inspect_err(|_| {
            self.failed = true;
            self.parts.clear();
            self.asked.clear();
        })
    }

    /// The next bytes, in order, as slices of the blocks supplied.
    #[allow(clippy::should_implement_trait, reason = "waiting is not an item of an iterator")]
    pub fn next(&mut self) -> ReadStep {
        match self.parts.first_entry() {
            None if self.failed => ReadStep::Wait,
            None => ReadStep::Done,
            Some(first) => match first.get() {
                Part::Data(bytes) => {
                    let bytes = bytes.clone();
                    first.remove();
                    self.in_hand = self.in_hand.saturating_sub(1);
                    ReadStep::Bytes(bytes)
                }
                _ => ReadStep::Wait,
            },
        }
    }

    pub fn root(&self) -> &Cid {
        &self.root
    }

    /// Length of the file (not of the range), known as soon as the root is.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// What is read of the file: the range asked for, cut to the file's size once that is known.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Where in the file the next bytes of [`Reader::next`] begin.
    pub fn position(&self) -> u64 {
        let next = self.parts.keys().next();
        next.map_or(self.range.end, |offset| self.range.start.max(*offset))
    }

    /// Blocks asked for and not supplied yet.
    pub fn missing(&self) -> impl Iterator<Item = &Cid> {
        self.asked.keys()
    }

    fn supply_at(&mut self, places: Vec<u64>, block: &Block) -> Result<(), ReadError> {
        let content = Content::of(block)?;
        if content.children.is_empty() {
            self.leaf_len = self.leaf_len.max(content.len);
        }
        for offset in places {
            let Some(Part::Asked(node)) = self.parts.get(&offset) else { continue };
            let node = *node;
            self.in_hand = self.in_hand.saturating_sub(1);
            if self.parts.len() + content.children.len() > MAX_PARTS / 2 {
                let first = self.parts.keys().next() == Some(&offset);
                if first && self.parts.len() + content.children.len() > MAX_PARTS {
                    return Err(ReadError::TooManyParts { cid: node.cid });
                }
                if !first && !content.children.is_empty() {
                    self.parts.insert(offset, Part::Idle { node, deferred: true });
                    continue;
                }
            }
            self.place(offset, node, content.clone())?;
        }
        Ok(())
    }

    /// Puts the parts that `node` consists of in its place.
    fn place(&mut self, offset: u64, node: Node, content: Content) -> Result<(), ReadError> {
        match node.len {
            Some(claimed) if claimed != content.len => {
                return Err(ReadError::Size { cid: node.cid, claimed, found: content.len });
            }
            Some(_) => {}
            None => {
                self.size = Some(content.len);
                let end = self.range.end.min(content.len);
                self.range = self.range.start.min(end)..end;
            }
        }
        self.parts.remove(&offset);
        let skipped = self.range.start.saturating_sub(offset).min(content.data.len() as u64);
        let wanted = self.range.end.saturating_sub(offset).min(content.data.len() as u64);
        if skipped < wanted {
            let slice = content.data.slice(skipped as usize..wanted as usize);
            self.parts.insert(offset, Part::Data(slice));
            self.in_hand += 1;
        }
        let mut offset = offset + content.data.len() as u64;
        for (cid, len) in content.children {
            let at = offset;
            // Sums were checked by `Content::of`, and with `len` above for every level.
            offset += len;
            if len == 0
                || offset <= self.range.start
                || at >= self.range.end
                || self.range.is_empty()
            {
                continue;
            }
            check_supported(&cid)?;
            if node.depth == MAX_DEPTH {
                return Err(ReadError::TooDeep { cid });
            }
            let child = Node { cid, len: Some(len), depth: node.depth + 1 };
            match Block::inline(&cid) {
                Some(block) => self.place(at, child, Content::of(&block)?)?,
                None => drop(self.parts.insert(at, Part::Idle { node: child, deferred: false })),
            }
        }
        Ok(())
    }
}

impl Part {
    /// How many leaves this stretch of the file consists of, as far as can be told.
    fn leaves(&self, leaf_len: u64) -> u64 {
        match self {
            Self::Idle { node, .. } | Self::Asked(node) if node.cid.codec() == DAG_PB => {
                node.len.unwrap_or(1).div_ceil(leaf_len).max(1)
            }
            _ => 1,
        }
    }
}

impl Content {
    fn of(block: &Block) -> Result<Self, ReadError> {
        let cid = *block.cid();
        if cid.codec() == RAW {
            let data = block.data().clone();
            return Ok(Self { len: data.len() as u64, data, children: Vec::new() });
        }
        let shape = |what| ReadError::Shape { cid, what };
        let node =
            PbNode::decode(block.data()).map_err(|source| ReadError::DagPb { cid, source })?;
        let message = node.data.ok_or(shape("it has no UnixFS data"))?;
        let file = UnixFs::decode(&message).map_err(|source| ReadError::UnixFs { cid, source })?;
        let data = file.data.unwrap_or_default();
        match file.kind {
            Kind::File => {}
            Kind::Raw if node.links.is_empty() => {}
            Kind::Raw => return Err(shape("a raw node has links")),
            Kind::Directory => {
                return Err(ReadError::NotAFile { cid, kind: NotAFile::Directory });
            }
            Kind::HamtShard => {
                return Err(ReadError::NotAFile { cid, kind: NotAFile::ShardedDirectory });
            }
            Kind::Symlink => {
                let target = String::from_utf8_lossy(&data).into_owned();
                return Err(ReadError::NotAFile { cid, kind: NotAFile::Symlink { target } });
            }
        }
        if node.links.len() != file.block_sizes.len() {
            return Err(shape("it has not one size for each link"));
        }
        let len = file.block_sizes.iter().try_fold(data.len() as u64, |sum, n| sum.checked_add(*n));
        let len = len.ok_or(shape("its sizes add up to more than 64 bits"))?;
        if let Some(claimed) = file.file_size.filter(|claimed| *claimed != len) {
            return Err(ReadError::Size { cid, claimed, found: len });
        }
        let links = node.links.into_iter().map(|link| link.cid);
        Ok(Self { data, children: links.zip(file.block_sizes).collect(), len })
    }
}

impl std::fmt::Display for NotAFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Directory | Self::ShardedDirectory => "a directory",
            Self::Symlink { .. } => "a symbolic link",
        })
    }
}

/// Whether a CID can name a part of a file or directory that we could verify.
pub fn check_supported(cid: &Cid) -> Result<(), ReadError> {
    let hash = match cid.hash().code() {
        SHA2_256 => cid.hash().digest().len() == 32,
        IDENTITY => Block::inline(cid).is_some(),
        _ => false,
    };
    if hash && matches!(cid.codec(), RAW | DAG_PB) {
        Ok(())
    } else {
        Err(ReadError::Unsupported { cid: *cid })
    }
}
