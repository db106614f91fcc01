//! What a message carries: a JSON value as its text, or bytes.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{DirectError, MAX_DEPTH, MAX_VALUE};

/// The value of a message.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// The text of a JSON value, as it was written: nothing here needs to understand it.
    Json(String),
    Bytes(Bytes),
}

impl Value {
    /// How large it is as its sender gave it.
    pub fn size(&self) -> usize {
        match self {
            Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether it may be sent.
    pub(super) fn check(&self) -> Result<(), DirectError> {
        if self.size() > MAX_VALUE {
            return Err(DirectError::TooLarge { len: self.size(), max: MAX_VALUE });
        }
        match self {
            Self::Json(text) => check_json(text).map_err(|reason| DirectError::NotJson { reason }),
            Self::Bytes(_) => Ok(()),
        }
    }
}

/// Whether `text` is one JSON value, nested no deeper than parsers like it.
pub(in crate::messaging) fn check_json(text: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("it is nested deeper than {MAX_DEPTH}"));
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Its kind and size: the whole may be large and is somebody's own.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(text) if text.len() <= 64 => f.debug_tuple("Json").field(text).finish(),
            Self::Json(text) => write!(f, "Json({} bytes)", text.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_of_a_bearable_size_and_depth_is_sent() {
        let json = |text: &str| Value::Json(text.to_owned()).check();
        for good in ["null", "1.5e3", r#""\ud800 [[[""#, " {\"a\":[]} ", r#""\\""#] {
            assert_eq!(json(good), Ok(()), "{good}");
        }
        for bad in ["", "undefined", "{", "1 2", "'a'", "[1,]", "NaN"] {
            assert!(matches!(json(bad), Err(DirectError::NotJson { .. })), "{bad}");
        }
        let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(json(&deep(MAX_DEPTH)), Ok(()));
        assert!(serde_json::from_str::<serde_json::Value>(&deep(MAX_DEPTH)).is_ok());
        assert!(matches!(json(&deep(MAX_DEPTH + 1)), Err(DirectError::NotJson { .. })));
        let bytes = |len| Value::Bytes(vec![0; len].into()).check();
        assert_eq!(bytes(MAX_VALUE), Ok(()));
        let refused = DirectError::TooLarge { len: MAX_VALUE + 1, max: MAX_VALUE };
        assert_eq!(bytes(MAX_VALUE + 1), Err(refused));
    }
}
