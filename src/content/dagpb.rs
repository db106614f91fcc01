//! dag-pb: a node of links and data in one canonical protobuf form
//! (IPLD's dag-pb specification, "Serial Format" and "Logical Format").

use bytes::Bytes;
use cid::Cid;

use super::varint::{
    Field, Fields, VarintError, bytes_field_len, varint_len, write_bytes, write_uint, write_varint,
};

/// Most links that a node may have: what fits a block of [`super::block::MAX_BLOCK`] with 36-byte CIDs.
pub const MAX_LINKS: usize = 1 << 16;
/// Longest CID that we read, in bytes (Kubo's limit for a Bitswap entry).
pub const MAX_CID: usize = 168;

/// A dag-pb node. Links are kept in the order of the block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PbNode {
    pub links: Vec<PbLink>,
    pub data: Option<Bytes>,
}

/// One link. `tsize` is the sum of the block sizes below it, as the block claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PbLink {
    pub cid: Cid,
    pub name: String,
    pub tsize: u64,
}

/// Why a block is not dag-pb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PbError {
    #[error("not dag-pb: {0}")]
    Protobuf(#[from] VarintError),
    #[error("not dag-pb: {0}")]
    Shape(&'static str),
}

impl PbNode {
    /// Reads a block strictly: known fields only, links in one run, no field twice, names in UTF-8.
    pub fn decode(block: &Bytes) -> Result<Self, PbError> {
        let mut fields = Fields::new(block.clone());
        let mut node = Self::default();
        let mut links_ended = false;
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(data)) => {
                    if node.data.replace(data).is_some() {
                        return Err(PbError::Shape("data given twice"));
                    }
                    links_ended = !node.links.is_empty();
                }
                (2, Field::Bytes(link)) => {
                    if links_ended {
                        return Err(PbError::Shape("links in two places"));
                    }
                    if node.links.len() == MAX_LINKS {
                        return Err(PbError::Shape("too many links"));
                    }
                    node.links.push(PbLink::decode(link)?);
                }
                _ => return Err(PbError::Shape("an unknown field")),
            }
        }
        Ok(node)
    }

    /// The canonical block: links first, then data. The caller keeps named links sorted by name.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        for link in &self.links {
            write_varint(&mut out, 2 << 3 | 2);
            write_varint(&mut out, link.body_len() as u64);
            write_bytes(&mut out, 1, &link.cid.to_bytes());
            write_bytes(&mut out, 2, link.name.as_bytes());
            write_uint(&mut out, 3, link.tsize);
        }
        if let Some(data) = &self.data {
            write_bytes(&mut out, 1, data);
        }
        out.into()
    }

    /// Length of [`PbNode::encode`] without encoding.
    pub fn encoded_len(&self) -> usize {
        let links: usize = self.links.iter().map(PbLink::encoded_len).sum();
        links + self.data.as_ref().map_or(0, |data| bytes_field_len(data.len()))
    }
}

impl PbLink {
    /// Bytes that this link adds to its node's block.
    pub fn encoded_len(&self) -> usize {
        bytes_field_len(self.body_len())
    }

    fn body_len(&self) -> usize {
        bytes_field_len(self.cid.encoded_len())
            + bytes_field_len(self.name.len())
            + 1
            + varint_len(self.tsize)
    }

    fn decode(message: Bytes) -> Result<Self, PbError> {
        let mut fields = Fields::new(message);
        let (mut cid, mut name, mut tsize) = (None, None, None);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(hash)) if cid.is_none() && name.is_none() && tsize.is_none() => {
                    if hash.len() > MAX_CID {
                        return Err(PbError::Shape("a link's CID is too long"));
                    }
                    cid = Some(
                        Cid::try_from(&hash[..])
                            .map_err(|_| PbError::Shape("a link's CID is not a CID"))?,
                    );
                }
                (2, Field::Bytes(text)) if name.is_none() && tsize.is_none() => {
                    let text = std::str::from_utf8(&text)
                        .map_err(|_| PbError::Shape("a name is not UTF-8"))?;
                    name = Some(text.to_owned());
                }
                (3, Field::Uint(size)) if tsize.is_none() => tsize = Some(size),
                _ => {
                    return Err(PbError::Shape(
                        "a link's fields are unknown, doubled or out of order",
                    ));
                }
            }
        }
        let cid = cid.ok_or(PbError::Shape("a link without a CID"))?;
        Ok(Self { cid, name: name.unwrap_or_default(), tsize: tsize.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::block::{RAW, cid_of, sha256};
    use cid::Version;

    fn link(name: &str, tsize: u64) -> PbLink {
        PbLink { cid: cid_of(Version::V1, RAW, &sha256(name.as_bytes())), name: name.into(), tsize }
    }

    #[test]
    fn nodes_round_trip_at_their_computed_length() {
        for node in [
            PbNode::default(),
            PbNode { links: vec![], data: Some(Bytes::from_static(&[8, 1])) },
            PbNode { links: vec![link("", 0), link("ü", 1 << 40)], data: None },
            PbNode { links: vec![link("a", 300)], data: Some(Bytes::from_static(&[8, 2])) },
        ] {
            let block = node.encode();
            assert_eq!(block.len(), node.encoded_len());
            assert_eq!(PbNode::decode(&block), Ok(node));
        }
    }

    #[test]
    fn the_empty_directory_is_the_one_everybody_knows() {
        let node = PbNode { links: vec![], data: Some(Bytes::from_static(&[8, 1])) };
        let cid = cid_of(Version::V0, super::super::block::DAG_PB, &sha256(&node.encode()));
        assert_eq!(cid.to_string(), "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn");
    }

    #[test]
    fn every_truncation_and_any_disorder_is_refused_without_a_panic() {
        let block = PbNode {
            links: vec![link("a", 1), link("b", 2)],
            data: Some(Bytes::from_static(&[8, 1])),
        }
        .encode();
        for end in 1..block.len() {
            let cut = PbNode::decode(&block.slice(..end));
            if let Ok(node) = cut {
                assert_ne!(node.encode(), block);
            }
        }
        let mut twice = block.to_vec();
        twice.extend_from_slice(&block);
        assert!(PbNode::decode(&twice.into()).is_err());
        assert!(PbNode::decode(&Bytes::from_static(&[0x1a, 0])).is_err());
    }
}
