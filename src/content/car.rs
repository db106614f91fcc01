//! CAR files: blocks in a row, each behind its CID (IPLD's "CARv1" specification; of CARv2, the
//! version 1 payload inside it). Gateways answer with them. What is read is not verified yet: a CID
//! here is what the file says.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use cid::Cid;

use super::block::{Block, MAX_BLOCK};
use super::dagpb::MAX_CID;
use super::varint::{read_varint, varint_len, write_varint};

/// Longest header that is read: room for some 1500 roots.
pub const MAX_HEADER: usize = 64 << 10;
/// Longest section that is read.
pub const MAX_SECTION: usize = MAX_BLOCK + MAX_CID;
/// Most bytes between the header of a CARv2 and the payload in it; writers put 0 to 1413 there.
pub const MAX_PADDING: u64 = 1 << 20;
/// Length of a CARv2's fixed header, and where it ends in the file.
const V2_HEADER: usize = 40;
const V2_HEADER_END: u64 = 11 + V2_HEADER as u64;

/// What is read of a CAR, in the order of the file: the roots once, then blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CarItem {
    Roots(Vec<Cid>),
    /// Not verified.
    Block(Cid, Bytes),
}

/// Why bytes are not a CAR; `at`: where in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarError {
    #[error("the CAR ends in the middle, at byte {at}")]
    Truncated { at: u64 },
    #[error("not a CAR: a bad length at byte {at}")]
    BadLength { at: u64 },
    #[error("not a CAR: a part of {len} bytes at byte {at}")]
    TooLarge { at: u64, len: u64 },
    #[error("not a CAR: its header is no header, {why}")]
    BadHeader { why: &'static str },
    #[error("a CAR of version {0}, which is not known")]
    Version(u64),
    #[error("not a CAR: no CID in the section at byte {at}")]
    BadCid { at: u64 },
}

/// Reads a CAR as it arrives. Push a piece, take all items, push the next: then no more than one
/// section and one piece are held. A block within one piece is a slice of it.
#[derive(Debug)]
pub struct CarReader {
    pieces: VecDeque<Bytes>,
    held: usize,
    /// Bytes of the file taken so far.
    at: u64,
    state: State,
    /// What is left of the payload; the end is not known for a bare CARv1.
    left: u64,
    wrapped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A header's length comes next, or (with a length) the header.
    Header(Option<usize>),
    V2Header,
    Padding(u64),
    Section(Option<usize>),
    /// The payload of a CARv2 has ended; an index may follow.
    Ended,
    Failed,
}

impl Default for CarReader {
    fn default() -> Self {
        Self::new()
    }
}

impl CarReader {
    pub fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            held: 0,
            at: 0,
            state: State::Header(None),
            left: u64::MAX,
            wrapped: false,
        }
    }

    /// Adds the next piece of the file, of any length.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() && !matches!(self.state, State::Ended | State::Failed) {
            self.held += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The next item; `None`: more bytes are needed, or the file has ended. After an error there
    /// is nothing more.
    #[allow(clippy::should_implement_trait, reason = "an iterator would go on after an error")]
    pub fn next(&mut self) -> Result<Option<CarItem>, CarError> {
        let item = self.step();
        if item.is_err() {
            self.state = State::Failed;
        }
        if matches!(self.state, State::Ended | State::Failed) {
            self.pieces.clear();
            self.held = 0;
        }
        item
    }

    /// Whether the file may end here; to be asked after the last item.
    pub fn end(&self) -> Result<(), CarError> {
        let whole = match self.state {
            State::Ended => true,
            State::Section(None) => self.held == 0 && !self.wrapped,
            _ => false,
        };
        if whole { Ok(()) } else { Err(CarError::Truncated { at: self.at + self.held as u64 }) }
    }

    /// Bytes pushed and not handed out yet.
    pub fn held(&self) -> usize {
        self.held
    }

    fn step(&mut self) -> Result<Option<CarItem>, CarError> {
        loop {
            match self.state {
                State::Header(None) => {
                    let Some(len) = self.length(MAX_HEADER)? else { return Ok(None) };
                    self.state = State::Header(Some(len));
                }
                State::Header(Some(len)) => {
                    let Some(header) = self.take(len)? else { return Ok(None) };
                    match read_header(&header)? {
                        (1, Some(roots)) => {
                            self.state = self.after_section();
                            return Ok(Some(CarItem::Roots(roots)));
                        }
                        (1, None) => return Err(CarError::BadHeader { why: "it has no roots" }),
                        (2, None) if !self.wrapped => self.state = State::V2Header,
                        (version, _) => return Err(CarError::Version(version)),
                    }
                }
                State::V2Header => {
                    let Some(mut header) = self.take(V2_HEADER)? else { return Ok(None) };
                    header.advance(16);
                    let (offset, size) = (header.get_u64_le(), header.get_u64_le());
                    let padding = offset.checked_sub(V2_HEADER_END);
                    let padding = padding.filter(|padding| *padding <= MAX_PADDING && size > 0);
                    let why = "its payload is out of place";
                    self.state = State::Padding(padding.ok_or(CarError::BadHeader { why })?);
                    self.wrapped = true;
                    self.left = size.saturating_add(padding.unwrap_or_default());
                }
                State::Padding(0) => self.state = State::Header(None),
                State::Padding(left) => {
                    let some = left.min(self.held as u64) as usize;
                    if some == 0 || self.take(some)?.is_none() {
                        return Ok(None);
                    }
                    self.state = State::Padding(left - some as u64);
                }
                State::Section(None) => {
                    let Some(len) = self.length(MAX_SECTION)? else { return Ok(None) };
                    self.state = State::Section(Some(len));
                }
                State::Section(Some(len)) => {
                    let at = self.at;
                    let Some(mut section) = self.take(len)? else { return Ok(None) };
                    let mut rest = &section[..];
                    let cid = Cid::read_bytes(&mut rest).map_err(|_| CarError::BadCid { at })?;
                    let data = rest.len();
                    if data > MAX_BLOCK {
                        return Err(CarError::TooLarge { at, len: data as u64 });
                    }
                    section.advance(len - data);
                    self.state = self.after_section();
                    return Ok(Some(CarItem::Block(cid, section)));
                }
                State::Ended | State::Failed => return Ok(None),
            }
        }
    }

    fn after_section(&self) -> State {
        if self.left == 0 { State::Ended } else { State::Section(None) }
    }

    /// The length in front of a part, once it is all here; checked before the part is waited for.
    fn length(&mut self, max: usize) -> Result<Option<usize>, CarError> {
        let at = self.at;
        let mut front = [0u8; 10];
        let mut got = 0;
        for byte in self.pieces.iter().flatten().take(front.len()) {
            front[got] = *byte;
            got += 1;
        }
        let read = read_varint(&front[..got]).map_err(|_| CarError::BadLength { at })?;
        let Some((len, used)) = read else { return Ok(None) };
        if len == 0 {
            return Err(CarError::BadLength { at });
        }
        if len > max as u64 {
            return Err(CarError::TooLarge { at, len });
        }
        Ok(self.take(used)?.map(|_| len as usize))
    }

    /// The next `len` bytes, once they are here.
    fn take(&mut self, len: usize) -> Result<Option<Bytes>, CarError> {
        if len as u64 > self.left {
            return Err(CarError::BadLength { at: self.at });
        }
        if self.held < len {
            return Ok(None);
        }
        self.held -= len;
        self.at += len as u64;
        if self.wrapped {
            self.left -= len as u64;
        }
        let taken = match self.pieces.front_mut() {
            Some(first) if first.len() >= len => first.split_to(len),
            _ => {
                let mut all = BytesMut::with_capacity(len);
                while let Some(piece) = self.pieces.front_mut()
                    && all.len() < len
                {
                    let part = piece.split_to(piece.len().min(len - all.len()));
                    all.extend_from_slice(&part);
                    if piece.is_empty() {
                        self.pieces.pop_front();
                    }
                }
                all.freeze()
            }
        };
        if self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
        Ok(Some(taken))
    }
}

/// The header of a CARv1 with these roots, its length in front.
pub fn car_header(roots: &[Cid]) -> Bytes {
    let mut body = vec![0xa2, 0x65];
    body.extend_from_slice(b"roots");
    write_head(&mut body, ARRAY, roots.len() as u64);
    for cid in roots {
        let bytes = cid.to_bytes();
        body.extend_from_slice(&[0xd8, CID_TAG]);
        write_head(&mut body, BYTES, bytes.len() as u64 + 1);
        body.push(0);
        body.extend_from_slice(&bytes);
    }
    body.push(0x67);
    body.extend_from_slice(b"version\x01");
    let mut out = Vec::with_capacity(body.len() + 3);
    write_varint(&mut out, body.len() as u64);
    out.extend_from_slice(&body);
    out.into()
}

/// A section: what stands in front of the block's bytes, and these.
pub fn car_section(block: &Block) -> [Bytes; 2] {
    let (cid, data) = (block.cid().to_bytes(), block.data().clone());
    let len = (cid.len() + data.len()) as u64;
    let mut head = Vec::with_capacity(varint_len(len) + cid.len());
    write_varint(&mut head, len);
    head.extend_from_slice(&cid);
    [head.into(), data]
}

// The major types of CBOR that a header is made of, and dag-cbor's one tag.
const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const CID_TAG: u8 = 42;

fn write_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    match value {
        0..24 => out.push(major | value as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, value as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        _ => {
            out.push(major | 26);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
    }
}

/// The version and the roots that a header (without its length) gives.
fn read_header(header: &[u8]) -> Result<(u64, Option<Vec<Cid>>), CarError> {
    let mut cbor = Cbor(header);
    let (mut version, mut roots) = (None, None);
    for _ in 0..cbor.expect(MAP)? {
        let key = cbor.expect(TEXT)?;
        match cbor.bytes(key)? {
            b"version" if version.is_none() => version = Some(cbor.expect(UINT)?),
            b"roots" if roots.is_none() => {
                let count = cbor.expect(ARRAY)?;
                // Each takes bytes of the header, so this is bounded; nothing is reserved.
                let mut cids = Vec::new();
                for _ in 0..count {
                    cids.push(cbor.cid()?);
                }
                roots = Some(cids);
            }
            _ => return Err(CarError::BadHeader { why: "an unknown field or one twice" }),
        }
    }
    if !cbor.0.is_empty() {
        return Err(CarError::BadHeader { why: "something follows it" });
    }
    let version = version.ok_or(CarError::BadHeader { why: "it has no version" })?;
    Ok((version, roots))
}

/// What is left of a header: CBOR with definite, shortest lengths only, as dag-cbor has it.
struct Cbor<'a>(&'a [u8]);

impl<'a> Cbor<'a> {
    /// The value in the head of an item of type `major`.
    fn expect(&mut self, major: u8) -> Result<u64, CarError> {
        let bad = |why| CarError::BadHeader { why };
        let (first, rest) = self.0.split_first().ok_or(bad("it is cut off"))?;
        if first >> 5 != major {
            return Err(bad("a value of another type"));
        }
        self.0 = rest;
        let (len, least) = match first & 0x1f {
            value @ 0..24 => return Ok(u64::from(value)),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return Err(bad("a value of no definite length")),
        };
        let value = self.bytes(len)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if value < least { Err(bad("a number not in its shortest form")) } else { Ok(value) }
    }

    fn bytes(&mut self, len: u64) -> Result<&'a [u8], CarError> {
        let cut = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (bytes, rest) = cut.ok_or(CarError::BadHeader { why: "it is cut off" })?;
        self.0 = rest;
        Ok(bytes)
    }

    fn cid(&mut self) -> Result<Cid, CarError> {
        let bad = CarError::BadHeader { why: "a root is no CID" };
        if self.expect(TAG)? != u64::from(CID_TAG) {
            return Err(bad);
        }
        let len = self.expect(BYTES)?;
        let cid = self.bytes(len)?.strip_prefix(&[0]);
        cid.and_then(|bytes| Cid::try_from(bytes).ok()).ok_or(bad)
    }
}

#[cfg(test)]
mod tests;
