//! What the tests here share: deterministic bytes and trees put together by hand.

use std::collections::BTreeMap;

use bytes::Bytes;
use cid::{Cid, Version};
use proptest::prelude::ProptestConfig;
use tabpeer::content::block::{Block, DAG_PB, RAW, sha256};
use tabpeer::content::dagpb::{PbLink, PbNode};
use tabpeer::content::unixfs::{Kind, UnixFs};

/// How the property tests run. A failing case is printed whole, so no file of seeds is kept.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Blocks by CID.
pub type Blocks = BTreeMap<Cid, Block>;

pub fn by_cid(blocks: impl IntoIterator<Item = Block>) -> Blocks {
    blocks.into_iter().map(|block| (*block.cid(), block)).collect()
}

/// The stream that Kubo's and Helia's tests make their files of: ChaCha20 (RFC 8439) with
/// SHA-256(seed) as key, a nonce of zeros, counting from block 0.
pub struct SeededBytes {
    state: [u32; 16],
}

impl SeededBytes {
    pub fn new(seed: &str) -> Self {
        let mut state = [0; 16];
        state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
        for (word, bytes) in state[4..12].iter_mut().zip(sha256(seed.as_bytes()).chunks(4)) {
            *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        }
        Self { state }
    }

    /// The next `len` bytes; a multiple of 64 except for the last call.
    pub fn take(&mut self, len: usize) -> Bytes {
        let mut out = Vec::with_capacity(len.next_multiple_of(64));
        while out.len() < len {
            let mut words = self.state;
            for _ in 0..10 {
                for column in 0..4 {
                    quarter_round(&mut words, [column, column + 4, column + 8, column + 12]);
                }
                for diagonal in 0..4 {
                    let at = |row: usize| row * 4 + (diagonal + row) % 4;
                    quarter_round(&mut words, [at(0), at(1), at(2), at(3)]);
                }
            }
            for (word, start) in words.iter().zip(self.state) {
                out.extend_from_slice(&word.wrapping_add(start).to_le_bytes());
            }
            self.state[12] += 1;
        }
        out.truncate(len);
        out.into()
    }
}

fn quarter_round(words: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (x, y, z, turn) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        words[x] = words[x].wrapping_add(words[y]);
        words[z] = (words[z] ^ words[x]).rotate_left(turn);
    }
}

pub fn raw(data: &[u8]) -> Block {
    Block::encode(Version::V1, RAW, Bytes::copy_from_slice(data))
}

/// A dag-pb block of this message and links to these CIDs.
pub fn node(version: Version, message: &UnixFs, links: &[Cid]) -> Block {
    let link = |cid: &Cid| PbLink { cid: *cid, name: String::new(), tsize: 0 };
    let node = PbNode { links: links.iter().map(link).collect(), data: Some(message.encode()) };
    Block::encode(version, DAG_PB, node.encode())
}

/// A file node with data of its own and children of these lengths.
pub fn file(version: Version, data: &[u8], children: &[(Cid, u64)]) -> Block {
    let mut message = UnixFs::new(Kind::File);
    message.data = (!data.is_empty()).then(|| Bytes::copy_from_slice(data));
    message.block_sizes = children.iter().map(|(_, len)| *len).collect();
    let below = message.block_sizes.iter().fold(data.len() as u64, |sum, n| sum.saturating_add(*n));
    message.file_size = Some(below);
    let cids: Vec<Cid> = children.iter().map(|(cid, _)| *cid).collect();
    node(version, &message, &cids)
}
