//! What is said on a topic and between two peers, both as JSON.
//!
//! * On a topic, by whoever has something new: `{"type":"new-content","hash":CID,…}`. What else is in it is
//!   the app's own.
//! * On `/tabpeer/content-available/1.0.0`, by a peer that heard it there:
//!   `{"type":"content-available","hash":CID,"source":PEER_ID}`, where the source is the author on the topic.
//!   A stream carries a batch of these, each behind its length as an unsigned varint, and nothing else.

use cid::Cid;
use libp2p::PeerId;
use serde_json::{Map, Value};

use crate::content::varint::{read_varint, write_varint};

pub const PROTOCOL: &str = "/tabpeer/content-available/1.0.0";
/// The longest update on a topic that is looked into.
pub const MAX_UPDATE: usize = 4 << 10;
/// The longest notice. Ours are a third of it.
pub const MAX_NOTICE: usize = 1 << 10;
/// Notices on one stream.
pub const MAX_BATCH: usize = 128;
/// Bytes on one stream.
pub const MAX_BATCH_BYTES: usize = MAX_BATCH * (MAX_NOTICE + 2);
/// The longest CID, as text.
pub const MAX_HASH: usize = 300;

/// That `source` has said that there is `hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    pub hash: Cid,
    pub source: PeerId,
}

/// Why bytes are no batch of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    #[error("a notice of more than {MAX_NOTICE} bytes")]
    TooLarge,
    #[error("more than {MAX_BATCH} notices")]
    TooMany,
    #[error("the last notice ends early")]
    Truncated,
    #[error("it is no notice of content")]
    Notice,
}

/// What is published on a topic.
pub fn encode_update(hash: &Cid) -> String {
    format!(r#"{{"type":"new-content","hash":"{hash}"}}"#)
}

/// The content that an update is about; `None` if the message on the topic is anything else.
pub fn decode_update(text: &str) -> Option<Cid> {
    // Most messages on a topic are the app's: the mark is looked for before all is parsed.
    if text.len() > MAX_UPDATE || !text.contains("new-content") {
        return None;
    }
    hash_of(&object(text.as_bytes(), "new-content")?)
}

/// As it goes over a stream.
pub fn encode_batch<'a>(notices: impl IntoIterator<Item = &'a Notice>) -> Vec<u8> {
    let mut batch = Vec::new();
    for Notice { hash, source } in notices.into_iter().take(MAX_BATCH) {
        let text = format!(r#"{{"type":"content-available","hash":"{hash}","source":"{source}"}}"#);
        write_varint(&mut batch, text.len() as u64);
        batch.extend_from_slice(text.as_bytes());
    }
    batch
}

/// All that came on a stream. One that has anything wrong in it is refused whole.
pub fn decode_batch(mut bytes: &[u8]) -> Result<Vec<Notice>, NoticeError> {
    let mut notices = Vec::new();
    while !bytes.is_empty() {
        if notices.len() == MAX_BATCH {
            return Err(NoticeError::TooMany);
        }
        let header = read_varint(bytes).map_err(|_| NoticeError::TooLarge)?;
        let (len, start) = header.ok_or(NoticeError::Truncated)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_NOTICE);
        let end = start + len.ok_or(NoticeError::TooLarge)?;
        let text = bytes.get(start..end).ok_or(NoticeError::Truncated)?;
        notices.push(decode_notice(text).ok_or(NoticeError::Notice)?);
        bytes = &bytes[end..];
    }
    Ok(notices)
}

fn decode_notice(text: &[u8]) -> Option<Notice> {
    let fields = object(text, "content-available")?;
    let source = fields.get("source")?.as_str()?.parse().ok()?;
    Some(Notice { hash: hash_of(&fields)?, source })
}

fn object(text: &[u8], kind: &str) -> Option<Map<String, Value>> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(text) else { return None };
    (fields.get("type").and_then(Value::as_str) == Some(kind)).then_some(fields)
}

fn hash_of(fields: &Map<String, Value>) -> Option<Cid> {
    let text = fields.get("hash")?.as_str()?;
    text.parse().ok().filter(|_| text.len() <= MAX_HASH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::block::{RAW, cid_of, sha256};
    use proptest::prelude::*;

    fn notice(n: u8) -> Notice {
        let hash = cid_of(cid::Version::V1, RAW, &sha256(&[n]));
        Notice { hash, source: PeerId::random() }
    }

    #[test]
    fn an_update_is_an_object_of_its_type_with_a_cid() {
        let hash = notice(1).hash;
        assert_eq!(decode_update(&encode_update(&hash)), Some(hash));
        let v0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
        let more =
            format!(r#" {{"size":7,"hash":"{v0}","more":[{{}}],"type":"new\u002dcontent"}}"#);
        assert_eq!(decode_update(&more), None, "the mark stands there as it is");
        let more = more.replace("\\u002d", "-");
        assert_eq!(decode_update(&more).map(|cid| cid.to_string()).as_deref(), Some(v0));
        let padding = " ".repeat(MAX_UPDATE);
        for other in [
            String::new(),
            "null".into(),
            format!(r#"["new-content","{hash}"]"#),
            format!(r#"{{"type":"new-content","hash":"{hash}""#),
            format!(r#"{{"type":"new-contents","hash":"{hash}"}}"#),
            format!(r#"{{"type":["new-content"],"hash":"{hash}"}}"#),
            r#"{"type":"new-content"}"#.into(),
            r#"{"type":"new-content","hash":"bafy"}"#.into(),
            r#"{"type":"new-content","hash":7}"#.into(),
            format!("{padding}{}", encode_update(&hash)),
        ] {
            assert_eq!(decode_update(&other), None, "{other}");
        }
    }

    #[test]
    fn a_batch_comes_as_it_was_sent() {
        let notices: Vec<Notice> = (0..=255).map(notice).collect();
        assert_eq!(decode_batch(&[]), Ok(vec![]));
        let batch = encode_batch(&notices);
        assert!(batch.len() <= MAX_BATCH_BYTES / 4);
        assert_eq!(decode_batch(&batch), Ok(notices[..MAX_BATCH].to_vec()));
    }

    #[test]
    fn what_is_no_batch_is_refused_whole() {
        let batch = encode_batch([&notice(1), &notice(2)]);
        let framed = |text: &str| {
            let mut out = Vec::new();
            write_varint(&mut out, text.len() as u64);
            [&out, text.as_bytes()].concat()
        };
        let (hash, source) = (notice(3).hash, PeerId::random());
        for (bytes, error) in [
            (batch[..batch.len() - 1].to_vec(), NoticeError::Truncated),
            ([&batch[..], &[0x80]].concat(), NoticeError::Truncated),
            ([&batch[..], &[0xff; 11]].concat(), NoticeError::TooLarge),
            ([&batch[..], &[0x81, 0x08]].concat(), NoticeError::TooLarge),
            ([&batch[..], &[0]].concat(), NoticeError::Notice),
            ([&batch[..], &framed("{}")].concat(), NoticeError::Notice),
            (framed(&encode_update(&hash)), NoticeError::Notice),
            (
                framed(&format!(r#"{{"type":"content-available","hash":"{hash}"}}"#)),
                NoticeError::Notice,
            ),
            (
                framed(&format!(
                    r#"{{"type":"content-available","hash":"{source}","source":"{hash}"}}"#
                )),
                NoticeError::Notice,
            ),
            (encode_batch([&notice(4)]).repeat(MAX_BATCH + 1), NoticeError::TooMany),
        ] {
            assert_eq!(decode_batch(&bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(notices) = decode_batch(&bytes) {
                prop_assert_eq!(decode_batch(&encode_batch(&notices)), Ok(notices));
            }
        }
    }
}
