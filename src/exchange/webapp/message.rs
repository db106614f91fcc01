//! Requests (types 0 and 2) and the errors of the whole codec.

use bytes::Bytes;
use cid::Cid;
use serde::{Deserialize, Serialize};

use super::frame::{self, BodyReader, Header};
use super::json;
use super::{MAX_REQUEST, kind};

/// What a peer may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    FileList,
    File { cid: Cid },
}

/// Why bytes are not a message of this protocol. Texts of the remote are cut and cleaned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    #[error("message type {found} where {expected} was expected")]
    UnexpectedType { expected: &'static str, found: u8 },
    #[error("{what} of {len} bytes, more than the {max} allowed")]
    TooLarge { what: &'static str, len: u64, max: u64 },
    #[error("more than {max} entries in {what}")]
    TooManyEntries { what: &'static str, max: usize },
    #[error("{what} is nested more than {max} deep")]
    TooDeep { what: &'static str, max: usize },
    #[error("the stream ended after {have} bytes of {what}, {want} were announced")]
    Truncated { what: &'static str, have: u64, want: u64 },
    #[error("bytes after the end of {what}")]
    TrailingBytes { what: &'static str },
    #[error("{what} is not the JSON expected: {reason}")]
    Json { what: &'static str, reason: String },
    #[error("field {field} is given twice")]
    DuplicateField { field: &'static str },
    #[error("field {field} is missing")]
    MissingField { field: &'static str },
    #[error("field {field} is not base64")]
    Base64 { field: &'static str },
    #[error("{field} \"{text}\" is not a CID")]
    BadCid { field: &'static str, text: String },
    #[error("path \"{path}\" is refused: {why}")]
    BadPath { path: String, why: &'static str },
    #[error("content of {want} bytes was announced and {have} were given")]
    ContentLength { have: u64, want: u64 },
}

/// Reads one request from a stream's bytes, in pieces of any size.
#[derive(Debug)]
pub struct RequestDecoder {
    reader: BodyReader,
}

#[derive(Serialize, Deserialize)]
struct GetFile<'a> {
    #[serde(borrow)]
    cid: std::borrow::Cow<'a, str>,
}

impl Request {
    /// The message as it goes on the stream.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::FileList => Bytes::from_static(&[kind::GET_FILE_LIST]),
            Self::File { cid } => {
                // Base-encoded text of a CID never needs an escape.
                let body = format!("{{\"cid\":\"{cid}\"}}");
                frame::message(kind::GET_FILE, body.as_bytes(), body.len() as u32)
            }
        }
    }
}

impl Default for RequestDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestDecoder {
    pub fn new() -> Self {
        Self { reader: BodyReader::new("a request", accept) }
    }

    /// The request once it is complete, `None` while more bytes are needed. Bytes after it are
    /// an error: a stream carries one request.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Request>, WireError> {
        match self.reader.push(bytes)? {
            None => Ok(None),
            Some((kind::GET_FILE_LIST, _)) => Ok(Some(Request::FileList)),
            Some((_, body)) => {
                let GetFile { cid } = json::parse("a request", &body)?;
                Ok(Some(Request::File { cid: json::cid("cid", &cid)? }))
            }
        }
    }

    /// To be called when the stream ends: an error unless a whole request has been read.
    pub fn end(&self) -> Result<(), WireError> {
        self.reader.end()
    }
}

fn accept(found: u8) -> Result<Header, WireError> {
    match found {
        kind::GET_FILE_LIST => Ok(Header::Alone),
        kind::GET_FILE => Ok(Header::Body { max: MAX_REQUEST }),
        _ => Err(WireError::UnexpectedType { expected: "a request", found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    fn decode(bytes: &[u8]) -> Result<Option<Request>, WireError> {
        RequestDecoder::new().push(bytes)
    }

    fn file_message(body: &str) -> Vec<u8> {
        frame::message(kind::GET_FILE, body.as_bytes(), body.len() as u32).to_vec()
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(&Request::FileList.encode()[..], &[0]);
        let request = Request::File { cid: CID.parse().expect("a CID") };
        let golden = format!("\x02\0\0\0\x45{{\"cid\":\"{CID}\"}}");
        assert_eq!(request.encode(), golden.as_bytes());
        assert_eq!(decode(golden.as_bytes()), Ok(Some(request)));
        assert_eq!(decode(&[0]), Ok(Some(Request::FileList)));
    }

    #[test]
    fn any_cut_needs_more_and_the_rest_completes_it() {
        let request = Request::File { cid: CID.parse().expect("a CID") };
        let bytes = request.encode();
        for cut in 0..bytes.len() {
            let mut decoder = RequestDecoder::new();
            assert_eq!(decoder.push(&bytes[..cut]), Ok(None), "{cut}");
            assert!(matches!(decoder.end(), Err(WireError::Truncated { .. })));
            assert_eq!(decoder.push(&bytes[cut..]), Ok(Some(request.clone())), "{cut}");
            assert_eq!(decoder.end(), Ok(()));
            assert!(decoder.push(b"x").is_err());
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [&[1][..], &[3], &[9], &[0, 0]] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
        for body in ["", "{}", "null", "[]", r#"{"cid":1}"#, r#"{"cid":"b"}"#, r#"{"cid":""}"#] {
            assert!(decode(&file_message(body)).is_err(), "{body}");
        }
        let twice = format!(r#"{{"cid":"{CID}","cid":"{CID}"}}"#);
        assert!(decode(&file_message(&twice)).is_err());
    }

    #[test]
    fn a_length_is_checked_before_the_body_arrives() {
        let lie = decode(&[2, 0xff, 0xff, 0xff, 0xff]);
        let max = u64::from(MAX_REQUEST);
        let len = u64::from(u32::MAX);
        assert_eq!(lie, Err(WireError::TooLarge { what: "a request", len, max }));
    }

    #[test]
    fn white_space_escapes_and_unknown_fields_are_read() {
        let body = format!(" {{ \"new\" : [1,{{}}] , \"\\u0063id\" : \"{CID}\" }}\n");
        assert!(matches!(decode(&file_message(&body)), Ok(Some(Request::File { .. }))));
    }
}
