//! Which chunks a file has: its leaves in order, found from the nodes above them. Sans-io: blocks
//! that are named are supplied, in any order.

use std::ops::Range;

use super::coordinator::MAX_CHUNKS;
use crate::boxmap::{BoxMap, BoxSet};
use crate::content::{
    block::{Block, Cid, DAG_PB, MAX_BLOCK, RAW},
    dagpb::PbNode,
    read::MAX_DEPTH,
    unixfs::{Kind, UnixFs},
};

/// Nodes above the leaves of one file.
const MAX_NODES: usize = 1 << 14;
/// A dag-pb leaf is at most this much longer than its bytes of the file; a node with a link is
/// longer than what is below it by at least the link.
const LEAF_OVERHEAD: u64 = 32;
/// What a leaf is taken to have until it is known.
const USUAL_LEAF: u64 = 1 << 20;

/// A leaf of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub cid: Cid,
    /// Of the block, as its parent says.
    pub size: u64,
    /// Where its bytes stand in the file; not known of a file that is one raw block.
    pub range: Option<Range<u64>>,
}

/// Why there are no chunks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutlineError {
    #[error("{0} is not a file")]
    NotAFile(Cid),
    #[error("block {cid} is no valid part of a file: {what}")]
    Shape { cid: Cid, what: &'static str },
    #[error("the file has more than {MAX_CHUNKS} chunks or {MAX_NODES} nodes")]
    TooLarge,
}

#[derive(Debug)]
pub struct Outline {
    root: Cid,
    nodes: BoxMap<Cid, Node>,
    asked: BoxSet<Cid>,
    /// Named but not handed out yet, with their sizes.
    next: Vec<(Cid, u64)>,
    links: usize,
}

#[derive(Debug)]
struct Node {
    /// Bytes of the file in the node itself.
    own: u64,
    size: u64,
    children: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    cid: Cid,
    size: u64,
    /// Bytes of the file below it.
    len: u64,
    is_leaf: bool,
}

impl Outline {
    pub fn new(root: Cid) -> Self {
        let mut outline =
            Self { root, nodes: BoxMap::new(), asked: BoxSet::new(), next: Vec::new(), links: 0 };
        if root.codec() != RAW {
            outline.want(root, USUAL_LEAF);
        }
        outline
    }

    /// Nodes to supply that were not named before, each with about its size.
    pub fn wants(&mut self) -> Vec<(Cid, u64)> {
        std::mem::take(&mut self.next)
    }

    /// Takes a node; one that was not asked for is ignored.
    pub fn supply(&mut self, block: &Block) -> Result<(), OutlineError> {
        let cid = *block.cid();
        if !self.asked.remove(&cid) {
            return Ok(());
        }
        let node = self.decode(block)?;
        self.links += node.children.len();
        if self.links > MAX_CHUNKS {
            return Err(OutlineError::TooLarge);
        }
        for child in node.children.iter().filter(|child| !child.is_leaf) {
            match Block::inline(&child.cid) {
                Some(inline) => {
                    // No deeper than the 128 bytes that such a CID may have.
                    self.asked.insert(child.cid);
                    self.supply(&inline)?;
                }
                None => self.want(child.cid, child.size),
            }
        }
        self.nodes.insert(cid, node);
        if self.nodes.len() + self.asked.len() > MAX_NODES {
            return Err(OutlineError::TooLarge);
        }
        Ok(())
    }

    pub fn is_done(&self) -> bool {
        self.asked.is_empty()
    }

    /// The leaves in the order of the file, inline ones included.
    pub fn leaves(&self) -> Result<Vec<Leaf>, OutlineError> {
        let mut leaves = Vec::new();
        let Some(root) = self.nodes.get(&self.root) else {
            return Ok(vec![Leaf { cid: self.root, size: USUAL_LEAF, range: None }]);
        };
        let mut offset = 0u64;
        // Children still to be visited, of each node on the way down.
        let mut path = vec![root.children.iter()];
        let too_large = OutlineError::TooLarge;
        let add = |offset: &mut u64, leaves: &mut Vec<Leaf>, cid, size, len| {
            let end = offset.checked_add(len).ok_or(OutlineError::TooLarge)?;
            leaves.push(Leaf { cid, size, range: Some(*offset..end) });
            *offset = end;
            if leaves.len() > MAX_CHUNKS { Err(OutlineError::TooLarge) } else { Ok(()) }
        };
        if root.children.is_empty() {
            add(&mut offset, &mut leaves, self.root, root.size, root.own)?;
        }
        let mut steps = 0;
        while let Some(children) = path.last_mut() {
            let Some(child) = children.next() else {
                path.pop();
                continue;
            };
            // Nodes without leaves could be linked to over and over.
            steps += 1;
            if steps > 2 * MAX_CHUNKS {
                return Err(too_large);
            }
            match self.nodes.get(&child.cid).filter(|_| !child.is_leaf) {
                Some(node) if !node.children.is_empty() => {
                    if path.len() >= usize::from(MAX_DEPTH) {
                        return Err(OutlineError::Shape {
                            cid: child.cid,
                            what: "it lies too deep",
                        });
                    }
                    offset = offset.checked_add(node.own).ok_or(OutlineError::TooLarge)?;
                    path.push(node.children.iter());
                }
                _ => add(&mut offset, &mut leaves, child.cid, child.size, child.len)?,
            }
        }
        Ok(leaves)
    }

    fn want(&mut self, cid: Cid, size: u64) {
        if !self.nodes.contains_key(&cid) && self.asked.insert(cid) {
            self.next.push((cid, size));
        }
    }

    fn decode(&self, block: &Block) -> Result<Node, OutlineError> {
        let cid = *block.cid();
        let shape = |what| OutlineError::Shape { cid, what };
        let size = block.data().len() as u64;
        if cid.codec() == RAW {
            return Ok(Node { own: size, size, children: Vec::new() });
        }
        let not_unixfs = |_| shape("it is not UnixFS");
        let node = PbNode::decode(block.data()).map_err(|_| shape("it is not dag-pb"))?;
        let data = node.data.as_ref().ok_or(OutlineError::NotAFile(cid))?;
        let file = UnixFs::decode(data).map_err(not_unixfs)?;
        if !matches!(file.kind, Kind::File | Kind::Raw) {
            return Err(OutlineError::NotAFile(cid));
        }
        if node.links.len() != file.block_sizes.len() {
            return Err(shape("its links and their sizes do not match"));
        }
        let own = file.data.map_or(0, |data| data.len() as u64);
        let links = node.links.into_iter().zip(file.block_sizes);
        let children = links.map(|(link, len)| match link.cid.codec() {
            RAW => Ok(Child { cid: link.cid, size: leaf_size(link.tsize), len, is_leaf: true }),
            DAG_PB => {
                let over = link.tsize.checked_sub(len);
                let is_leaf = over.is_some_and(|over| over <= LEAF_OVERHEAD) && len > 0;
                Ok(Child { cid: link.cid, size: leaf_size(link.tsize), len, is_leaf })
            }
            _ => Err(shape("it links to what is no part of a file")),
        });
        let children: Vec<Child> = children.collect::<Result<_, _>>()?;
        Ok(Node { own, size, children })
    }
}

fn leaf_size(tsize: u64) -> u64 {
    match tsize {
        0 => USUAL_LEAF,
        size => size.min(MAX_BLOCK as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{
        block::IDENTITY, dagpb::PbLink, import::import_bytes, layout::Layout, profile::Profile,
    };
    use bytes::Bytes;
    use cid::Version;
    use multihash::Multihash;

    fn outlined(blocks: &[Block], root: Cid) -> Result<(Vec<Leaf>, usize), OutlineError> {
        let mut outline = Outline::new(root);
        let mut nodes = 0;
        while !outline.is_done() {
            for (cid, size) in outline.wants() {
                assert!(size <= MAX_BLOCK as u64);
                let block = blocks.iter().find(|block| *block.cid() == cid).expect("a node");
                outline.supply(block)?;
                nodes += 1;
            }
        }
        Ok((outline.leaves()?, nodes))
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn leaves_come_in_order_with_their_places() {
        for (raw, version) in [(true, Version::V1), (false, Version::V0)] {
            let layout = Layout::new(1000, 3, version, raw).expect("valid");
            for len in [1, 1000, 1001, 3000, 3001, 30_500] {
                let (blocks, root) = import_bytes(layout, &bytes(len));
                let (leaves, nodes) = outlined(&blocks, root.cid).expect("a file");
                assert_eq!(leaves.len(), len.div_ceil(1000), "{len}");
                if len > 1000 {
                    let distinct: BoxSet<Cid> = leaves.iter().map(|leaf| leaf.cid).collect();
                    assert_eq!(nodes + distinct.len(), blocks.len(), "only nodes are read");
                    for (i, leaf) in leaves.iter().enumerate() {
                        let start = i as u64 * 1000;
                        assert_eq!(leaf.range, Some(start..(start + 1000).min(len as u64)));
                        let block = blocks.iter().find(|block| *block.cid() == leaf.cid);
                        assert_eq!(leaf.size, block.expect("a leaf").data().len() as u64);
                    }
                }
            }
        }
    }

    #[test]
    fn equal_chunks_keep_their_places() {
        let (blocks, root) = import_bytes(Profile::KuboV1Raw.layout(), &vec![0; 1 << 20]);
        assert_eq!(blocks.len(), 2);
        let (leaves, _) = outlined(&blocks, root.cid).expect("a file");
        assert_eq!(leaves.len(), 4);
        assert_eq!(leaves[3].range, Some(786_432..1_048_576));
    }

    #[test]
    fn a_directory_and_nonsense_are_refused() {
        let data = Bytes::from_static(&[8, 1]);
        let node = PbNode { links: vec![], data: Some(data) };
        let directory = Block::encode(Version::V1, DAG_PB, node.encode());
        let refused = outlined(std::slice::from_ref(&directory), *directory.cid());
        assert_eq!(refused, Err(OutlineError::NotAFile(*directory.cid())));
        let junk = Block::encode(Version::V1, DAG_PB, Bytes::from_static(b"junk"));
        assert!(outlined(std::slice::from_ref(&junk), *junk.cid()).is_err());
    }

    fn node(children: &[(Cid, u64, u64)]) -> Block {
        let mut file = UnixFs::new(Kind::File);
        file.block_sizes = children.iter().map(|(_, len, _)| *len).collect();
        file.file_size = Some(0);
        let link = |(cid, _, tsize): &(Cid, u64, u64)| PbLink {
            cid: *cid,
            name: String::new(),
            tsize: *tsize,
        };
        let links = children.iter().map(link).collect();
        let data = Some(file.encode());
        Block::encode(Version::V1, DAG_PB, PbNode { links, data }.encode())
    }

    #[test]
    fn a_file_that_unfolds_without_end_is_refused() {
        // Each level links to the one below a hundred times: a hundred to the tenth leaves.
        let mut blocks = vec![Block::encode(Version::V1, RAW, Bytes::from_static(b"x"))];
        for _ in 0..10 {
            let below = *blocks[blocks.len() - 1].cid();
            blocks.push(node(&vec![(below, 1, 100_000); 100]));
        }
        let root = *blocks[10].cid();
        assert_eq!(outlined(&blocks, root), Err(OutlineError::TooLarge));
        // The same without any leaf.
        blocks[0] = node(&[]);
        for i in 1..11 {
            let below = *blocks[i - 1].cid();
            blocks[i] = node(&vec![(below, 0, 0); 100]);
        }
        let root = *blocks[10].cid();
        assert_eq!(outlined(&blocks, root), Err(OutlineError::TooLarge));
    }

    #[test]
    fn too_deep_is_refused_and_inline_nodes_are_read() {
        let mut blocks = vec![Block::encode(Version::V1, RAW, Bytes::from_static(b"x"))];
        for _ in 0..100 {
            let below = *blocks[blocks.len() - 1].cid();
            blocks.push(node(&[(below, 1, 1000)]));
        }
        let deep = outlined(&blocks, *blocks[100].cid());
        assert!(matches!(deep, Err(OutlineError::Shape { .. })), "{deep:?}");
        let inner = node(&[(*blocks[0].cid(), 1, 1)]);
        let hash = Multihash::wrap(IDENTITY, inner.data()).expect("short");
        let inline = Cid::new_v1(DAG_PB, hash);
        let outer = node(&[(inline, 1, 100)]);
        let (leaves, nodes) = outlined(std::slice::from_ref(&outer), *outer.cid()).expect("a file");
        assert_eq!((leaves.len(), nodes, leaves[0].cid), (1, 1, *blocks[0].cid()));
    }
}
