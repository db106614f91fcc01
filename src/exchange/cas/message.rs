//! What a request and an answer say.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use cid::{Cid, Version};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::{Map, Value};

use super::{MAX_CONTENT, MAX_PREFERRED, MAX_TEXT, frame::framed};
use crate::{
    content::{
        block::{Digest, RAW, cid_of},
        varint::write_varint,
    },
    exchange::fetch::source::SourceKind,
};

const GET_CONTENT: &str = "GET_CONTENT";

/// Why bytes are not a message of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("a message of more than {max} bytes")]
    TooLarge { max: usize },
    #[error("no length stands in front")]
    BadLength,
    #[error("something follows the message")]
    Trailing,
    #[error("the message ends early")]
    Truncated,
    #[error("the JSON is nested too deep")]
    TooDeep,
    #[error("no JSON of this protocol")]
    Json,
    #[error("it is no GET_CONTENT")]
    Type,
    #[error("its hash is neither a CID nor a SHA-256")]
    Hash,
    #[error("its content is not base64")]
    Base64,
}

/// A request for content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub cid: Cid,
    /// A DID.
    pub requester: Option<String>,
    pub preferred_sources: Vec<SourceKind>,
    /// Hops that it may go on.
    pub ttl: Option<u32>,
}

impl Request {
    /// With nothing but the CID.
    pub fn new(cid: Cid) -> Self {
        Self { cid, requester: None, preferred_sources: Vec::new(), ttl: None }
    }

    /// The message, its length in front.
    pub fn encode(&self) -> Bytes {
        let mut fields = Map::new();
        fields.insert("type".into(), GET_CONTENT.into());
        fields.insert("hash".into(), self.cid.to_string().into());
        if let Some(requester) = self.requester.as_ref().filter(|did| did.len() <= MAX_TEXT) {
            fields.insert("requesterId".into(), requester.as_str().into());
        }
        if !self.preferred_sources.is_empty() {
            let names = self.preferred_sources.iter().take(MAX_PREFERRED);
            let names = names.map(|kind| Value::from(name_of(*kind)));
            fields.insert("preferredSources".into(), names.collect());
        }
        if let Some(ttl) = self.ttl {
            fields.insert("ttl".into(), ttl.into());
        }
        framed(Value::Object(fields).to_string().as_bytes()).into()
    }

    /// Reads the JSON of a request. What rides along and is not understood is left out.
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return Err(MessageError::Json);
        };
        let text = |name| fields.get(name).and_then(Value::as_str);
        if text("type") != Some(GET_CONTENT) {
            return Err(MessageError::Type);
        }
        let cid = text("hash").and_then(cid_of_hash).ok_or(MessageError::Hash)?;
        let requester = text("requesterId").filter(|did| did.len() <= MAX_TEXT);
        let names = fields.get("preferredSources").and_then(Value::as_array).into_iter().flatten();
        let kinds = names.take(MAX_PREFERRED).filter_map(Value::as_str).filter_map(kind_of);
        let ttl = fields.get("ttl").and_then(Value::as_u64);
        Ok(Self {
            cid,
            requester: requester.map(str::to_owned),
            preferred_sources: kinds.collect(),
            ttl: ttl.map(|ttl| u32::try_from(ttl).unwrap_or(u32::MAX)),
        })
    }
}

/// The frame around an answer's content, for a sender that has the content in pieces.
#[derive(Debug)]
pub struct AnswerHead {
    /// Comes before the base64.
    pub head: Vec<u8>,
    /// Comes after it.
    pub tail: &'static [u8],
}

impl AnswerHead {
    /// For content of `len` bytes; `bare`: without a length in front, as the request came.
    pub fn new(cid: &Cid, len: usize, bare: bool) -> Self {
        let json = format!(r#"{{"hash":"{cid}","content":""#);
        let tail: &[u8] = br#""}"#;
        let body = json.len() + len.div_ceil(3) * 4 + tail.len();
        let mut head = Vec::with_capacity(json.len() + 5);
        if !bare {
            write_varint(&mut head, body as u64);
        }
        head.extend_from_slice(json.as_bytes());
        Self { head, tail }
    }
}

/// The whole answer where there is no content; `error` says why if it is worth saying.
pub fn answer_without(cid: &Cid, error: Option<&str>, bare: bool) -> Bytes {
    let mut fields = Map::new();
    fields.insert("hash".into(), cid.to_string().into());
    if let Some(error) = error {
        fields.insert("error".into(), error.into());
    }
    let body = Value::Object(fields).to_string();
    if bare { body.into() } else { framed(body.as_bytes()).into() }
}

/// The content of an answer, `None` if it has none. Its length is checked before it is decoded.
pub fn decode_answer(body: &[u8]) -> Result<Option<Bytes>, MessageError> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|_| MessageError::Json)?;
    let text = match &answer.content {
        Text::None => return Ok(None),
        Text::Borrowed(text) => text,
        Text::Owned(text) => text.as_str(),
    };
    if text.len() > MAX_CONTENT.div_ceil(3) * 4 {
        return Err(MessageError::TooLarge { max: MAX_CONTENT });
    }
    let content = STANDARD.decode(text).map_err(|_| MessageError::Base64)?;
    Ok(Some(content.into()))
}

#[derive(serde::Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    content: Text<'a>,
}

/// A string that is borrowed where it has no escapes: it may have 40 MiB.
#[derive(Default)]
enum Text<'a> {
    #[default]
    None,
    Borrowed(&'a str),
    Owned(String),
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 or null")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::Owned(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Text<'de>, E> {
        Ok(Text::None)
    }
}

/// What a `hash` names.
fn cid_of_hash(text: &str) -> Option<Cid> {
    if text.len() > MAX_TEXT {
        return None;
    }
    sha256_of(text).map(|digest| cid_of(Version::V1, RAW, &digest)).or_else(|| text.parse().ok())
}

/// The digest that 64 hex digits are.
fn sha256_of(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != digest.len() * 2 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(digest)
}

/// The names of the design that this protocol comes from, and those of ours beside them.
fn name_of(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Local => "local",
        SourceKind::Peers => "peer",
        SourceKind::Network => "ipfs",
        SourceKind::Relay => "relay",
        SourceKind::Gateway => "gateway",
    }
}

fn kind_of(name: &str) -> Option<SourceKind> {
    Some(match name {
        "local" => SourceKind::Local,
        "peer" | "peers" => SourceKind::Peers,
        "ipfs" | "network" => SourceKind::Network,
        "relay" => SourceKind::Relay,
        "gateway" => SourceKind::Gateway,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::block::sha256;
    use proptest::prelude::*;

    fn body(message: &[u8]) -> &[u8] {
        let (len, used) =
            crate::content::varint::read_varint(message).expect("a varint").expect("whole");
        assert_eq!(len as usize, message.len() - used);
        &message[used..]
    }

    fn cid() -> Cid {
        cid_of(Version::V1, RAW, &sha256(b"hello"))
    }

    #[test]
    fn a_request_round_trips() {
        let request = Request {
            cid: cid(),
            requester: Some("did:key:z6Mk\"x".into()),
            preferred_sources: vec![SourceKind::Network, SourceKind::Peers],
            ttl: Some(2),
        };
        let message = request.encode();
        assert_eq!(Request::decode(body(&message)), Ok(request));
        let bare = Request::new(cid());
        let message = bare.encode();
        assert_eq!(
            body(&message),
            format!(r#"{{"hash":"{}","type":"GET_CONTENT"}}"#, cid()).as_bytes()
        );
        assert_eq!(Request::decode(body(&message)), Ok(bare));
    }

    #[test]
    fn a_hash_is_a_cid_or_hex() {
        let hex: String = sha256(b"hello").iter().map(|byte| format!("{byte:02x}")).collect();
        for hash in [hex.clone(), hex.to_uppercase(), cid().to_string()] {
            let json = format!(
                r#"{{"type":"GET_CONTENT","hash":"{hash}","ttl":-1,"requesterId":5,"preferredSources":[1,"x","ipfs"]}}"#
            );
            let request = Request::decode(json.as_bytes()).expect("a request");
            assert_eq!((request.cid, request.ttl, request.requester), (cid(), None, None));
            assert_eq!(request.preferred_sources, [SourceKind::Network]);
        }
        for (json, error) in [
            (r#"{"type":"GET_CONTENT","hash":"abc"}"#, MessageError::Hash),
            (r#"{"type":"GET_CONTENT","hash":7}"#, MessageError::Hash),
            (r#"{"type":"GET_CONTENT"}"#, MessageError::Hash),
            (r#"{"type":"PUT","hash":"x"}"#, MessageError::Type),
            ("[]", MessageError::Json),
            ("<html>", MessageError::Json),
        ] {
            assert_eq!(Request::decode(json.as_bytes()), Err(error), "{json}");
        }
        let multibyte = "é".repeat(32);
        assert_eq!(cid_of_hash(&multibyte), None);
    }

    #[test]
    fn an_answer_has_content_or_none() {
        for content in [&b""[..], b"a", b"hello", b"hello!"] {
            let head = AnswerHead::new(&cid(), content.len(), false);
            let message = [&head.head, STANDARD.encode(content).as_bytes(), head.tail].concat();
            assert_eq!(decode_answer(body(&message)), Ok(Some(Bytes::copy_from_slice(content))));
        }
        assert_eq!(
            decode_answer(body(&answer_without(&cid(), Some("too \"large\""), false))),
            Ok(None)
        );
        let bare = answer_without(&cid(), None, true);
        assert_eq!(decode_answer(&bare), Ok(None));
        assert!(AnswerHead::new(&cid(), 5, true).head.starts_with(b"{"));
        for none in ["{}", r#"{"content":null}"#, r#"{"x":{"y":[1]}}"#] {
            assert_eq!(decode_answer(none.as_bytes()), Ok(None), "{none}");
        }
        let escaped = decode_answer(br#"{"content":"\u0061G\/saQ==","more":1}"#);
        assert_eq!(escaped, Ok(Some(STANDARD.decode("aG/saQ==").expect("base64").into())));
        for (json, error) in [
            (r#"{"content":"a"}"#, MessageError::Base64),
            (r#"{"content":"aGVs bG8="}"#, MessageError::Base64),
            (r#"{"content":5}"#, MessageError::Json),
            (r#"{"content":"","content":""}"#, MessageError::Json),
            ("{", MessageError::Json),
        ] {
            assert_eq!(decode_answer(json.as_bytes()), Err(error), "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Request::decode(&bytes), decode_answer(&bytes));
        }
    }
}
