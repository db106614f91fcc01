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
/// A message that lies whole in one pushed piece is not copied.
#[derive(Default)]
pub struct MessageReader {
    /// What was pushed and not yet read; as long as the caller drains, at most one piece.
    pieces: VecDeque<Bytes>,
    prefix: Vec<u8>,
    /// The length that the message under way has.
    len: Option<usize>,
    body: BytesMut,
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

    /// The next whole message; `None` if more bytes are needed. An error is final: the place where
    /// the next message starts is lost.
    #[allow(clippy::should_implement_trait, reason = "an iterator would not fail")]
    pub fn next(&mut self) -> Result<Option<Message>, MessageError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.next_body().and_then(|body| body.map(Message::decode).transpose()).inspect_err(
            |error| {
                self.failed = Some(*error);
                self.pieces.clear();
                self.body = BytesMut::new();
            },
        )
    }

    /// Whether the stream may end here: no message is half read.
    pub fn is_between_messages(&self) -> bool {
        self.pieces.is_empty() && self.prefix.is_empty() && self.len.is_none()
    }

    fn next_body(&mut self) -> Result<Option<Bytes>, MessageError> {
        while let Some(piece) = self.pieces.front_mut() {
            let body = match self.len {
                None => {
                    self.prefix.push(piece.get_u8());
                    match read_varint(&self.prefix)? {
                        Some((len, _)) if len > MAX_MESSAGE as u64 => {
                            return Err(MessageError::TooLarge { len });
                        }
                        None if self.prefix.len() >= MAX_LENGTH_PREFIX => {
                            return Err(MessageError::TooLarge { len: u64::MAX });
                        }
                        Some((len, _)) => {
                            self.prefix.clear();
                            self.len = Some(len as usize);
                            (len == 0).then(Bytes::new)
                        }
                        None => None,
                    }
                }
                Some(len) if self.body.is_empty() && piece.len() >= len => {
                    Some(piece.split_to(len))
                }
                Some(len) => {
                    let missing = len - self.body.len();
                    let part = piece.split_to(missing.min(piece.len()));
                    if self.body.len() + part.len() > self.body.capacity() {
                        let first = self.body.is_empty() && part.len() <= FIRST_ALLOCATION;
                        self.body.reserve(if first {
                            missing.min(FIRST_ALLOCATION)
                        } else {
                            missing
                        });
                    }
                    self.body.extend_from_slice(&part);
                    (self.body.len() == len).then(|| std::mem::take(&mut self.body).freeze())
                }
            };
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            if body.is_some() {
                self.len = None;
                return Ok(body);
            }
        }
        Ok(None)
    }
}
