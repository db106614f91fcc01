//! A block of content and the CID that its bytes were checked against.

use bytes::Bytes;
pub use cid::Cid;
use cid::Version;
use multihash::Multihash;
use sha2::{Digest as _, Sha256};

use super::dagpb::{PbError, PbNode};

/// Blocks above this are neither made nor accepted (the IPFS network's own limit for Bitswap).
pub const MAX_BLOCK: usize = 2 << 20;
/// Multicodec of raw bytes.
pub const RAW: u64 = 0x55;
/// Multicodec of dag-pb.
pub const DAG_PB: u64 = 0x70;
/// Multihash code of sha2-256, the one hash that we make.
pub const SHA2_256: u64 = 0x12;
/// Multihash code of identity: the "hash" is the data itself.
pub const IDENTITY: u64 = 0x00;
/// Longest identity CID payload that we read (what Kubo allows).
pub const MAX_INLINE: usize = 128;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Bytes together with the CID that they hash to. There is no way to make one that does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    data: Bytes,
}

/// Why bytes are not the block they are said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("block {cid} has {len} bytes, more than the {MAX_BLOCK} that a block may have")]
    TooLarge { cid: Cid, len: usize },
    #[error("the bytes given for block {cid} do not hash to it")]
    Mismatch { cid: Cid },
    #[error("CID {cid} uses hash function 0x{code:x}, which is not supported")]
    UnsupportedHash { cid: Cid, code: u64 },
}

impl Block {
    /// Hashes `data` here and now. For bulk data see `platform::sha256`, which runs off the main
    /// thread in a browser, and [`Block::with_digest`].
    pub fn encode(version: Version, codec: u64, data: Bytes) -> Self {
        let digest = sha256(&data);
        Self::with_digest(version, codec, &digest, data)
    }

    /// For a caller that has just hashed `data` with SHA-256 itself; not public, so that a block
    /// cannot be made to lie.
    pub(crate) fn with_digest(version: Version, codec: u64, digest: &Digest, data: Bytes) -> Self {
        Self { cid: cid_of(version, codec, digest), data }
    }

    /// Checks `data` against `cid` (sha2-256 or identity).
    pub fn verify(cid: Cid, data: Bytes) -> Result<Self, BlockError> {
        Self::check_len(&cid, data.len())?;
        match cid.hash().code() {
            SHA2_256 => Self::verify_digest(cid, &sha256(&data), data),
            IDENTITY if cid.hash().digest() == &data[..] => Ok(Self { cid, data }),
            IDENTITY => Err(BlockError::Mismatch { cid }),
            code => Err(BlockError::UnsupportedHash { cid, code }),
        }
    }

    /// Like [`Block::verify`] for a digest that the caller has just computed over `data`.
    pub(crate) fn verify_digest(
        cid: Cid,
        digest: &Digest,
        data: Bytes,
    ) -> Result<Self, BlockError> {
        Self::check_len(&cid, data.len())?;
        match cid.hash().code() {
            SHA2_256 if cid.hash().digest() == digest => Ok(Self { cid, data }),
            SHA2_256 => Err(BlockError::Mismatch { cid }),
            code => Err(BlockError::UnsupportedHash { cid, code }),
        }
    }

    /// The same bytes under another CID of the same multihash.
    pub fn with_cid(&self, cid: Cid) -> Option<Self> {
        (cid.hash() == self.cid.hash()).then(|| Self { cid, data: self.data.clone() })
    }

    /// The block that an identity CID carries in itself, if `cid` is one.
    pub fn inline(cid: &Cid) -> Option<Self> {
        let digest = cid.hash().digest();
        (cid.hash().code() == IDENTITY && digest.len() <= MAX_INLINE)
            .then(|| Self { cid: *cid, data: Bytes::copy_from_slice(digest) })
    }

    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The CIDs this block links to, each once, in order; none for a codec without links.
    pub fn links(&self) -> Result<Vec<Cid>, PbError> {
        if self.cid.codec() != DAG_PB {
            return Ok(Vec::new());
        }
        let mut seen = std::collections::BTreeSet::new();
        let links = PbNode::decode(&self.data)?.links;
        Ok(links.into_iter().map(|link| link.cid).filter(|cid| seen.insert(*cid)).collect())
    }

    fn check_len(cid: &Cid, len: usize) -> Result<(), BlockError> {
        if len > MAX_BLOCK { Err(BlockError::TooLarge { cid: *cid, len }) } else { Ok(()) }
    }
}

/// SHA-256 of `data`, on this thread.
pub fn sha256(data: &[u8]) -> Digest {
    Sha256::digest(data).into()
}

/// The CID of a block with this SHA-256. Version 0 stands for dag-pb only, as the format has it:
/// any other codec gets a version 1 CID.
pub fn cid_of(version: Version, codec: u64, digest: &Digest) -> Cid {
    let mut bytes = [0u8; 34];
    (bytes[0], bytes[1]) = (SHA2_256 as u8, 32);
    bytes[2..].copy_from_slice(digest);
    let hash = Multihash::from_bytes(&bytes).unwrap_or_default();
    match (version, codec) {
        (Version::V0, DAG_PB) => Cid::new_v0(hash).unwrap_or_else(|_| Cid::new_v1(codec, hash)),
        _ => Cid::new_v1(codec, hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_its_cid_says() {
        let block = Block::encode(Version::V1, RAW, Bytes::from_static(b"hello world"));
        assert_eq!(
            block.cid().to_string(),
            "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
        );
        assert_eq!(Block::verify(*block.cid(), block.data().clone()).as_ref(), Ok(&block));
        let lie = Block::verify(*block.cid(), Bytes::from_static(b"hello w0rld"));
        assert_eq!(lie, Err(BlockError::Mismatch { cid: *block.cid() }));
    }

    #[test]
    fn version_0_is_for_dag_pb_alone() {
        let digest = sha256(b"x");
        assert_eq!(cid_of(Version::V0, DAG_PB, &digest).version(), Version::V0);
        assert_eq!(cid_of(Version::V0, RAW, &digest).version(), Version::V1);
    }

    #[test]
    fn identity_cids_carry_their_data() {
        let cid: Cid = "bafkqaaa".parse().expect("a CID");
        assert_eq!(Block::inline(&cid).expect("inline").data().len(), 0);
        let hashed = cid_of(Version::V1, RAW, &sha256(b"x"));
        assert_eq!(Block::inline(&hashed), None);
    }
}
