//! Type 3 on its way out: a file's content streamed, a directory or a failure in one piece.

use std::collections::BTreeMap;

use bytes::Bytes;
use cid::Cid;
use serde::Serialize;

use super::base64_stream::{Encoder, encoded_len};
use super::{
    MAX_CONTENT_BODY, MAX_ENTRIES, MAX_ENTRIES_JSON, MAX_ERROR_TEXT, MAX_PATH, MAX_RAW_NODE,
    MAX_SHORT_FIELD, WireError, frame, json, kind,
};

/// Writes the answer for one file without ever holding it: the head, then content in pieces of
/// any size, then the tail.
#[derive(Debug)]
pub struct FileEncoder {
    base64: Encoder,
    size: u64,
    pushed: u64,
    tail: String,
    body_len: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DirectoryOut<'a> {
    cid: String,
    is_directory: bool,
    raw_node: String,
    entries: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct FailureOut<'a> {
    cid: &'a str,
    error: &'a str,
}

impl FileEncoder {
    /// The encoder and the message's first bytes. `size` is the number of content bytes that
    /// will be pushed: the length goes first, so a file that base64 takes past the largest body
    /// is refused here.
    pub fn new(
        cid: &Cid,
        raw_node: &[u8],
        size: u64,
        mime_type: &str,
    ) -> Result<(Self, Bytes), WireError> {
        check_raw_node(raw_node)?;
        let mut head = format!("{{\"cid\":\"{cid}\",\"isDirectory\":false,\"rawNode\":\"");
        push_base64(raw_node, &mut head);
        head.push_str("\",\"content\":\"");
        let mime = json::mime(mime_type.to_owned()).unwrap_or_default();
        let tail = format!("\",\"mimeType\":{}}}", to_json("mimeType", &mime)?);
        let around = (head.len() + tail.len()) as u64;
        let body_len = encoded_len(size).saturating_add(around);
        let body_len = frame::body_len("a file's content", body_len, MAX_CONTENT_BODY)?;
        let head = frame::message(kind::FILE_CONTENT, head.as_bytes(), body_len);
        Ok((Self { base64: Encoder::default(), size, pushed: 0, tail, body_len }, head))
    }

    /// The length that the head announced.
    pub fn body_len(&self) -> u32 {
        self.body_len
    }

    /// The bytes to send for the next content; refuses more than was announced.
    pub fn push(&mut self, content: &[u8]) -> Result<Bytes, WireError> {
        let have = self.pushed.saturating_add(content.len() as u64);
        if have > self.size {
            return Err(WireError::ContentLength { have, want: self.size });
        }
        self.pushed = have;
        let mut out = String::new();
        self.base64.encode(content, &mut out);
        Ok(out.into())
    }

    /// The message's last bytes; an error if less was pushed than was announced, and then the
    /// stream must be reset.
    pub fn finish(self) -> Result<Bytes, WireError> {
        if self.pushed != self.size {
            return Err(WireError::ContentLength { have: self.pushed, want: self.size });
        }
        let mut out = String::new();
        self.base64.end(&mut out);
        out.push_str(&self.tail);
        Ok(out.into())
    }
}

/// The answer for a directory.
pub fn encode_directory(
    cid: &Cid,
    raw_node: &[u8],
    entries: &BTreeMap<String, Cid>,
) -> Result<Bytes, WireError> {
    const WHAT: &str = "a directory";
    check_raw_node(raw_node)?;
    if entries.len() > MAX_ENTRIES {
        return Err(WireError::TooManyEntries { what: WHAT, max: MAX_ENTRIES });
    }
    let entries = entries.iter().map(|(name, cid)| {
        json::check_name(name, MAX_PATH)?;
        Ok((name.as_str(), cid.to_string()))
    });
    let entries = entries.collect::<Result<_, WireError>>()?;
    let mut text = String::new();
    push_base64(raw_node, &mut text);
    let out = DirectoryOut { cid: cid.to_string(), is_directory: true, raw_node: text, entries };
    let body = to_json(WHAT, &out)?;
    let max = MAX_ENTRIES_JSON + encoded_len(MAX_RAW_NODE as u64) as usize;
    frame::bounded_message(WHAT, kind::FILE_CONTENT, body.as_bytes(), max as u32)
}

/// The answer when there is nothing to give. `cid` is what was asked for, as it was asked: it may
/// be no CID at all.
pub fn encode_failure(cid: &str, reason: &str) -> Result<Bytes, WireError> {
    let (cid, error) = (json::clean(cid, MAX_SHORT_FIELD / 4), json::clean(reason, MAX_ERROR_TEXT));
    let body = to_json("a failure", &FailureOut { cid: &cid, error: &error })?;
    frame::bounded_message("a failure", kind::FILE_CONTENT, body.as_bytes(), MAX_CONTENT_BODY)
}

fn check_raw_node(raw_node: &[u8]) -> Result<(), WireError> {
    let (len, max) = (raw_node.len() as u64, MAX_RAW_NODE as u64);
    if len > max { Err(WireError::TooLarge { what: "rawNode", len, max }) } else { Ok(()) }
}

fn push_base64(data: &[u8], out: &mut String) {
    let mut base64 = Encoder::default();
    base64.encode(data, out);
    base64.end(out);
}

fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, WireError> {
    serde_json::to_string(value)
        .map_err(|error| WireError::Json { what, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    fn cid() -> Cid {
        CID.parse().expect("a CID")
    }

    #[test]
    fn golden_bytes_of_a_file() {
        let body = format!(
            r#"{{"cid":"{CID}","isDirectory":false,"rawNode":"aGVsbG8gd29ybGQ=","content":"aGVsbG8gd29ybGQ=","mimeType":"text/plain"}}"#
        );
        let golden = [&b"\x03\0\0\0\xab"[..], body.as_bytes()].concat();
        for cut in 0..=11 {
            let (mut encoder, head) =
                FileEncoder::new(&cid(), b"hello world", 11, "text/plain").expect("small");
            assert_eq!(encoder.body_len() as usize, body.len());
            let (a, b) = b"hello world".split_at(cut);
            let pieces = [head, encoder.push(a).expect("fits"), encoder.push(b).expect("fits")];
            let bytes = [pieces.concat(), encoder.finish().expect("whole").to_vec()].concat();
            assert_eq!(bytes, golden, "{cut}");
        }
    }

    #[test]
    fn golden_bytes_of_a_directory_and_of_a_failure() {
        let entries = [("a\"b".to_owned(), cid())].into();
        let body = format!(
            r#"{{"cid":"{CID}","isDirectory":true,"rawNode":"CAE=","entries":{{"a\"b":"{CID}"}}}}"#
        );
        let directory = encode_directory(&cid(), &[8, 1], &entries).expect("small");
        assert_eq!(directory, [&b"\x03\0\0\0\xba"[..], body.as_bytes()].concat());
        let failure = encode_failure(CID, "file not found: a\nb").expect("small");
        let body = format!(r#"{{"cid":"{CID}","error":"file not found: a b"}}"#);
        assert_eq!(failure, [&b"\x03\0\0\0\x63"[..], body.as_bytes()].concat());
    }

    #[test]
    fn the_bytes_pushed_must_add_up() {
        let new = || FileEncoder::new(&cid(), b"", 4, "").expect("small").0;
        let mut encoder = new();
        assert_eq!(encoder.push(b"abcde"), Err(WireError::ContentLength { have: 5, want: 4 }));
        assert_eq!(encoder.push(b"abc").expect("fits"), "YWJj");
        assert_eq!(encoder.finish(), Err(WireError::ContentLength { have: 3, want: 4 }));
        assert!(new().finish().is_err());
    }

    #[test]
    fn a_file_past_the_prefix_is_refused() {
        for size in [3 << 30, u64::MAX] {
            let refused = FileEncoder::new(&cid(), b"", size, "").map(|_| ());
            assert!(matches!(refused, Err(WireError::TooLarge { .. })), "{size}");
        }
        assert!(FileEncoder::new(&cid(), b"", 3_221_000_000, "").is_ok());
        assert!(FileEncoder::new(&cid(), &vec![0; MAX_RAW_NODE + 1], 0, "").is_err());
        assert!(encode_directory(&cid(), b"", &[("a/b".to_owned(), cid())].into()).is_err());
    }
}
