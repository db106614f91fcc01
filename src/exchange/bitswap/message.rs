//! The wire format of Bitswap 1.2.0: protobuf messages behind an unsigned-varint length
//! (the Bitswap specification, "Bitswap 1.2.0: Wire Format"; its field numbers are in `decode`).
//!
//! Read strictly and within bounds: every length is checked before anything is allocated, a block's
//! bytes are a slice of the message. Fields that we do not know are skipped, so is `blocks` of
//! Bitswap 1.0, which carries no prefix.

use bytes::Bytes;
use cid::{Cid, Version};

use crate::content::block::{Block, IDENTITY, MAX_BLOCK};
use crate::content::dagpb::MAX_CID;
use crate::content::varint::{
    Field, Fields, VarintError, bytes_field_len, varint_len, write_bytes, write_uint, write_varint,
};

mod reader;
pub use reader::MessageReader;

/// The one version that we speak; every current implementation does.
pub const PROTOCOL: &str = "/ipfs/bitswap/1.2.0";
/// Longest message that is read, without its length prefix (Kubo's and Helia's limit).
pub const MAX_MESSAGE: usize = 4 << 20;
/// Most wants, and most presences, and most blocks, of one message. The largest that Kubo sends has
/// 512 KiB of wants of about 40 bytes each.
pub const MAX_ENTRIES: usize = 1 << 15;
/// Longest prefix of a block: four varints.
pub const MAX_PREFIX: usize = 40;
/// Data up to this is copied into the message around it: a write of its own would cost more.
const COPIED_DATA: usize = 4 << 10;
/// Digest length of the one hash that we make.
const SHA2_256_LEN: u64 = 32;

/// Whether a want asks for the block or only whether the peer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantKind {
    Block,
    Have,
}

/// One change of a wantlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantEntry {
    pub cid: Cid,
    pub priority: i32,
    pub kind: WantKind,
    pub cancel: bool,
    pub send_dont_have: bool,
}

/// What a peer says about a CID without sending the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Have,
    DontHave,
}

/// A block as it came: not yet verified. Its CID is made of the prefix and the hash of the data, so
/// nothing is claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    pub version: Version,
    pub codec: u64,
    pub hash_code: u64,
    pub data: Bytes,
}

/// One message. All parts may come together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub wants: Vec<WantEntry>,
    /// `wants` replaces the sender's whole wantlist.
    pub full: bool,
    pub blocks: Vec<RawBlock>,
    pub presences: Vec<(Cid, Presence)>,
    /// How many bytes the sender has queued for the receiver.
    pub pending_bytes: i32,
}

/// Why bytes are not a Bitswap message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("a Bitswap message of {len} bytes, more than {MAX_MESSAGE}")]
    TooLarge { len: u64 },
    #[error("a Bitswap message with a block of {len} bytes, more than {MAX_BLOCK}")]
    BlockTooLarge { len: usize },
    #[error("a Bitswap message with a CID of {len} bytes, more than {MAX_CID}")]
    CidTooLong { len: usize },
    #[error("a Bitswap message with more than {MAX_ENTRIES} {0}")]
    TooMany(&'static str),
    #[error("not a Bitswap message: {0}")]
    Protobuf(#[from] VarintError),
    #[error("not a Bitswap message: {0}")]
    Shape(&'static str),
}

impl Message {
    /// Reads a message without its length prefix. Blocks are slices of `body`.
    pub fn decode(body: Bytes) -> Result<Self, MessageError> {
        if body.len() > MAX_MESSAGE {
            return Err(MessageError::TooLarge { len: body.len() as u64 });
        }
        let mut message = Self::default();
        let mut fields = Fields::new(body);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(wantlist)) => message.read_wantlist(wantlist)?,
                (3, Field::Bytes(block)) => {
                    bounded(message.blocks.len(), "blocks")?;
                    message.blocks.push(RawBlock::decode(block)?);
                }
                (4, Field::Bytes(presence)) => {
                    bounded(message.presences.len(), "presences")?;
                    message.presences.push(read_presence(presence)?);
                }
                (5, Field::Uint(bytes)) => message.pending_bytes = bytes as i32,
                (1 | 3 | 4 | 5, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
        Ok(message)
    }

    /// The message with its length prefix, in pieces to be written one after the other. Data above
    /// a few KiB is not copied. The caller keeps [`Message::encoded_len`] within [`MAX_MESSAGE`].
    pub fn encode(&self) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut out = Vec::new();
        write_varint(&mut out, self.encoded_len() as u64);
        let wantlist = self.wantlist_len();
        if wantlist > 0 {
            write_varint(&mut out, 1 << 3 | 2);
            write_varint(&mut out, wantlist as u64);
            for want in &self.wants {
                want.write(&mut out);
            }
            write_nonzero(&mut out, 2, self.full.into());
        }
        for block in &self.blocks {
            let prefix = block.prefix();
            write_varint(&mut out, 3 << 3 | 2);
            write_varint(&mut out, block.body_len() as u64);
            write_bytes(&mut out, 1, &prefix);
            write_varint(&mut out, 2 << 3 | 2);
            write_varint(&mut out, block.data.len() as u64);
            if block.data.len() <= COPIED_DATA {
                out.extend_from_slice(&block.data);
            } else {
                pieces.push(std::mem::take(&mut out).into());
                pieces.push(block.data.clone());
            }
        }
        for (cid, presence) in &self.presences {
            write_varint(&mut out, 4 << 3 | 2);
            write_varint(&mut out, presence_body_len(cid, *presence) as u64);
            write_bytes(&mut out, 1, &cid.to_bytes());
            write_nonzero(&mut out, 2, (*presence == Presence::DontHave).into());
        }
        write_nonzero(&mut out, 5, i64::from(self.pending_bytes) as u64);
        if !out.is_empty() {
            pieces.push(out.into());
        }
        pieces
    }

    /// Bytes of [`Message::encode`] without the length prefix.
    pub fn encoded_len(&self) -> usize {
        let wantlist = match self.wantlist_len() {
            0 => 0,
            len => bytes_field_len(len),
        };
        let blocks: usize = self.blocks.iter().map(RawBlock::encoded_len).sum();
        let presences: usize = self.presences.iter().map(|(cid, p)| presence_len(cid, *p)).sum();
        wantlist + blocks + presences + nonzero_len(i64::from(self.pending_bytes) as u64)
    }

    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
            && !self.full
            && self.blocks.is_empty()
            && self.presences.is_empty()
            && self.pending_bytes == 0
    }

    fn wantlist_len(&self) -> usize {
        self.wants.iter().map(WantEntry::encoded_len).sum::<usize>() + 2 * usize::from(self.full)
    }

    fn read_wantlist(&mut self, wantlist: Bytes) -> Result<(), MessageError> {
        let mut fields = Fields::new(wantlist);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(entry)) => {
                    bounded(self.wants.len(), "wants")?;
                    self.wants.push(WantEntry::decode(entry)?);
                }
                (2, Field::Uint(full)) => self.full = full != 0,
                (1 | 2, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
        Ok(())
    }
}

impl WantEntry {
    /// Bytes that this entry adds to a message.
    pub fn encoded_len(&self) -> usize {
        bytes_field_len(self.body_len())
    }

    fn body_len(&self) -> usize {
        bytes_field_len(self.cid.encoded_len())
            + nonzero_len(i64::from(self.priority) as u64)
            + 2 * usize::from(self.cancel)
            + 2 * usize::from(self.kind == WantKind::Have)
            + 2 * usize::from(self.send_dont_have)
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_varint(out, 1 << 3 | 2);
        write_varint(out, self.body_len() as u64);
        write_bytes(out, 1, &self.cid.to_bytes());
        write_nonzero(out, 2, i64::from(self.priority) as u64);
        write_nonzero(out, 3, self.cancel.into());
        write_nonzero(out, 4, (self.kind == WantKind::Have).into());
        write_nonzero(out, 5, self.send_dont_have.into());
    }

    fn decode(entry: Bytes) -> Result<Self, MessageError> {
        let mut fields = Fields::new(entry);
        let mut cid = None;
        let (mut priority, mut kind) = (0, WantKind::Block);
        let (mut cancel, mut send_dont_have) = (false, false);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(bytes)) => cid = Some(read_cid(&bytes)?),
                (2, Field::Uint(value)) => priority = value as i32,
                (3, Field::Uint(value)) => cancel = value != 0,
                (4, Field::Uint(0)) => kind = WantKind::Block,
                (4, Field::Uint(1)) => kind = WantKind::Have,
                (4, Field::Uint(_)) => return Err(MessageError::Shape("an unknown kind of want")),
                (5, Field::Uint(value)) => send_dont_have = value != 0,
                (1..=5, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
        let cid = cid.ok_or(MessageError::Shape("a want without a CID"))?;
        Ok(Self { cid, priority, kind, cancel, send_dont_have })
    }
}

impl RawBlock {
    /// Bytes that this block adds to a message.
    pub fn encoded_len(&self) -> usize {
        bytes_field_len(self.body_len())
    }

    fn body_len(&self) -> usize {
        bytes_field_len(self.prefix().len()) + bytes_field_len(self.data.len())
    }

    /// CID version, codec, hash function and digest length.
    fn prefix(&self) -> Vec<u8> {
        let digest_len =
            if self.hash_code == IDENTITY { self.data.len() as u64 } else { SHA2_256_LEN };
        let mut prefix = Vec::with_capacity(MAX_PREFIX);
        for value in [u64::from(self.version), self.codec, self.hash_code, digest_len] {
            write_varint(&mut prefix, value);
        }
        prefix
    }

    fn decode(block: Bytes) -> Result<Self, MessageError> {
        let mut fields = Fields::new(block);
        let (mut prefix, mut data) = (None, Bytes::new());
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(bytes)) => prefix = Some(bytes),
                (2, Field::Bytes(bytes)) if bytes.len() > MAX_BLOCK => {
                    return Err(MessageError::BlockTooLarge { len: bytes.len() });
                }
                (2, Field::Bytes(bytes)) => data = bytes,
                (1 | 2, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
        let [version, codec, hash_code, _digest_len] =
            read_prefix(&prefix.ok_or(MessageError::Shape("a block without a prefix"))?)?;
        let version = Version::try_from(version).map_err(|_| BAD_PREFIX)?;
        Ok(Self { version, codec, hash_code, data })
    }
}

impl From<&Block> for RawBlock {
    fn from(block: &Block) -> Self {
        Self {
            version: block.cid().version(),
            codec: block.cid().codec(),
            hash_code: block.cid().hash().code(),
            data: block.data().clone(),
        }
    }
}

/// Bytes that a presence adds to a message.
pub fn presence_len(cid: &Cid, presence: Presence) -> usize {
    bytes_field_len(presence_body_len(cid, presence))
}

const WRONG_TYPE: MessageError = MessageError::Shape("a field of the wrong type");
const BAD_PREFIX: MessageError = MessageError::Shape("a block's prefix is not that of a CID");

fn presence_body_len(cid: &Cid, presence: Presence) -> usize {
    bytes_field_len(cid.encoded_len()) + 2 * usize::from(presence == Presence::DontHave)
}

fn read_presence(presence: Bytes) -> Result<(Cid, Presence), MessageError> {
    let mut fields = Fields::new(presence);
    let (mut cid, mut kind) = (None, Presence::Have);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Bytes(bytes)) => cid = Some(read_cid(&bytes)?),
            (2, Field::Uint(0)) => kind = Presence::Have,
            (2, Field::Uint(1)) => kind = Presence::DontHave,
            (2, Field::Uint(_)) => return Err(MessageError::Shape("an unknown presence")),
            (1 | 2, _) => return Err(WRONG_TYPE),
            _ => {}
        }
    }
    Ok((cid.ok_or(MessageError::Shape("a presence without a CID"))?, kind))
}

fn read_cid(bytes: &[u8]) -> Result<Cid, MessageError> {
    if bytes.len() > MAX_CID {
        return Err(MessageError::CidTooLong { len: bytes.len() });
    }
    match Cid::try_from(bytes) {
        Ok(cid) if cid.encoded_len() == bytes.len() => Ok(cid),
        _ => Err(MessageError::Shape("a CID that is none")),
    }
}

fn read_prefix(mut prefix: &[u8]) -> Result<[u64; 4], MessageError> {
    let mut values = [0; 4];
    for value in &mut values {
        let (read, len) = crate::content::varint::read_varint(prefix)?.ok_or(BAD_PREFIX)?;
        *value = read;
        prefix = prefix.get(len..).unwrap_or_default();
    }
    if prefix.is_empty() { Ok(values) } else { Err(BAD_PREFIX) }
}

fn bounded(len: usize, what: &'static str) -> Result<(), MessageError> {
    if len < MAX_ENTRIES { Ok(()) } else { Err(MessageError::TooMany(what)) }
}

/// Protobuf leaves out what has its default value.
fn write_nonzero(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        write_uint(out, number, value);
    }
}

fn nonzero_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

#[cfg(test)]
mod tests;
