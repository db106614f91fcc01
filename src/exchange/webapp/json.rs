//! What the messages need of JSON beyond a parser: where a value ends when its bytes arrive in
//! pieces, maps with a bound and without doubles, and texts of a remote made safe to show.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use cid::Cid;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{MAX_DEPTH, MAX_ENTRIES, MAX_MIME, MAX_SHORT_FIELD, WireError};

/// Longest text of a remote repeated in an error.
const MAX_QUOTED: usize = 128;

/// Parses a whole value.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    what: &'static str,
    text: &'a [u8],
) -> Result<T, WireError> {
    serde_json::from_slice(text)
        .map_err(|error| WireError::Json { what, reason: clean(&error.to_string(), MAX_QUOTED) })
}

/// Parses a CID given as text.
pub(super) fn cid(field: &'static str, text: &str) -> Result<Cid, WireError> {
    let bad = || WireError::BadCid { field, text: clean(text, MAX_QUOTED) };
    if text.len() > MAX_SHORT_FIELD {
        return Err(bad());
    }
    text.parse().map_err(|_| bad())
}

/// `text` without control characters and direction marks, cut to `max` bytes: fit for a log line
/// or a page.
pub(super) fn clean(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        if out.len() + c.len_utf8() > max {
            break;
        }
        let hidden = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        out.push(if c.is_control() || hidden { ' ' } else { c });
    }
    out
}

/// A MIME type that is safe in a header: printable ASCII and not too long; nothing otherwise, as
/// a type is a hint that the reader can do without.
pub(super) fn mime(text: String) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= MAX_MIME;
    (fits && text.bytes().all(|b| (0x20..0x7f).contains(&b))).then_some(text)
}

/// Why `path` is not a relative path from the top of a tree, if it is not.
pub(super) fn check_path(path: &str, max: usize) -> Result<(), WireError> {
    let why = if path.is_empty() {
        "it is empty"
    } else if path.len() > max {
        "it is too long"
    } else if path.starts_with('/') {
        "it is absolute"
    } else if path.contains('\0') {
        "it holds a NUL"
    } else if path.split('/').any(str::is_empty) {
        "a part is empty"
    } else if path.split('/').any(|part| part == "." || part == "..") {
        "a part is . or .."
    } else {
        return Ok(());
    };
    Err(WireError::BadPath { path: clean(path, MAX_QUOTED), why })
}

/// Like [`check_path`] for a single name.
pub(super) fn check_name(name: &str, max: usize) -> Result<(), WireError> {
    check_path(name, max)?;
    if name.contains('/') {
        let path = clean(name, MAX_QUOTED);
        return Err(WireError::BadPath { path, why: "a name holds a slash" });
    }
    Ok(())
}

/// Finds the end of one value whose text arrives in pieces. It follows strings and nesting only:
/// the value is parsed strictly once it is whole.
#[derive(Debug, Default)]
pub(super) struct ValueEnd {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ValueEnd {
    /// How many of `input` belong to the value, and whether it ends there.
    pub(super) fn scan(
        &mut self,
        what: &'static str,
        input: &[u8],
    ) -> Result<(usize, bool), WireError> {
        for (i, byte) in input.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return Ok((i + 1, true));
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' if self.depth == MAX_DEPTH => {
                    return Err(WireError::TooDeep { what, max: MAX_DEPTH });
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 1 => self.depth -= 1,
                b'}' | b']' if self.depth == 1 => return Ok((i + 1, true)),
                b'}' | b']' | b',' | b' ' | b'\t' | b'\n' | b'\r' if self.depth == 0 => {
                    return Ok((i, true));
                }
                _ => {}
            }
        }
        Ok((input.len(), false))
    }
}

/// A map of at most [`MAX_ENTRIES`] entries, none twice; `null` stands for none, as Go writes a
/// map that was never made.
#[derive(Debug, Default)]
pub(super) struct Entries<V>(pub(super) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
    type Value = Entries<V>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a map of entries")
    }

    fn visit_unit<E>(self) -> Result<Entries<V>, E> {
        Ok(Entries(BTreeMap::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, V>()? {
            if entries.len() == MAX_ENTRIES {
                return Err(A::Error::custom("too many entries"));
            }
            if entries.insert(name, value).is_some() {
                return Err(A::Error::custom("an entry is given twice"));
            }
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_value_is_found_in_any_pieces() {
        for (text, len) in [
            (r#""a\"}\\" ,"#, 8),
            (r#"{"a":"}]"} "#, 10),
            ("[[],{}]}", 7),
            ("true}", 4),
            ("-1.5e3 ", 6),
            ("null,", 4),
        ] {
            for cut in 0..len {
                let mut end = ValueEnd::default();
                let (first, done) = end.scan("x", &text.as_bytes()[..cut]).expect("shallow");
                assert_eq!((first, done), (cut, false), "{text} {cut}");
                let (second, done) = end.scan("x", &text.as_bytes()[cut..]).expect("shallow");
                assert_eq!((cut + second, done), (len, true), "{text} {cut}");
            }
        }
        let deep = "[".repeat(MAX_DEPTH + 1);
        let refused = ValueEnd::default().scan("x", deep.as_bytes());
        assert_eq!(refused, Err(WireError::TooDeep { what: "x", max: MAX_DEPTH }));
    }

    #[test]
    fn texts_are_made_safe() {
        assert_eq!(clean("a\nb\u{202e}c", 10), "a b c");
        assert_eq!(clean("üü", 3), "ü");
        assert_eq!(
            mime("text/plain; charset=utf-8".into()).as_deref(),
            Some("text/plain; charset=utf-8")
        );
        for bad in ["", "a\r\nb", "ü/ü", &"x".repeat(MAX_MIME + 1)] {
            assert_eq!(mime(bad.into()), None);
        }
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused_by_name() {
        for good in ["a", "a/b.txt", "...", ".git/x", "ü/ö"] {
            assert_eq!(check_path(good, 4096), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a//b", "a/", "..", "a/../b", "./a", "a\0b", &"x".repeat(4097)] {
            let error = check_path(bad, 4096).expect_err("a bad path");
            assert!(matches!(error, WireError::BadPath { .. }), "{bad}");
        }
        assert!(check_path("a/../b", 4096).expect_err("bad").to_string().contains("a/../b"));
        assert!(check_name("a/b", 4096).is_err());
    }
}
