//! The frames of a direct-message stream: a 4-byte big-endian length, then JSON
//! `{"type":"data"|"ack","id":STRING,"data"?:BASE64(JSON value)}`.
//!
//! Bytes go as the JSON string of their base64, which is how Go and most others put bytes into JSON,
//! and the frame says so: `"bytes":true`. A peer that does not know the field ignores it and gets
//! the string; no JSON value can be mistaken for bytes.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::{
    MAX_FRAME, MAX_ID, MAX_VALUE,
    value::{Value, check_json},
};

/// Bytes of the length before each frame.
const HEADER: usize = 4;
/// Bytes that a sender must deliver before the rest of what it announced is allocated at once.
const FIRST_ALLOCATION: usize = 16 << 10;
/// Longest text about a bad frame.
const MAX_REASON: usize = 128;

/// What one frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message, which the other side acknowledges by its id.
    Data { id: String, value: Value },
    /// The message with this id, which came the other way, was taken.
    Ack { id: String },
}

/// Why the bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    #[error("a frame of {len} bytes, at most {MAX_FRAME}")]
    TooLarge { len: usize },
    #[error("a value of {len} bytes, at most {MAX_VALUE}")]
    ValueTooLarge { len: usize },
    #[error("not the JSON of a frame: {reason}")]
    Json { reason: String },
    #[error("an id of {len} bytes, at most {MAX_ID} and not none")]
    Id { len: usize },
    #[error("the frame's type is neither data nor ack")]
    Type,
    #[error("the frame's data is not base64")]
    Base64,
    #[error("the frame's data is not a JSON value: {reason}")]
    Value { reason: String },
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    data: Option<Cow<'a, str>>,
    #[serde(default)]
    bytes: bool,
}

impl Frame {
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Data { id, value } => encode_data(id, value),
            Self::Ack { id } => encode_ack(id),
        }
    }

    /// From the JSON, without the length.
    pub fn decode(json: &[u8]) -> Result<Self, FrameError> {
        let wire: Wire = serde_json::from_slice(json).map_err(|error| {
            let mut reason = error.to_string();
            reason.truncate(reason.floor_char_boundary(MAX_REASON));
            FrameError::Json { reason }
        })?;
        let id = wire.id;
        if id.is_empty() || id.len() > MAX_ID {
            return Err(FrameError::Id { len: id.len() });
        }
        let id = id.into_owned();
        match &*wire.kind {
            "ack" => Ok(Self::Ack { id }),
            "data" => {
                let data = wire.data.unwrap_or_default();
                Ok(Self::Data { id, value: decode_value(&data, wire.bytes)? })
            }
            _ => Err(FrameError::Type),
        }
    }
}

/// A data frame.
pub(super) fn encode_data(id: &str, value: &Value) -> Bytes {
    let (json, mark) = match value {
        Value::Json(text) => (Cow::Borrowed(text), ""),
        Value::Bytes(bytes) => {
            let mut text = String::with_capacity(encoded_len(bytes.len()) + 2);
            text.push('"');
            STANDARD.encode_string(bytes, &mut text);
            text.push('"');
            (Cow::Owned(text), ",\"bytes\":true")
        }
    };
    let mut body = frame_start("data", id, encoded_len(json.len()));
    body.push_str(",\"data\":\"");
    STANDARD.encode_string(json.as_bytes(), &mut body);
    body.push('"');
    body.push_str(mark);
    frame_end(body)
}

pub(super) fn encode_ack(id: &str) -> Bytes {
    frame_end(frame_start("ack", id, 0))
}

/// Characters that `len` bytes become in base64.
pub(super) const fn encoded_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// Room for the length, and the fields that both types have.
fn frame_start(kind: &str, id: &str, data: usize) -> String {
    let mut out = String::with_capacity(data + id.len() + 64);
    out.push_str("\0\0\0\0{\"type\":\"");
    out.push_str(kind);
    out.push_str("\",\"id\":");
    out.push_str(&serde_json::Value::from(id).to_string());
    out
}

fn frame_end(mut body: String) -> Bytes {
    body.push('}');
    let mut frame = body.into_bytes();
    // What is sent was checked to be far smaller than this.
    let len = u32::try_from(frame.len() - HEADER).unwrap_or(u32::MAX);
    frame[..HEADER].copy_from_slice(&len.to_be_bytes());
    frame.into()
}

fn decode_value(data: &str, bytes: bool) -> Result<Value, FrameError> {
    // Before it is decoded: what base64 becomes is known from its length, but for the padding.
    let decoded = data.len() / 4 * 3;
    let most = if bytes { encoded_len(MAX_VALUE) + 2 } else { MAX_VALUE };
    if decoded > most + 2 {
        return Err(FrameError::ValueTooLarge { len: decoded });
    }
    let json = STANDARD.decode(data).map_err(|_| FrameError::Base64)?;
    let not_json = |reason: &str| FrameError::Value { reason: reason.to_owned() };
    let json = String::from_utf8(json).map_err(|_| not_json("it is not UTF-8"))?;
    let value = if bytes {
        let text = json.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let text = text.ok_or_else(|| not_json("bytes are a string of base64"))?;
        Value::Bytes(STANDARD.decode(text).map_err(|_| FrameError::Base64)?.into())
    } else {
        Value::Json(json)
    };
    if value.size() > MAX_VALUE {
        return Err(FrameError::ValueTooLarge { len: value.size() });
    }
    if let Value::Json(text) = &value {
        check_json(text).map_err(|reason| FrameError::Value { reason })?;
    }
    Ok(value)
}

/// Cuts a stream of bytes into frames. Refuses a length above [`MAX_FRAME`] before anything is
/// allocated for it; holds what has arrived of one frame.
#[derive(Debug, Default)]
pub struct FrameReader {
    header: [u8; HEADER],
    header_len: usize,
    /// The length of the frame under way.
    len: Option<usize>,
    body: Vec<u8>,
    failed: Option<FrameError>,
}

impl FrameReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input` until a frame is whole; `None`: all were taken and more
    /// are needed. An error is final: the place where the next frame starts is lost.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.read_on(input).inspect_err(|error| {
            self.failed = Some(error.clone());
            self.body = Vec::new();
        })
    }

    /// Whether the stream may end here: no frame is half read.
    pub fn is_between_frames(&self) -> bool {
        self.header_len == 0
    }

    /// The length that the frame under way was announced with; 0 if that is not known yet.
    pub fn announced(&self) -> usize {
        self.len.unwrap_or_default()
    }

    fn read_on(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        while self.len.is_none() {
            let [byte, rest @ ..] = *input else { return Ok(None) };
            *input = rest;
            self.header_byte(*byte)?;
        }
        let len = self.announced();
        let missing = len - self.body.len();
        let (part, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        let frame = if part.len() == len {
            // Whole in one piece: not copied.
            Frame::decode(part)?
        } else {
            if self.body.len() + part.len() > self.body.capacity() {
                let first = self.body.is_empty() && part.len() <= FIRST_ALLOCATION;
                self.body.reserve_exact(if first {
                    missing.min(FIRST_ALLOCATION)
                } else {
                    missing
                });
            }
            self.body.extend_from_slice(part);
            if self.body.len() < len {
                return Ok(None);
            }
            Frame::decode(&std::mem::take(&mut self.body))?
        };
        (self.header_len, self.len) = (0, None);
        Ok(Some(frame))
    }

    fn header_byte(&mut self, byte: u8) -> Result<(), FrameError> {
        if let Some(place) = self.header.get_mut(self.header_len) {
            *place = byte;
            self.header_len += 1;
        }
        if self.header_len == HEADER {
            let len = u32::from_be_bytes(self.header) as usize;
            if len > MAX_FRAME {
                return Err(FrameError::TooLarge { len });
            }
            self.len = Some(len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
