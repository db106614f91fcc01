//! How a file is cut into blocks and linked: the parameters of a balanced UnixFS tree, either a
//! [`Profile`](super::profile::Profile)'s or read off a foreign root, so that a file received as
//! plain content can be turned back into the blocks that its root names.

use cid::{Cid, Version};

use super::block::{Block, DAG_PB, IDENTITY, MAX_BLOCK, RAW};
use super::dagpb::{PbLink, PbNode};
use super::profile::Profile;
use super::unixfs::{Kind, UnixFs};
use super::varint::{bytes_field_len, varint_len};

/// Largest chunk: a wrapped leaf adds a few bytes to it and must still be a block.
pub const MAX_CHUNK: usize = MAX_BLOCK - 64;
/// Most links in a node: 16384 of them with CIDv1 and 64-bit sizes fit a block.
pub const MAX_WIDTH: usize = 1 << 14;
/// Deepest tree that [`Layout::of_root`] looks for: three levels of 174 already hold 1 TiB.
const MAX_GUESSED_DEPTH: u32 = 6;
/// Smallest and largest chunk, as powers of two, that [`Layout::of_root`] tries below interior nodes.
const GUESSED_CHUNKS: std::ops::RangeInclusive<u32> = 10..=20;

/// The shape of an imported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    chunk_size: usize,
    width: usize,
    version: Version,
    raw_leaves: bool,
}

/// Parameters that no tree can be built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("a chunk of {0} bytes: it must be 1 to {MAX_CHUNK}")]
    ChunkSize(usize),
    #[error("nodes of {0} links: it must be 2 to {MAX_WIDTH}")]
    Width(usize),
}

impl Layout {
    /// `version` is that of the dag-pb nodes; raw leaves are always CIDv1.
    pub fn new(
        chunk_size: usize,
        width: usize,
        version: Version,
        raw_leaves: bool,
    ) -> Result<Self, LayoutError> {
        if !(1..=MAX_CHUNK).contains(&chunk_size) {
            return Err(LayoutError::ChunkSize(chunk_size));
        }
        if !(2..=MAX_WIDTH).contains(&width) {
            return Err(LayoutError::Width(width));
        }
        Ok(Self { chunk_size, width, version, raw_leaves })
    }

    pub(super) const fn of_profile(
        chunk_size: usize,
        width: usize,
        version: Version,
        raw_leaves: bool,
    ) -> Self {
        Self { chunk_size, width, version, raw_leaves }
    }

    /// Bytes of the file in each leaf but the last.
    pub const fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Most links in a node.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// CID version of the dag-pb nodes.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whether leaves are raw blocks, not dag-pb.
    pub const fn raw_leaves(&self) -> bool {
        self.raw_leaves
    }

    /// The layout that a file's root was most likely imported with. It is a guess that importing
    /// the same bytes confirms or not; `None` for what a fixed-size balanced import never makes
    /// (directories, trickle trees, content-defined chunks, inline roots).
    pub fn of_root(root: &Block) -> Option<Self> {
        let (cid, data) = (root.cid(), root.data());
        if cid.hash().code() == IDENTITY {
            return None;
        }
        match cid.codec() {
            RAW => Self::of_single_leaf(data.len(), Version::V1, true),
            DAG_PB => {
                let node = PbNode::decode(data).ok()?;
                let file = UnixFs::decode(node.data.as_ref()?).ok()?;
                match (file.kind, node.links.as_slice()) {
                    (Kind::File, []) => {
                        let len = file.data.map_or(0, |data| data.len());
                        Self::of_single_leaf(len, cid.version(), false)
                    }
                    (Kind::File, links) if file.data.is_none_or(|data| data.is_empty()) => {
                        Self::of_links(cid, links, &file.block_sizes)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn of_single_leaf(len: usize, version: Version, raw_leaves: bool) -> Option<Self> {
        let like =
            if raw_leaves { Profile::UnixfsV1_2025 } else { Profile::UnixfsV0_2015 }.layout();
        Self::new(like.chunk_size.max(len), like.width, version, raw_leaves).ok()
    }

    fn of_links(root: &Cid, links: &[PbLink], sizes: &[u64]) -> Option<Self> {
        let (first, [.., last]) = (links.first()?, sizes) else { return None };
        let full = *sizes.first()?;
        let even = sizes.iter().rev().skip(1).all(|size| *size == full);
        if links.len() < 2 || links.len() != sizes.len() || !even || *last == 0 || *last > full {
            return None;
        }
        // Every candidate is judged by the cumulative size that a full subtree of it would have:
        // framing differs by a byte or more for any other chunk, width or kind of leaf.
        let fits = |layout: Self, depth| layout.full_subtree(depth) == Some((full, first.tsize));
        let raw_leaves = first.cid.codec() == RAW;
        if let Ok(chunk_size) = usize::try_from(full) {
            let usual = if chunk_size == 1 << 20 { 1024 } else { 174 };
            let layout = Self::new(chunk_size, links.len().max(usual), root.version(), raw_leaves);
            // A raw link can only be a leaf, whatever cumulative size it has.
            if let Ok(layout) = layout
                && (raw_leaves || fits(layout, 0))
            {
                return Some(layout);
            }
        }
        if raw_leaves {
            return None;
        }
        for (depth, chunk_bits) in
            (1..=MAX_GUESSED_DEPTH).flat_map(|d| GUESSED_CHUNKS.rev().map(move |bits| (d, bits)))
        {
            let Some(width) = exact_root(full >> chunk_bits, depth) else { continue };
            for raw_leaves in [true, false] {
                let layout = Self::new(1 << chunk_bits, width, root.version(), raw_leaves);
                if let Ok(layout) = layout
                    && links.len() <= width
                    && fits(layout, depth)
                {
                    return Some(layout);
                }
            }
        }
        None
    }

    /// Bytes of the file and cumulative block bytes of a full subtree `depth` levels above its
    /// leaves; `None` if they do not fit 64 bits.
    fn full_subtree(&self, depth: u32) -> Option<(u64, u64)> {
        let node_cid = if self.version == Version::V0 { 34 } else { 36 };
        let chunk = self.chunk_size as u64;
        let (mut len, mut tsize, mut cid) = match self.raw_leaves {
            true => (chunk, chunk, 36),
            false => (chunk, wrapped_len(self.chunk_size) as u64, node_cid),
        };
        for _ in 0..depth {
            let width = self.width as u64;
            let below = len.checked_mul(width)?;
            let link = bytes_field_len(bytes_field_len(cid) + 2 + 1 + varint_len(tsize));
            let message = 3 + varint_len(below) + self.width * (1 + varint_len(len));
            let block = self.width * link + bytes_field_len(message);
            tsize = tsize.checked_mul(width)?.checked_add(block as u64)?;
            (len, cid) = (below, node_cid);
        }
        Some((len, tsize))
    }
}

/// Length of the dag-pb block that wraps a chunk of `len` bytes.
pub(super) fn wrapped_len(len: usize) -> usize {
    bytes_field_len(wrapped_message_len(len))
}

/// Length of the UnixFS message in such a block. An empty chunk has no data field.
pub(super) fn wrapped_message_len(len: usize) -> usize {
    let data = if len == 0 { 0 } else { bytes_field_len(len) };
    2 + data + 1 + varint_len(len as u64)
}

/// The `width` with `width.pow(depth) == n`, if there is a usable one.
fn exact_root(n: u64, depth: u32) -> Option<usize> {
    let near = (n as f64).powf(1.0 / f64::from(depth)).round() as u64;
    let fits = (2..=MAX_WIDTH as u64).contains(&near) && near.checked_pow(depth) == Some(n);
    fits.then_some(near as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::import::{FileBuilder, import_bytes};

    #[test]
    fn a_layout_is_read_off_the_roots_it_makes() {
        for version in [Version::V0, Version::V1] {
            for raw_leaves in [true, false] {
                for chunks in [2usize, 3, 7, 8, 9, 30, 64, 65, 513] {
                    let layout = Layout::new(1024, 8, version, raw_leaves).expect("valid");
                    let bytes: Vec<u8> = (0..chunks * 1024 - 7).map(|i| (i / 3) as u8).collect();
                    let (blocks, root) = import_bytes(layout, &bytes);
                    let root_block = blocks.iter().find(|block| *block.cid() == root.cid);
                    let guess = Layout::of_root(root_block.expect("made")).expect("a layout");
                    assert_eq!(import_bytes(guess, &bytes).1, root, "{layout:?} {chunks}");
                    if chunks > 8 {
                        assert_eq!(guess, layout);
                    }
                }
            }
        }
    }

    #[test]
    fn the_profiles_are_recognised_two_levels_up_without_the_bytes() {
        for profile in Profile::ALL {
            let layout = profile.layout();
            let leaf = vec![7; layout.chunk_size()];
            let mut files = FileBuilder::new(layout);
            let payload = files.leaf_payload(leaf.into());
            let leaf = Block::encode(payload.version, payload.codec, payload.data);
            for _ in 0..layout.width() * 2 + 1 {
                let len = leaf.data().len() as u64;
                files.push_leaf(*leaf.cid(), layout.chunk_size() as u64, len);
            }
            let (blocks, _) = files.finish();
            assert_eq!(blocks.last().and_then(Layout::of_root), Some(layout), "{profile}");
        }
    }

    #[test]
    fn what_no_import_makes_has_no_layout() {
        let directory =
            Block::encode(Version::V1, DAG_PB, bytes::Bytes::from_static(b"\n\x02\x08\x01"));
        assert_eq!(Layout::of_root(&directory), None);
        let garbage = Block::encode(Version::V1, DAG_PB, bytes::Bytes::from_static(b"garbage"));
        assert_eq!(Layout::of_root(&garbage), None);
        assert_eq!(Layout::new(0, 8, Version::V1, true), Err(LayoutError::ChunkSize(0)));
        assert_eq!(Layout::new(1, 1, Version::V1, true), Err(LayoutError::Width(1)));
    }
}
