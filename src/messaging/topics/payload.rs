//! What a message on a topic carries, as gossipsub's bytes: the text of a JSON value, or bytes.
//!
//! Bytes travel as they are, so that peers of any kind read and write them. A receiver takes what
//! parses as JSON for a JSON value; bytes of ours that would be mistaken for one, or that begin like
//! the mark, have the mark in front, which no JSON begins with.

use bytes::Bytes;

use super::{MAX_MESSAGE, TopicError};
use crate::messaging::direct::{self, Value};

/// In front of bytes that look like JSON.
const MARK: &[u8] = b"\0bytes\0";

/// As it is published.
pub fn encode(value: Value) -> Result<Vec<u8>, TopicError> {
    let size = value.size();
    if size > MAX_MESSAGE {
        return Err(TopicError::TooLarge { len: size, max: MAX_MESSAGE });
    }
    match value {
        Value::Json(text) => {
            direct::check_json(&text).map_err(|reason| TopicError::NotJson { reason })?;
            Ok(text.into_bytes())
        }
        Value::Bytes(bytes) if bytes.starts_with(MARK) || is_json(&bytes) => {
            Ok([MARK, &*bytes].concat())
        }
        Value::Bytes(bytes) => Ok(bytes.into()),
    }
}

/// What came; `None`: nothing that a peer of ours may send.
pub fn decode(data: Vec<u8>) -> Option<Value> {
    let marked = data.starts_with(MARK);
    let start = if marked { MARK.len() } else { 0 };
    if data.len() - start > MAX_MESSAGE {
        return None;
    }
    if marked {
        return Some(Value::Bytes(Bytes::from(data).slice(start..)));
    }
    Some(match String::from_utf8(data) {
        Ok(text) if direct::check_json(&text).is_ok() => Value::Json(text),
        Ok(text) => Value::Bytes(text.into_bytes().into()),
        Err(error) => Value::Bytes(error.into_bytes().into()),
    })
}

/// Whether a payload of this length can be one of ours; to look no further at those that cannot.
pub fn fits(len: usize) -> bool {
    len <= MAX_MESSAGE + MARK.len()
}

fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| direct::check_json(text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &[u8]) -> Value {
        Value::Bytes(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn what_is_published_comes_as_it_was() {
        let deep = "[".repeat(1000);
        let all: [Value; 9] = [
            Value::Json("{\"type\":\"hi\",\"n\":[1,2.5,null]}".into()),
            Value::Json("\"text\"".into()),
            bytes(b""),
            bytes(b"123"),
            bytes(b" {} "),
            bytes(b"\0bytes\0"),
            bytes(b"\0bytes\0{}"),
            bytes(&[0xff, 0, 1]),
            bytes(deep.as_bytes()),
        ];
        for value in all {
            let wire = encode(value.clone()).expect("fits");
            assert_eq!(decode(wire), Some(value));
        }
    }

    #[test]
    fn strangers_bytes_and_json_are_told_apart() {
        assert_eq!(decode(b"{\"a\":1}".to_vec()), Some(Value::Json("{\"a\":1}".into())));
        assert_eq!(decode(b"hello".to_vec()), Some(bytes(b"hello")));
        assert_eq!(decode(b"\0byte".to_vec()), Some(bytes(b"\0byte")));
    }

    #[test]
    fn what_is_no_message_of_ours_is_refused() {
        assert!(matches!(encode(Value::Json("{".into())), Err(TopicError::NotJson { .. })));
        let large = |len| Value::Bytes(vec![0xff; len].into());
        assert!(encode(large(MAX_MESSAGE)).is_ok());
        assert!(matches!(encode(large(MAX_MESSAGE + 1)), Err(TopicError::TooLarge { .. })));
        assert!(decode(vec![0xff; MAX_MESSAGE]).is_some());
        assert_eq!(decode(vec![0xff; MAX_MESSAGE + 1]), None);
        let marked = |len: usize| [MARK, &*vec![b'1'; len]].concat();
        assert!(decode(marked(MAX_MESSAGE)).is_some() && fits(marked(MAX_MESSAGE).len()));
        assert_eq!(decode(marked(MAX_MESSAGE + 1)), None);
    }
}
