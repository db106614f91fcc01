//! Cuts a stream of bytes into messages (the Bitswap specification: each message has an
//! unsigned-varint length before it).

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{MAX_MESSAGE, Message, MessageError};
use crate::content::varint::read_varint;

/// Bytes that a sender must deliver before the rest of what it announced is allocated at once.
const FIRST_ALLOCATION: usize = 128 << 10;
/// Longest length prefix within [`MAX_MESSAGE`].
const MAX_LENGTH_PREFIX: usize = 4;

/// Incremental framing: [`MessageReader::push`] what arrives, then call [`MessageReader::next`]
/// until it gives none. Refuses a length above [`MAX_MESSAGE`] before anything is allocated for it.
/// A message that lies whole in one pushed piece is not copied, nor is most of a large one if what
/// arrives is read into [`MessageReader::rest`].
#[derive(Default)]
pub struct MessageReader {
    /// What was pushed and not yet read; as long as the caller drains, at most one piece.
    pieces: VecDeque<Bytes>,
    prefix: Vec<u8>,
    /// The length that the message under way has.
    len: Option<usize>,
    /// Its bytes: of these, the first `filled` have come.
    body: BytesMut,
    filled: usize,
    failed: Option<MessageError>,
}

impl MessageReader {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() && self.failed.is_none() {
            self.pieces.push_back(bytes);
        }
    }

    /// Where the rest of a large message belongs, once enough of it has come; say with
    /// [`MessageReader::advance`] how much was read into it. Empty at any other time: push then.
    pub fn rest(&mut self) -> &mut [u8] {
        match self.len {
            Some(len) if self.pieces.is_empty() && self.filled >= FIRST_ALLOCATION => {
                self.make_room(self.filled + 1, len);
                self.body.get_mut(self.filled..).unwrap_or_default()
            }
            _ => &mut [],
        }
    }

    /// The first `len` bytes of [`MessageReader::rest`] are there now.
    pub fn advance(&mut self, len: usize) {
        self.filled = (self.filled + len).min(self.body.len());
    }

    /// The next whole message; `None` if more bytes are needed. An error is final: the place where
    /// the next message starts is lost.
    #[allow(clippy::should_implement_trait, reason = "an iterator would not fail")]
    pub fn next(&mut self) -> Result<Option<Message>, MessageError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.next_body().and_then(|body| body.map(Message::decode).transpose()).inspect_err(
            |error| {
                *self = Self { failed: Some(*error), ..Self::default() };
            },
        )
    }

    /// Whether the stream may end here: no message is half read.
    pub fn is_between_messages(&self) -> bool {
        self.pieces.is_empty() && self.prefix.is_empty() && self.len.is_none()
    }

    fn next_body(&mut self) -> Result<Option<Bytes>, MessageError> {
        loop {
            if let Some(len) = self.len
                && self.filled >= len
            {
                self.len = None;
                self.filled = 0;
                return Ok(Some(std::mem::take(&mut self.body).freeze()));
            }
            let Some(mut piece) = self.pieces.pop_front() else { return Ok(None) };
            let body = match self.len {
                None => self.start(piece.get_u8())?,
                Some(len) if self.filled == 0 && piece.len() >= len => Some(piece.split_to(len)),
                Some(len) => {
                    let part = piece.split_to((len - self.filled).min(piece.len()));
                    self.make_room(self.filled + part.len(), len);
                    if let Some(room) = self.body.get_mut(self.filled..self.filled + part.len()) {
                        room.copy_from_slice(&part);
                    }
                    self.filled += part.len();
                    None
                }
            };
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
            if body.is_some() {
                self.len = None;
                return Ok(body);
            }
        }
    }

    /// A byte of the length before a message. An empty message is whole with the last of it.
    fn start(&mut self, byte: u8) -> Result<Option<Bytes>, MessageError> {
        self.prefix.push(byte);
        match read_varint(&self.prefix)? {
            Some((len, _)) if len > MAX_MESSAGE as u64 => Err(MessageError::TooLarge { len }),
            None if self.prefix.len() >= MAX_LENGTH_PREFIX => {
                Err(MessageError::TooLarge { len: u64::MAX })
            }
            Some((len, _)) => {
                self.prefix.clear();
                self.len = Some(len as usize);
                Ok((len == 0).then(Bytes::new))
            }
            None => Ok(None),
        }
    }

    /// Makes the body of a message of `len` bytes long enough for its first `needed`.
    fn make_room(&mut self, needed: usize, len: usize) {
        if needed > self.body.len() {
            let first = needed <= FIRST_ALLOCATION;
            self.body.resize(if first { len.min(FIRST_ALLOCATION) } else { len }, 0);
        }
    }
}
