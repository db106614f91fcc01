//! Blocks and peers by number.

use cid::{Cid, Version};
use libp2p::PeerId;
use multihash::Multihash;

use crate::{
    content::block::{Block, RAW, SHA2_256},
    random::Random,
};

pub fn peer_id(n: usize) -> PeerId {
    let digest = (n as u64 + 1).to_be_bytes();
    PeerId::from_multihash(Multihash::wrap(0, &digest).expect("short")).expect("identity")
}

pub(super) fn digest(n: usize) -> [u8; 32] {
    // Spread, so that the order by hash says nothing.
    let mut random = Random(n as u64);
    let mut digest = [0; 32];
    digest.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_be_bytes()));
    digest[24..].copy_from_slice(&(n as u64).to_be_bytes());
    digest
}

pub fn cid(n: usize) -> Cid {
    Cid::new_v1(RAW, Multihash::wrap(SHA2_256, &digest(n)).expect("short"))
}

pub fn block(n: usize, size: usize) -> Block {
    Block::with_digest(Version::V1, RAW, &digest(n), vec![0; size].into())
}

/// The number that [`cid`] was made of.
pub fn number(cid: &Cid) -> usize {
    let tail = cid.hash().digest()[24..].try_into().expect("8 bytes");
    u64::from_be_bytes(tail) as usize
}
