//! The DID of a peer: `did:key` of its Ed25519 key (W3C CCG, "The did:key Method", with the
//! multicodec `ed25519-pub`). Both ways: a peer id of this kind carries the key itself.

use cid::multibase::{self, Base};
use libp2p::PeerId;
use multihash::Multihash;

use crate::content::block::IDENTITY;

/// Longest DID that is read.
pub const MAX_DID: usize = 128;
/// Multicodec of an Ed25519 public key, 0xed, as a varint.
const ED25519_PUB: [u8; 2] = [0xed, 0x01];
/// What stands before the key in libp2p's protobuf form: its type, and its length.
const KEY_HEADER: [u8; 4] = [0x08, 0x01, 0x12, 0x20];
const PREFIX: &str = "did:key:";

/// The DID of `peer`, `None` if its id is not an Ed25519 key.
pub fn did_of(peer: &PeerId) -> Option<String> {
    let hash: &Multihash<64> = peer.as_ref();
    let key = hash.digest().strip_prefix(&KEY_HEADER)?;
    if hash.code() != IDENTITY || key.len() != 32 {
        return None;
    }
    let mut bytes = ED25519_PUB.to_vec();
    bytes.extend_from_slice(key);
    Some(format!("{PREFIX}{}", multibase::encode(Base::Base58Btc, bytes)))
}

/// The peer whose DID this is; `None` for any other DID.
pub fn peer_of_did(did: &str) -> Option<PeerId> {
    let text = did.strip_prefix(PREFIX).filter(|_| did.len() <= MAX_DID)?;
    let (base, bytes) = multibase::decode(text).ok()?;
    let key = bytes.strip_prefix(&ED25519_PUB)?;
    if base != Base::Base58Btc || key.len() != 32 {
        return None;
    }
    let digest = [&KEY_HEADER[..], key].concat();
    PeerId::from_multihash(Multihash::wrap(IDENTITY, &digest).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::{Keypair, PublicKey, ed25519};

    #[test]
    fn the_did_of_a_known_key_is_the_known_one() {
        // RFC 8032, test 1: the public key of the all-known seed; its did:key computed by hand from
        // the definition is what any did:key library prints for it.
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let bytes: Vec<u8> = (0..64)
            .step_by(2)
            .map(|at| u8::from_str_radix(&key[at..at + 2], 16).expect("hex"))
            .collect();
        let key = ed25519::PublicKey::try_from_bytes(&bytes).expect("a key");
        let peer = PublicKey::from(key).to_peer_id();
        let did = did_of(&peer).expect("a DID");
        assert_eq!(did, "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw");
        assert_eq!(peer_of_did(&did), Some(peer));
    }

    #[test]
    fn both_ways_for_any_peer() {
        for _ in 0..20 {
            let peer = Keypair::generate_ed25519().public().to_peer_id();
            let did = did_of(&peer).expect("a DID");
            assert!(did.starts_with("did:key:z6Mk"), "{did}");
            assert_eq!(peer_of_did(&did), Some(peer));
        }
        // A random id is a hash, not a key.
        assert_eq!(did_of(&PeerId::random()), None);
    }

    #[test]
    fn other_dids_are_nobodys() {
        let long = format!("did:key:z{}", "6".repeat(MAX_DID));
        for did in ["", "did:key:", "did:key:z", "did:web:example.com", "did:key:zQ3shokFTS", &long]
        {
            assert_eq!(peer_of_did(did), None, "{did}");
        }
    }
}
