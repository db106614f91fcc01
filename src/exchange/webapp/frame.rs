//! The frame around every body: type, length, body. For the messages that are small enough to be
//! held whole; the file content of type 3 is read by `content.rs` as it arrives.

use bytes::Bytes;

use super::WireError;

/// Longest header: the type and the length.
pub(super) const HEADER: usize = 5;

/// What follows a type byte.
#[derive(Debug, Clone, Copy)]
pub(super) enum Header {
    Alone,
    Body { max: u32 },
}

/// Collects one message of a type that `accept` allows, as its bytes arrive.
#[derive(Debug)]
pub(super) struct BodyReader {
    what: &'static str,
    accept: fn(u8) -> Result<Header, WireError>,
    header: [u8; HEADER],
    header_len: usize,
    /// Known once the header is complete.
    body_len: Option<usize>,
    body: Vec<u8>,
    done: bool,
}

impl BodyReader {
    pub(super) fn new(what: &'static str, accept: fn(u8) -> Result<Header, WireError>) -> Self {
        Self {
            what,
            accept,
            header: [0; HEADER],
            header_len: 0,
            body_len: None,
            body: Vec::new(),
            done: false,
        }
    }

    /// The message's type and body once it is complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Option<(u8, Vec<u8>)>, WireError> {
        if self.done && !bytes.is_empty() {
            return Err(self.trailing());
        }
        while self.body_len.is_none() {
            let [byte, rest @ ..] = bytes else { return Ok(None) };
            bytes = rest;
            self.header_byte(*byte)?;
        }
        let body_len = self.body_len.unwrap_or_default();
        let take = bytes.len().min(body_len - self.body.len());
        let (body, rest) = bytes.split_at(take);
        // Grows with what has arrived, never to what was announced.
        self.body.extend_from_slice(body);
        if !rest.is_empty() {
            return Err(self.trailing());
        }
        if self.body.len() < body_len || self.done {
            return Ok(None);
        }
        self.done = true;
        Ok(Some((self.header[0], std::mem::take(&mut self.body))))
    }

    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.done {
            return Ok(());
        }
        let have = (self.header_len + self.body.len()) as u64;
        let want = (HEADER + self.body_len.unwrap_or_default()) as u64;
        Err(WireError::Truncated { what: self.what, have, want })
    }

    fn header_byte(&mut self, byte: u8) -> Result<(), WireError> {
        if let Some(place) = self.header.get_mut(self.header_len) {
            *place = byte;
            self.header_len += 1;
        }
        let [kind, a, b, c, d] = self.header;
        match (self.accept)(kind)? {
            Header::Alone => self.body_len = Some(0),
            Header::Body { max } if self.header_len == HEADER => {
                let len = u32::from_be_bytes([a, b, c, d]);
                check_len(self.what, len, max)?;
                self.body_len = Some(len as usize);
            }
            Header::Body { .. } => {}
        }
        Ok(())
    }

    fn trailing(&self) -> WireError {
        WireError::TrailingBytes { what: self.what }
    }
}

/// A message whose body is `body` followed by what the caller sends on its own, `body_len` in all.
pub(super) fn message(kind: u8, body: &[u8], body_len: u32) -> Bytes {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.push(kind);
    out.extend_from_slice(&body_len.to_be_bytes());
    out.extend_from_slice(body);
    out.into()
}

/// A whole message, if its body is within `max`.
pub(super) fn bounded_message(
    what: &'static str,
    kind: u8,
    body: &[u8],
    max: u32,
) -> Result<Bytes, WireError> {
    let len = body_len(what, body.len() as u64, max)?;
    Ok(message(kind, body, len))
}

/// A body's length as the prefix says it.
pub(super) fn body_len(what: &'static str, len: u64, max: u32) -> Result<u32, WireError> {
    match u32::try_from(len) {
        Ok(short) if short <= max => Ok(short),
        _ => Err(WireError::TooLarge { what, len, max: u64::from(max) }),
    }
}

pub(super) fn check_len(what: &'static str, len: u32, max: u32) -> Result<(), WireError> {
    body_len(what, u64::from(len), max).map(|_| ())
}
