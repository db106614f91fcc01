//! A JSON string of base64 (`rawNode`, `content`) decoded as it arrives: the run up to the next
//! quote or backslash goes to the decoder in one call, escapes are taken byte by byte.

use bytes::Bytes;

use super::base64_stream::Decoder;
use super::content::ContentEvent;
use super::fields::Field;
use super::{CONTENT_PIECE, MAX_RAW_NODE, WireError};

/// A string of base64 being decoded.
#[derive(Debug)]
pub(super) struct Base64Value {
    pub(super) field: Field,
    decoder: Decoder,
    out: Vec<u8>,
    /// Bytes decoded so far.
    pub(super) len: u64,
    escape: Escape,
}

#[derive(Debug, Clone, Copy)]
enum Escape {
    None,
    Backslash,
    Hex { value: u32, digits: u8 },
}

impl Base64Value {
    pub(super) fn new(field: Field) -> Self {
        Self { field, decoder: Decoder::default(), out: Vec::new(), len: 0, escape: Escape::None }
    }

    /// Takes some of the string; returns how much and whether it has ended.
    pub(super) fn read(
        &mut self,
        input: &[u8],
        events: &mut Vec<ContentEvent>,
    ) -> Result<(usize, bool), WireError> {
        if let (Escape::Backslash | Escape::Hex { .. }, Some(byte)) = (self.escape, input.first()) {
            self.escaped(*byte, events)?;
            return Ok((1, false));
        }
        let plain = input.iter().position(|b| matches!(b, b'"' | b'\\')).unwrap_or(input.len());
        self.decode(&input[..plain], events)?;
        match input.get(plain) {
            Some(b'"') => {
                self.decoder.end().map_err(|_| self.not_base64())?;
                self.hand_out(events);
                Ok((plain + 1, true))
            }
            Some(_) => {
                self.escape = Escape::Backslash;
                Ok((plain + 1, false))
            }
            None => Ok((plain, false)),
        }
    }

    /// One character of an escape. Only those that stand for a base64 character get through the
    /// decoder, so surrogates need no care.
    fn escaped(&mut self, byte: u8, events: &mut Vec<ContentEvent>) -> Result<(), WireError> {
        let character = match (self.escape, byte) {
            (Escape::Hex { value, digits }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or_else(|| self.not_base64())?;
                let value = value << 4 | digit;
                if digits < 3 {
                    self.escape = Escape::Hex { value, digits: digits + 1 };
                    return Ok(());
                }
                u8::try_from(value).map_err(|_| self.not_base64())?
            }
            (_, b'u') => {
                self.escape = Escape::Hex { value: 0, digits: 0 };
                return Ok(());
            }
            (_, b'/') => b'/',
            _ => return Err(self.not_base64()),
        };
        self.escape = Escape::None;
        self.decode(&[character], events)
    }

    fn decode(
        &mut self,
        mut input: &[u8],
        events: &mut Vec<ContentEvent>,
    ) -> Result<(), WireError> {
        let max = self.piece();
        while !input.is_empty() {
            let before = self.out.len();
            let used = self
                .decoder
                .decode(input, &mut self.out, max - before)
                .map_err(|_| self.not_base64())?;
            self.len += (self.out.len() - before) as u64;
            input = &input[used..];
            if self.field == Field::RawNode && self.len > MAX_RAW_NODE as u64 {
                let max = MAX_RAW_NODE as u64;
                return Err(WireError::TooLarge { what: "rawNode", len: self.len, max });
            }
            if self.out.len() == max {
                self.hand_out(events);
            }
        }
        Ok(())
    }

    /// Size of the pieces handed out: a whole number of groups, and a raw node in one piece.
    fn piece(&self) -> usize {
        match self.field {
            Field::RawNode => (MAX_RAW_NODE / 3 + 1) * 3,
            _ => CONTENT_PIECE,
        }
    }

    fn hand_out(&mut self, events: &mut Vec<ContentEvent>) {
        let piece = Bytes::from(std::mem::take(&mut self.out));
        match self.field {
            Field::RawNode => events.push(ContentEvent::RawNode(piece)),
            _ if piece.is_empty() => {}
            _ => events.push(ContentEvent::Content(piece)),
        }
    }

    fn not_base64(&self) -> WireError {
        WireError::Base64 { field: self.field.name() }
    }
}
