//! The reserved protocol of p2p-webapp. The codec is pure: bytes in, decisions and bytes out;
//! [`client`] drives it over libp2p
//! streams, and the peer's server answers with it. One stream carries one request and its
//! answer:
//!
//! | type | body | direction |
//! |---|---|---|
//! | 0 | none | give me your file list |
//! | 1 | `{"cid", "entries": {PATH: {"type", "cid", "mimeType"?}}}` | a file list |
//! | 2 | `{"cid"}` | give me this file or directory |
//! | 3 | `{"cid", "isDirectory", "rawNode", "content", "mimeType"}`, or `"entries"` for a directory, or `{"cid", "error"}` | what was asked for |
//!
//! A message is its type in one byte and, but for type 0, its body's length in four bytes, most
//! significant first, then the body in JSON. The program that others run builds answer 3 from a
//! Go map, so its fields arrive sorted by name: `content` *before* `rawNode`. Ours go out with
//! `rawNode` first, so that the reader can check each piece as it arrives.
//!
//! A 200 MB file is one JSON string here: [`FileEncoder`] and [`ContentDecoder`] stream it,
//! and [`Rebuild`] turns what arrives into verified blocks.

mod base64_stream;
mod base64_value;
mod client;
mod content;
#[cfg(test)]
mod content_tests;
mod encode;
mod fields;
mod frame;
mod json;
mod list;
mod message;
mod outcome;
mod pieces;
mod rebuild;
#[cfg(test)]
mod rebuild_tests;
mod root;

pub use client::{Fetched, Kind, STALL_TIMEOUT, fetch, fetch_list};
pub use content::{ContentDecoder, ContentDone, ContentEvent};
pub use encode::{FileEncoder, encode_directory, encode_failure};
pub use list::{EntryKind, FileEntry, FileList, FileListDecoder};
pub use message::{Request, RequestDecoder, WireError};
pub use outcome::{Lie, Outcome, RebuildError, Unverifiable};
pub use rebuild::{MAX_HELD, Rebuild};

use crate::content::block::MAX_BLOCK;

/// The protocol's name in multistream-select.
pub const PROTOCOL: &str = "/p2p-webapp/1.0.0";

/// Largest body of a request for a file: a CID in JSON, with room for white space and a field or
/// two that we do not know.
pub const MAX_REQUEST: u32 = 1024;
/// Largest body of a file list.
pub const MAX_LIST_BODY: u32 = 16 << 20;
/// Most entries in a file list or a directory.
pub const MAX_ENTRIES: usize = 1 << 17;
/// Longest path in a file list, in bytes.
pub const MAX_PATH: usize = 4096;
/// Largest body of a file's content: what the length prefix can say. A caller may set less.
pub const MAX_CONTENT_BODY: u32 = u32::MAX;
/// Largest raw node, decoded.
pub const MAX_RAW_NODE: usize = MAX_BLOCK;
/// Most bytes of JSON in a directory's `entries`.
pub const MAX_ENTRIES_JSON: usize = MAX_LIST_BODY as usize;
/// Most bytes of JSON in a short field: a CID, a truth value, a MIME type.
pub const MAX_SHORT_FIELD: usize = 1024;
/// Most bytes of JSON in the reason of a failure.
pub const MAX_ERROR_JSON: usize = 16 << 10;
/// Most bytes of a failure's reason that we keep or send.
pub const MAX_ERROR_TEXT: usize = 1024;
/// Most bytes of JSON in all fields together that we do not know.
pub const MAX_UNKNOWN: usize = 64 << 10;
/// Longest name of a field, in JSON.
pub const MAX_KEY: usize = 256;
/// Deepest nesting of a field's value.
pub const MAX_DEPTH: usize = 32;
/// Longest MIME type that we keep.
pub const MAX_MIME: usize = 255;
/// Size of the pieces in which content is handed out; a whole number of base64 groups.
pub const CONTENT_PIECE: usize = 48 << 10;

/// The first byte of a message.
pub(super) mod kind {
    pub const GET_FILE_LIST: u8 = 0;
    pub const FILE_LIST: u8 = 1;
    pub const GET_FILE: u8 = 2;
    pub const FILE_CONTENT: u8 = 3;
}
