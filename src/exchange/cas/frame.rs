//! Where a message begins and ends: behind its length, or bare.

use super::MessageError;
use crate::content::varint::{read_varint, write_varint};

/// Deepest nesting of a bare value.
const MAX_DEPTH: u32 = 16;

/// Collects one message as it arrives. Grows with what has come, never to what was announced.
#[derive(Debug)]
pub struct FrameReader {
    max: usize,
    buffer: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Unknown,
    /// Where the body begins and ends.
    Framed {
        start: usize,
        end: usize,
    },
    /// How far it was looked at, and what was found: it ends when `depth` is back at 0.
    Bare {
        seen: usize,
        depth: u32,
        in_string: bool,
        escaped: bool,
    },
}

impl FrameReader {
    /// For a message of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max, buffer: Vec::new(), kind: Kind::Unknown }
    }

    /// Adds what has arrived; whether the message is whole. What follows it is an error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, MessageError> {
        if self.buffer.len() + bytes.len() > self.max + 10 {
            return Err(MessageError::TooLarge { max: self.max });
        }
        self.buffer.extend_from_slice(bytes);
        if let Kind::Unknown = self.kind {
            self.kind = self.recognise()?;
        }
        let end = match self.kind {
            Kind::Unknown => return Ok(false),
            Kind::Framed { end, .. } => end,
            Kind::Bare { .. } => match self.scan()? {
                Some(end) => end,
                None => return Ok(false),
            },
        };
        // White space after a bare value is no harm.
        let rest = self.buffer.get(end..).unwrap_or_default();
        match (self.kind, rest) {
            (_, []) => Ok(self.buffer.len() == end),
            (Kind::Bare { .. }, rest) if rest.trim_ascii().is_empty() => Ok(true),
            _ => Err(MessageError::Trailing),
        }
    }

    /// How long the message is, as far as that can be told by now.
    pub fn announced(&self) -> usize {
        match self.kind {
            Kind::Framed { start, end } => end - start,
            _ => self.buffer.len(),
        }
    }

    /// Whether it came without its length in front.
    pub fn is_bare(&self) -> bool {
        matches!(self.kind, Kind::Bare { .. })
    }

    /// The message's JSON, once it is whole.
    pub fn body(&self) -> &[u8] {
        match self.kind {
            Kind::Framed { start, end } => self.buffer.get(start..end).unwrap_or_default(),
            _ => &self.buffer,
        }
    }

    /// A brace can be the length 123, but then another follows, which no JSON value begins with.
    fn recognise(&self) -> Result<Kind, MessageError> {
        match self.buffer.as_slice() {
            [] | [b'{'] => return Ok(Kind::Unknown),
            [b'{', second, ..] if *second != b'{' => {
                return Ok(Kind::Bare { seen: 0, depth: 0, in_string: false, escaped: false });
            }
            _ => {}
        }
        let front = self.buffer.get(..10).unwrap_or(&self.buffer);
        let Some((len, start)) = read_varint(front).map_err(|_| MessageError::BadLength)? else {
            return Ok(Kind::Unknown);
        };
        match usize::try_from(len) {
            Ok(0) => Err(MessageError::BadLength),
            Ok(len) if len <= self.max => Ok(Kind::Framed { start, end: start + len }),
            _ => Err(MessageError::TooLarge { max: self.max }),
        }
    }

    /// Looks for the end of a bare object.
    fn scan(&mut self) -> Result<Option<usize>, MessageError> {
        let Kind::Bare { seen, mut depth, mut in_string, mut escaped } = self.kind else {
            return Ok(None);
        };
        let mut end = None;
        for (at, byte) in self.buffer.iter().enumerate().skip(seen) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' if depth == MAX_DEPTH => return Err(MessageError::TooDeep),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        end = Some(at + 1);
                        break;
                    }
                }
                _ => {}
            }
        }
        // At the end the scan begins at the last brace again, should white space follow.
        let seen = end.map_or(self.buffer.len(), |end| end - 1);
        let depth = if end.is_some() { 1 } else { depth };
        self.kind = Kind::Bare { seen, depth, in_string, escaped };
        Ok(end)
    }
}

/// `body` with its length in front.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    write_varint(&mut out, body.len() as u64);
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<Option<Vec<u8>>, MessageError> {
        let mut reader = FrameReader::new(200);
        let mut whole = false;
        for piece in bytes.chunks(piece) {
            whole = reader.push(piece)?;
        }
        Ok(whole.then(|| reader.body().to_vec()))
    }

    #[test]
    fn a_message_is_found_in_any_pieces_with_its_length_and_without() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(123 - 8));
        assert_eq!(long.len(), 123);
        for body in ["{}", r#"{"a":"}\"\\","b":[{}]}"#, &long] {
            let framed = framed(body.as_bytes());
            for piece in 1..framed.len() {
                assert_eq!(read(&framed, piece), Ok(Some(body.as_bytes().to_vec())));
                assert_eq!(read(body.as_bytes(), piece), Ok(Some(body.as_bytes().to_vec())));
                let spaced = format!("{body} \n");
                assert_eq!(read(spaced.as_bytes(), piece), Ok(Some(spaced.into_bytes())));
            }
            for cut in 0..body.len() {
                assert_eq!(read(&body.as_bytes()[..cut], 7), Ok(None));
                assert_eq!(read(&framed[..framed.len() - 1 - cut], 7), Ok(None));
            }
            assert_eq!(read(format!("{body}x").as_bytes(), 5), Err(MessageError::Trailing));
            assert_eq!(read(&[framed, b"x".to_vec()].concat(), 5), Err(MessageError::Trailing));
        }
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_refused_early() {
        let large = Err(MessageError::TooLarge { max: 200 });
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f], 1), large);
        assert_eq!(read(&[0xc9, 0x01], 1), large);
        assert_eq!(read(&[0x00], 1), Err(MessageError::BadLength));
        assert_eq!(read(&[0xff; 12], 1), Err(MessageError::BadLength));
        assert_eq!(read(format!("{{\"{}", "a".repeat(300)).as_bytes(), 9), large);
        let deep = format!("{{\"a\":{}", "[".repeat(20));
        assert_eq!(read(deep.as_bytes(), 3), Err(MessageError::TooDeep));
    }
}
