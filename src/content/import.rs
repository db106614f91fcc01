//! Turning a stream of bytes into a file's blocks: fixed-size chunks under a balanced tree
//! (UnixFS specification, "Importing"; the `balanced` layout of IPIP-0499).
//!
//! The work is split where a caller wants to take part: [`Chunker`] cuts, the caller hashes the
//! leaves wherever and in whatever order it likes, [`FileBuilder`] takes their CIDs in the order
//! of the file and makes the nodes above them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use cid::{Cid, Version};

use super::block::{Block, DAG_PB, RAW};
use super::dagpb::{PbLink, PbNode};
use super::layout::{Layout, wrapped_len, wrapped_message_len};
use super::unixfs::{Kind, UnixFs};
use super::varint::{write_bytes, write_uint, write_varint};

/// Cuts a stream into chunks of exactly the layout's size; the last may be shorter.
///
/// Holds what was pushed and not yet taken, so take all chunks after each push.
#[derive(Debug)]
pub struct Chunker {
    size: usize,
    ready: VecDeque<Bytes>,
    /// The chunk being filled is `slice`, or `partial` once it comes from more than one push.
    slice: Bytes,
    partial: BytesMut,
}

/// What has to be hashed and stored for one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafPayload {
    pub version: Version,
    pub codec: u64,
    pub data: Bytes,
}

/// Builds the nodes above a file's leaves, holding at most one unfinished node per level.
#[derive(Debug)]
pub struct FileBuilder {
    layout: Layout,
    /// Unfinished nodes, the one right above the leaves first.
    levels: Vec<Level>,
}

/// A finished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRoot {
    pub cid: Cid,
    /// Bytes of the file.
    pub file_size: u64,
    /// Bytes of all its blocks: what a directory's link to it says.
    pub tsize: u64,
}

#[derive(Debug, Default)]
struct Level {
    links: Vec<PbLink>,
    sizes: Vec<u64>,
}

impl Chunker {
    pub fn new(layout: impl Into<Layout>) -> Self {
        let size = layout.into().chunk_size();
        Self { size, ready: VecDeque::new(), slice: Bytes::new(), partial: BytesMut::new() }
    }

    /// Adds the next piece of the stream, of any length.
    pub fn push(&mut self, mut piece: Bytes) {
        let held = self.slice.len() + self.partial.len();
        if held > 0 && !piece.is_empty() {
            if self.partial.is_empty() {
                self.partial.reserve(self.size);
                self.partial.extend_from_slice(&std::mem::take(&mut self.slice));
            }
            let taken = piece.split_to(piece.len().min(self.size - held));
            self.partial.extend_from_slice(&taken);
            if self.partial.len() == self.size {
                self.ready.push_back(std::mem::take(&mut self.partial).freeze());
            }
        }
        while piece.len() >= self.size {
            self.ready.push_back(piece.split_to(self.size));
        }
        if !piece.is_empty() {
            self.slice = piece;
        }
    }

    /// The next whole chunk; a slice of what was pushed, not a copy, if one push held all of it.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// At the end of the stream: remaining chunks, whole ones first, then the rest. `None` when
    /// everything was handed out.
    pub fn finish(&mut self) -> Option<Bytes> {
        if let Some(chunk) = self.next_chunk() {
            return Some(chunk);
        }
        let partial = std::mem::take(&mut self.partial);
        let rest = match partial.len() {
            0 => std::mem::take(&mut self.slice),
            // The buffer has room for a whole chunk; a short tail is not to keep that alive.
            len if len < self.size / 2 => Bytes::copy_from_slice(&partial),
            _ => partial.freeze(),
        };
        (!rest.is_empty()).then_some(rest)
    }
}

impl FileBuilder {
    pub fn new(layout: impl Into<Layout>) -> Self {
        Self { layout: layout.into(), levels: Vec::new() }
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The block to make of a chunk: the chunk itself, or the dag-pb node that wraps it.
    pub fn leaf_payload(&self, chunk: Bytes) -> LeafPayload {
        match self.layout.raw_leaves() {
            true => LeafPayload { version: Version::V1, codec: RAW, data: chunk },
            false => {
                LeafPayload { version: self.layout.version(), codec: DAG_PB, data: wrap(&chunk) }
            }
        }
    }

    /// Adds the file's next leaf: its CID, how much of the file it holds, and how long its block
    /// is. Returns the nodes that this made complete, lowest first.
    pub fn push_leaf(&mut self, cid: Cid, file_len: u64, block_len: u64) -> Vec<Block> {
        let mut made = Vec::new();
        let link = PbLink { cid, name: String::new(), tsize: block_len };
        self.add(0, link, file_len, &mut made);
        made
    }

    /// Closes the tree. The blocks are the remaining nodes, the root last; none if the root is the
    /// single leaf that was pushed, the leaf itself if the file is empty and none was.
    pub fn finish(mut self) -> (Vec<Block>, FileRoot) {
        let mut made = Vec::new();
        let mut at = 0;
        while let Some(open) = self.levels.get_mut(at).map(std::mem::take) {
            let top = at + 1 == self.levels.len();
            if let (true, [leaf], [size]) = (top, &open.links[..], &open.sizes[..]) {
                let root = FileRoot { cid: leaf.cid, file_size: *size, tsize: leaf.tsize };
                return (made, root);
            }
            let (block, link, size) = open.close(self.layout.version());
            made.push(block);
            if top {
                return (made, FileRoot { cid: link.cid, file_size: size, tsize: link.tsize });
            }
            at += 1;
            self.add(at, link, size, &mut made);
        }
        let payload = self.leaf_payload(Bytes::new());
        let leaf = Block::encode(payload.version, payload.codec, payload.data);
        let root = FileRoot { cid: *leaf.cid(), file_size: 0, tsize: leaf.data().len() as u64 };
        made.push(leaf);
        (made, root)
    }

    /// Puts a link into the open node of level `at`, closing nodes that are full and now known not
    /// to be the root.
    fn add(&mut self, at: usize, mut link: PbLink, mut size: u64, made: &mut Vec<Block>) {
        for at in at.. {
            if at == self.levels.len() {
                self.levels.push(Level::default());
            }
            let open = &mut self.levels[at];
            let full = (open.links.len() == self.layout.width()).then(|| std::mem::take(open));
            open.links.push(link);
            open.sizes.push(size);
            let Some(full) = full else { return };
            let (block, above, below) = full.close(self.layout.version());
            made.push(block);
            (link, size) = (above, below);
        }
    }
}

impl Level {
    /// The node of these links, the link to it, and how much of the file is below it.
    fn close(self, version: Version) -> (Block, PbLink, u64) {
        let size = self.sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(*size));
        let below = self.links.iter().fold(0, |sum: u64, link| sum.saturating_add(link.tsize));
        let mut file = UnixFs::new(Kind::File);
        file.file_size = Some(size);
        file.block_sizes = self.sizes;
        let node = PbNode { links: self.links, data: Some(file.encode()) };
        let block = Block::encode(version, DAG_PB, node.encode());
        let tsize = below.saturating_add(block.data().len() as u64);
        let link = PbLink { cid: *block.cid(), name: String::new(), tsize };
        (block, link, size)
    }
}

/// All blocks of a file that is at hand as a whole, leaves included, each once, the root last; for
/// tests and small files, as it hashes everything here.
pub fn import_bytes(layout: impl Into<Layout>, bytes: &[u8]) -> (Vec<Block>, FileRoot) {
    let layout = layout.into();
    let mut files = FileBuilder::new(layout);
    let mut blocks = Vec::new();
    for chunk in bytes.chunks(layout.chunk_size()) {
        let payload = files.leaf_payload(Bytes::copy_from_slice(chunk));
        let leaf = Block::encode(payload.version, payload.codec, payload.data);
        let (cid, len) = (*leaf.cid(), leaf.data().len());
        blocks.push(leaf);
        blocks.extend(files.push_leaf(cid, chunk.len() as u64, len as u64));
    }
    let (rest, root) = files.finish();
    blocks.extend(rest);
    let mut seen = std::collections::BTreeSet::new();
    blocks.retain(|block| seen.insert(*block.cid()));
    (blocks, root)
}

/// The dag-pb block of a chunk, written in one go: the chunk is copied once.
fn wrap(chunk: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(wrapped_len(chunk.len()));
    write_varint(&mut out, 1 << 3 | 2);
    write_varint(&mut out, wrapped_message_len(chunk.len()) as u64);
    write_uint(&mut out, 1, Kind::File.number());
    if !chunk.is_empty() {
        write_bytes(&mut out, 2, chunk);
    }
    write_uint(&mut out, 3, chunk.len() as u64);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::profile::Profile;

    fn layout(chunk: usize, width: usize) -> Layout {
        Layout::new(chunk, width, Version::V1, true).expect("valid")
    }

    #[test]
    fn the_wrapped_leaf_is_what_the_codecs_write() {
        for len in [0usize, 1, 100, 127, 128, 300, 262_144] {
            let chunk = vec![9u8; len];
            let mut file = UnixFs::new(Kind::File);
            file.data = (len > 0).then(|| chunk.clone().into());
            file.file_size = Some(len as u64);
            let node = PbNode { links: vec![], data: Some(file.encode()) };
            assert_eq!(wrap(&chunk), node.encode());
            assert_eq!(wrapped_len(len), node.encoded_len());
        }
    }

    #[test]
    fn chunks_do_not_depend_on_how_the_stream_is_cut() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        for piece in [1, 2, 7, 10, 11, 33, 100, 999, 1000] {
            let mut chunker = Chunker::new(layout(10, 2));
            let mut chunks = Vec::new();
            for piece in bytes.chunks(piece) {
                chunker.push(Bytes::copy_from_slice(piece));
                chunks.extend(std::iter::from_fn(|| chunker.next_chunk()));
            }
            chunks.extend(std::iter::from_fn(|| chunker.finish()));
            assert!(chunks.iter().eq(bytes.chunks(10)), "{piece}");
        }
    }

    #[test]
    fn whole_chunks_are_slices_of_the_input() {
        let input = Bytes::from(vec![1u8; 64]);
        let within = |chunk: &Bytes| input.as_ptr_range().contains(&chunk.as_ptr());
        let mut chunker = Chunker::new(layout(16, 2));
        chunker.push(input.slice(..40));
        assert!(chunker.next_chunk().is_some_and(|chunk| within(&chunk)));
        assert!(chunker.next_chunk().is_some_and(|chunk| within(&chunk)));
        assert_eq!(chunker.next_chunk(), None);
        assert!(chunker.finish().is_some_and(|chunk| within(&chunk) && chunk.len() == 8));
        assert_eq!(chunker.finish(), None);
    }

    #[test]
    fn all_leaves_are_at_the_same_depth_and_nodes_close_as_soon_as_they_can() {
        let mut files = FileBuilder::new(layout(1, 2));
        let leaf = Block::encode(Version::V1, RAW, Bytes::from_static(b"x"));
        let made: Vec<usize> = (0..5).map(|_| files.push_leaf(*leaf.cid(), 1, 1).len()).collect();
        assert_eq!(made, [0, 0, 1, 0, 1]);
        let (rest, root) = files.finish();
        // the fifth leaf's parent, the node of the first four, the fifth's grandparent, the root
        assert_eq!(rest.len(), 4);
        assert_eq!((root.file_size, *rest[3].cid()), (5, root.cid));
        assert_eq!(PbNode::decode(rest[3].data()).map(|node| node.links.len()), Ok(2));
    }

    #[test]
    fn sizes_at_the_end_of_the_numbers_do_not_overflow() {
        let mut files = FileBuilder::new(Profile::default());
        let leaf = Block::encode(Version::V1, RAW, Bytes::from_static(b"x"));
        for _ in 0..3 {
            files.push_leaf(*leaf.cid(), u64::MAX, u64::MAX);
        }
        assert_eq!(files.finish().1.file_size, u64::MAX);
    }
}
