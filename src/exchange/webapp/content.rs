//! Type 3 on its way in: one JSON object whose `content` may be gigabytes, read as it arrives.
//! Fields come in any order (Go sorts them by name, so `content` comes before `rawNode` there),
//! with any white space and escapes.

use std::collections::BTreeMap;

use bytes::Bytes;
use cid::Cid;

use super::base64_value::Base64Value;
use super::fields::{Field, FieldSet};
use super::frame::HEADER;
use super::json::{self, ValueEnd};
use super::{MAX_CONTENT_BODY, MAX_KEY, WireError, frame, kind};

/// What arrived. `RawNode` comes at most once; it and the `Content` pieces come in the order of
/// the message, which may be either. A piece has [`super::CONTENT_PIECE`] bytes but for the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentEvent {
    BodyLength(u32),
    RawNode(Bytes),
    Content(Bytes),
    Done(ContentDone),
}

/// What the whole message said. Without an `error`, a raw node has been handed out, and a file
/// has a `content_len`, a directory has `entries`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentDone {
    pub cid: Option<Cid>,
    pub is_directory: bool,
    pub mime_type: Option<String>,
    pub entries: Option<BTreeMap<String, Cid>>,
    /// Why the peer has nothing to give, in its own words, cut and cleaned.
    pub error: Option<String>,
    /// Bytes of content handed out, if there was such a field.
    pub content_len: Option<u64>,
}

/// Reads the answer to [`super::Request::File`], in pieces of any size; holds at most one piece
/// of content, the raw node and the small fields.
#[derive(Debug)]
pub struct ContentDecoder {
    max_body: u32,
    header: [u8; HEADER],
    header_len: usize,
    /// Bytes of the body still to come.
    left: u64,
    state: State,
    fields: FieldSet,
    error: Option<WireError>,
}

const WHAT: &str = "a file's content";

/// Where in the object the next byte is.
#[derive(Debug)]
enum State {
    Header,
    Open,
    /// Before a field's name; `first`: the object may end instead.
    Name {
        first: bool,
    },
    InName {
        end: ValueEnd,
        text: Vec<u8>,
    },
    Colon(Field),
    Value(Field),
    InValue {
        field: Field,
        end: ValueEnd,
        text: Vec<u8>,
    },
    InBase64(Base64Value),
    AfterValue,
    Closed,
    Done,
}

impl Default for ContentDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ContentDecoder {
    pub fn new() -> Self {
        Self::with_limit(MAX_CONTENT_BODY)
    }

    /// Refuses bodies above `max_body` bytes when their length is read.
    pub fn with_limit(max_body: u32) -> Self {
        Self {
            max_body,
            header: [0; HEADER],
            header_len: 0,
            left: 0,
            state: State::Header,
            fields: FieldSet::default(),
            error: None,
        }
    }

    /// What `bytes` bring. After an error every call returns the same error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<ContentEvent>, WireError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let mut events = Vec::new();
        match self.read(bytes, &mut events) {
            Ok(()) => Ok(events),
            Err(error) => {
                self.state = State::Done;
                self.error = Some(error.clone());
                Err(error)
            }
        }
    }

    /// To be called when the stream ends: an error unless `Done` has been handed out.
    pub fn end(&self) -> Result<(), WireError> {
        match (&self.error, &self.state) {
            (Some(error), _) => Err(error.clone()),
            (None, State::Done) => Ok(()),
            _ => {
                let body = if self.header_len == HEADER { self.announced() } else { 0 };
                let want = HEADER as u64 + body;
                let have = self.header_len as u64 + body - self.left.min(body);
                Err(WireError::Truncated { what: WHAT, have, want })
            }
        }
    }

    fn announced(&self) -> u64 {
        let [_, a, b, c, d] = self.header;
        u64::from(u32::from_be_bytes([a, b, c, d]))
    }

    fn read(&mut self, bytes: &[u8], events: &mut Vec<ContentEvent>) -> Result<(), WireError> {
        let mut input = bytes;
        while let (State::Header, [byte, rest @ ..]) = (&self.state, input) {
            input = rest;
            self.header_byte(*byte, events)?;
        }
        let body_len = input.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let (mut body, after) = input.split_at(body_len);
        while !body.is_empty() {
            let used = self.step(body, events)?;
            self.left -= used as u64;
            body = &body[used..];
        }
        if self.left == 0 && !matches!(self.state, State::Header | State::Done) {
            let State::Closed = self.state else {
                return Err(bad_json("it ends before the object does"));
            };
            events.push(ContentEvent::Done(self.fields.finish()?));
            self.state = State::Done;
        }
        if after.is_empty() { Ok(()) } else { Err(WireError::TrailingBytes { what: WHAT }) }
    }

    fn header_byte(&mut self, byte: u8, events: &mut Vec<ContentEvent>) -> Result<(), WireError> {
        if let Some(place) = self.header.get_mut(self.header_len) {
            *place = byte;
            self.header_len += 1;
        }
        if self.header[0] != kind::FILE_CONTENT {
            return Err(WireError::UnexpectedType { expected: WHAT, found: self.header[0] });
        }
        if self.header_len == HEADER {
            let len = self.announced() as u32;
            frame::check_len(WHAT, len, self.max_body)?;
            self.left = u64::from(len);
            self.state = State::Open;
            events.push(ContentEvent::BodyLength(len));
        }
        Ok(())
    }

    /// Takes some of `input`, which is not empty; returns how much.
    fn step(&mut self, input: &[u8], events: &mut Vec<ContentEvent>) -> Result<usize, WireError> {
        match &mut self.state {
            State::InName { end, text } => {
                let (used, whole) = end.scan(WHAT, input)?;
                append("a field's name", text, &input[..used], MAX_KEY)?;
                if whole {
                    let name: String = json::parse("a field's name", text)?;
                    self.state = State::Colon(self.fields.begin(&name)?);
                }
                Ok(used)
            }
            State::InValue { field, end, text } => {
                let (used, whole) = end.scan(field.name(), input)?;
                let max = self.fields.room(*field);
                append(field.name(), text, &input[..used], max)?;
                if whole {
                    self.fields.set(*field, text)?;
                    self.state = State::AfterValue;
                }
                Ok(used)
            }
            State::InBase64(value) => {
                let (used, whole) = value.read(input, events)?;
                if whole {
                    self.fields.streamed(value.field, value.len);
                    self.state = State::AfterValue;
                }
                Ok(used)
            }
            _ => self.punctuation(input),
        }
    }

    /// One byte between names and values, after any white space.
    fn punctuation(&mut self, input: &[u8]) -> Result<usize, WireError> {
        let blank = input.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        let Some(byte) = input.get(blank) else { return Ok(blank) };
        let (next, used) = match (&self.state, byte) {
            (State::Open, b'{') => (State::Name { first: true }, 1),
            (State::Name { .. }, b'"') => {
                (State::InName { end: ValueEnd::default(), text: Vec::new() }, 0)
            }
            (State::Name { first: true } | State::AfterValue, b'}') => (State::Closed, 1),
            (State::AfterValue, b',') => (State::Name { first: false }, 1),
            (State::Colon(field), b':') => (State::Value(*field), 1),
            (State::Value(field), b'"') if field.is_streamed() => {
                (State::InBase64(Base64Value::new(*field)), 1)
            }
            (State::Value(_), b',' | b'}' | b']') => return Err(bad_json("a value is missing")),
            (State::Value(field), _) => {
                let (field, end, text) = (*field, ValueEnd::default(), Vec::new());
                (State::InValue { field, end, text }, 0)
            }
            _ => return Err(bad_json("a character is out of place")),
        };
        self.state = next;
        Ok(blank + used)
    }
}

/// Appends to a value that must not outgrow its field.
fn append(
    what: &'static str,
    text: &mut Vec<u8>,
    more: &[u8],
    max: usize,
) -> Result<(), WireError> {
    let len = text.len() + more.len();
    if len > max {
        return Err(WireError::TooLarge { what, len: len as u64, max: max as u64 });
    }
    text.extend_from_slice(more);
    Ok(())
}

fn bad_json(reason: &str) -> WireError {
    WireError::Json { what: WHAT, reason: reason.to_owned() }
}
