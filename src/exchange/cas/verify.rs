//! From content to verified blocks: content that hashes to the CID is the block; else it must be a
//! file that one of the import profiles makes that CID of.

use bytes::Bytes;
use cid::{Cid, Version};
use futures::{StreamExt as _, stream};

use crate::{
    content::{
        block::{Block, DAG_PB, MAX_BLOCK, SHA2_256},
        import::{Chunker, FileBuilder},
        layout::Layout,
        profile::Profile,
    },
    platform,
};

/// Leaves hashed at a time.
const HASHES_IN_FLIGHT: usize = 8;

/// The blocks below `cid` that `content` consists of, the root among them; `None` if it is not the
/// content of `cid`, or none that can be checked.
pub async fn verify(cid: Cid, content: Bytes) -> Option<Vec<Block>> {
    if cid.hash().code() != SHA2_256 {
        return Block::verify(cid, content).ok().map(|block| vec![block]);
    }
    if content.len() <= MAX_BLOCK {
        let digest = platform::sha256(content.clone()).await;
        if let Ok(block) = Block::verify_digest(cid, &digest, content.clone()) {
            return Some(vec![block]);
        }
    }
    if cid.codec() != DAG_PB {
        return None;
    }
    for profile in Profile::ALL {
        let layout = profile.layout();
        // Of the other version no CID comes out.
        if layout.version() == cid.version() || cid.version() == Version::V1 && layout.raw_leaves()
        {
            let blocks = import(layout, content.clone()).await;
            if blocks.last().is_some_and(|root| *root.cid() == cid) {
                return Some(blocks);
            }
        }
    }
    None
}

/// All blocks of a file, the root last.
async fn import(layout: Layout, content: Bytes) -> Vec<Block> {
    let mut chunker = Chunker::new(layout);
    chunker.push(content);
    let mut files = FileBuilder::new(layout);
    let chunks: Vec<Bytes> = std::iter::from_fn(|| chunker.finish()).collect();
    let lens: Vec<u64> = chunks.iter().map(|chunk| chunk.len() as u64).collect();
    let leaves: Vec<_> = chunks.into_iter().map(|chunk| files.leaf_payload(chunk)).collect();
    let hashed = leaves.into_iter().map(|leaf| async move {
        let digest = platform::sha256(leaf.data.clone()).await;
        Block::with_digest(leaf.version, leaf.codec, &digest, leaf.data)
    });
    let mut hashed = stream::iter(hashed).buffered(HASHES_IN_FLIGHT);
    let mut blocks = Vec::new();
    let mut lens = lens.into_iter();
    while let (Some(leaf), Some(len)) = (hashed.next().await, lens.next()) {
        let made = files.push_leaf(*leaf.cid(), len, leaf.data().len() as u64);
        blocks.push(leaf);
        blocks.extend(made);
    }
    let (rest, _) = files.finish();
    blocks.extend(rest);
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{block::RAW, import::import_bytes};

    fn noise(len: usize) -> Bytes {
        (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
    }

    #[tokio::test]
    async fn files_of_every_profile_are_recognised() {
        for profile in Profile::ALL {
            for len in [0, 1, 300_000, 3_000_000] {
                let bytes = noise(len);
                let (made, root) = import_bytes(profile, &bytes);
                let blocks = verify(root.cid, bytes.clone()).await.expect("verified");
                for block in &made {
                    assert!(blocks.contains(block), "{profile} {len}");
                }
                let mut wrong = bytes.to_vec();
                wrong.push(0);
                assert_eq!(verify(root.cid, wrong.into()).await, None);
            }
        }
    }

    #[tokio::test]
    async fn a_block_is_its_own_content() {
        for codec in [RAW, DAG_PB, 0x71] {
            let block = Block::encode(Version::V1, codec, Bytes::from_static(b"any bytes"));
            let verified = verify(*block.cid(), block.data().clone()).await;
            assert_eq!(verified, Some(vec![block.clone()]));
            assert_eq!(verify(*block.cid(), Bytes::from_static(b"others")).await, None);
        }
        let large = Block::encode(Version::V1, RAW, noise(MAX_BLOCK + 1));
        assert_eq!(verify(*large.cid(), large.data().clone()).await, None);
    }
}
