//! Type 1: the list of every file and directory that a peer shares.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use cid::Cid;
use serde::{Deserialize, Serialize};

use super::frame::{self, BodyReader, Header};
use super::json::{self, Entries};
use super::{MAX_ENTRIES, MAX_LIST_BODY, MAX_PATH, WireError, kind};

/// A peer's whole tree, every level listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileList {
    /// The directory that the paths start from; `None` for a peer that has none yet.
    pub root: Option<Cid>,
    /// By path, relative, with `/` between the parts.
    pub entries: BTreeMap<String, FileEntry>,
}

/// One file or directory of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    pub kind: EntryKind,
    pub cid: Cid,
    pub mime_type: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    File,
    Directory,
}

/// Reads the answer to [`super::Request::FileList`], in pieces of any size.
#[derive(Debug)]
pub struct FileListDecoder {
    reader: BodyReader,
}

const WHAT: &str = "a file list";

#[derive(Serialize)]
struct ListOut<'a> {
    cid: String,
    entries: BTreeMap<&'a str, EntryOut<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryOut<'a> {
    r#type: EntryKind,
    cid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'a str>,
}

#[derive(Deserialize)]
struct ListIn<'a> {
    #[serde(borrow)]
    cid: Cow<'a, str>,
    #[serde(borrow)]
    entries: Entries<EntryIn<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryIn<'a> {
    r#type: EntryKind,
    #[serde(borrow)]
    cid: Cow<'a, str>,
    mime_type: Option<String>,
}

impl FileList {
    /// The message as it goes on the stream; refused when the other side would refuse it.
    pub fn encode(&self) -> Result<Bytes, WireError> {
        let body = self.to_json()?;
        frame::bounded_message(WHAT, kind::FILE_LIST, body.as_bytes(), MAX_LIST_BODY)
    }

    /// The message's body.
    pub fn to_json(&self) -> Result<String, WireError> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(WireError::TooManyEntries { what: WHAT, max: MAX_ENTRIES });
        }
        let entries = self.entries.iter().map(|(path, entry)| {
            json::check_path(path, MAX_PATH)?;
            let mime_type = entry.mime_type.as_deref();
            Ok((
                path.as_str(),
                EntryOut { r#type: entry.kind, cid: entry.cid.to_string(), mime_type },
            ))
        });
        let entries = entries.collect::<Result<_, WireError>>()?;
        let cid = self.root.map(|root| root.to_string()).unwrap_or_default();
        serde_json::to_string(&ListOut { cid, entries })
            .map_err(|error| WireError::Json { what: WHAT, reason: error.to_string() })
    }

    fn from_body(body: &[u8]) -> Result<Self, WireError> {
        let list: ListIn = json::parse(WHAT, body)?;
        // Go writes a CID that was never set as "b", the multibase prefix of nothing.
        let root = match &*list.cid {
            "" | "b" => None,
            text => Some(json::cid("cid", text)?),
        };
        let entries = list.entries.0.into_iter().map(|(path, entry)| {
            json::check_path(&path, MAX_PATH)?;
            Ok((path, entry.check()?))
        });
        Ok(Self { root, entries: entries.collect::<Result<_, WireError>>()? })
    }
}

impl EntryIn<'_> {
    fn check(self) -> Result<FileEntry, WireError> {
        let cid = json::cid("an entry's cid", &self.cid)?;
        Ok(FileEntry { kind: self.r#type, cid, mime_type: self.mime_type.and_then(json::mime) })
    }
}

impl Default for FileListDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FileListDecoder {
    pub fn new() -> Self {
        Self { reader: BodyReader::new(WHAT, accept) }
    }

    /// The list once it is complete, `None` while more bytes are needed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<FileList>, WireError> {
        match self.reader.push(bytes)? {
            None => Ok(None),
            Some((_, body)) => FileList::from_body(&body).map(Some),
        }
    }

    /// To be called when the stream ends: an error unless a whole list has been read.
    pub fn end(&self) -> Result<(), WireError> {
        self.reader.end()
    }
}

fn accept(found: u8) -> Result<Header, WireError> {
    match found {
        kind::FILE_LIST => Ok(Header::Body { max: MAX_LIST_BODY }),
        _ => Err(WireError::UnexpectedType { expected: WHAT, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    fn decode(bytes: &[u8]) -> Result<Option<FileList>, WireError> {
        FileListDecoder::new().push(bytes)
    }

    fn decode_body(body: &str) -> Result<FileList, WireError> {
        let message = frame::message(kind::FILE_LIST, body.as_bytes(), body.len() as u32);
        decode(&message).map(|list| list.expect("a whole message"))
    }

    fn entry(kind: EntryKind, mime_type: Option<&str>) -> FileEntry {
        let cid = CID.parse().expect("a CID");
        FileEntry { kind, cid, mime_type: mime_type.map(Into::into) }
    }

    fn list(entries: impl IntoIterator<Item = (String, FileEntry)>) -> FileList {
        FileList { root: CID.parse().ok(), entries: entries.into_iter().collect() }
    }

    #[test]
    fn golden_bytes() {
        let golden = format!(
            concat!(
                "\x01\0\0\x01\x24",
                r#"{{"cid":"{0}","entries":{{"a":{{"type":"directory","cid":"{0}"}},"#,
                r#""a/b.txt":{{"type":"file","cid":"{0}","mimeType":"text/plain"}}}}}}"#
            ),
            CID
        );
        let list = list([
            ("a".into(), entry(EntryKind::Directory, None)),
            ("a/b.txt".into(), entry(EntryKind::File, Some("text/plain"))),
        ]);
        assert_eq!(list.encode().expect("small"), golden.as_bytes());
        assert_eq!(decode(golden.as_bytes()), Ok(Some(list)));
    }

    #[test]
    fn what_go_writes_is_read() {
        let go = format!(
            "{{\"cid\":\"{CID}\",\"entries\":{{\"a \\u003c\\u0026\\u003e.txt\":{{\"type\":\"file\",\"cid\":\"{CID}\",\"mimeType\":\"text\\/plain\",\"size\":1}}}},\"more\":null}}"
        );
        let read = decode_body(&go).expect("a list");
        assert_eq!(read, list([("a <&>.txt".into(), entry(EntryKind::File, Some("text/plain")))]));
        for none in [r#"{"cid":"b","entries":{}}"#, r#"{"cid":"","entries":null}"#] {
            assert_eq!(decode_body(none), Ok(FileList::default()));
        }
    }

    #[test]
    fn bad_lists_are_refused() {
        let with = |path: &str, value: &str| {
            format!(r#"{{"cid":"{CID}","entries":{{"{path}":{value}}}}}"#)
        };
        let file = format!(r#"{{"type":"file","cid":"{CID}"}}"#);
        assert!(decode_body(&with("a", &file)).is_ok());
        for path in ["", "/a", "a/../b", "a//b"] {
            let refused = decode_body(&with(path, &file));
            assert!(matches!(refused, Err(WireError::BadPath { .. })), "{path}");
        }
        for value in ["1", "null", r#"{"type":"link","cid":"b"}"#, r#"{"type":"file","cid":"Qm"}"#]
        {
            assert!(decode_body(&with("a", value)).is_err(), "{value}");
        }
        let twice = format!(r#"{{"cid":"{CID}","entries":{{"a":{file},"a":{file}}}}}"#);
        assert!(matches!(decode_body(&twice), Err(WireError::Json { .. })));
        let odd_type =
            with("a", &format!(r#"{{"type":"file","cid":"{CID}","mimeType":"a\r\nb"}}"#));
        assert_eq!(decode_body(&odd_type).expect("a list").entries["a"].mime_type, None);
    }

    #[test]
    fn more_entries_than_allowed_are_refused() {
        let file = format!(r#"{{"type":"file","cid":"{}"}}"#, "bafkqaaa");
        let entries: Vec<String> = (0..=MAX_ENTRIES).map(|i| format!("\"{i}\":{file}")).collect();
        let body = format!(r#"{{"cid":"","entries":{{{}}}}}"#, entries.join(","));
        assert!(body.len() < MAX_LIST_BODY as usize);
        assert!(decode_body(&body).is_err());
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        assert!(matches!(decode(&[1, 1, 0, 0, 1]), Err(WireError::TooLarge { .. })));
        let mut decoder = FileListDecoder::new();
        assert_eq!(decoder.push(&[1, 1, 0, 0, 0, b'{']), Ok(None));
        assert!(matches!(decoder.end(), Err(WireError::Truncated { have: 6, .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn lists_round_trip_in_any_pieces(
            names in proptest::collection::btree_set("[^/\0.]{1,9}(/[^/\0.]{1,9}){0,3}", 0..8),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let list = list(names.into_iter().map(|name| (name, entry(EntryKind::File, None))));
            let bytes = list.encode().expect("small");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut decoder = FileListDecoder::new();
            let mut read = None;
            for pair in cuts.windows(2) {
                prop_assert_eq!(&read, &None);
                read = decoder.push(&bytes[pair[0]..pair[1]]).expect("good bytes");
            }
            prop_assert_eq!(read, Some(list));
        }

        #[test]
        fn arbitrary_bodies_do_not_panic(body in ".{0,60}", raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_body(&body);
            let _ = decode(&raw);
        }
    }
}
