//! `/cas/1.0.0`: content by hash, whole, one request and one answer on a stream of its own.
//!
//! The request is `{"type":"GET_CONTENT","hash":H}` with, as far as they are given, `requesterId`
//! (a DID), `preferredSources` and `ttl` (hops that the request may go on: it rides along for those who
//! pass requests on; we do not). `H` is a CID, or the
//! hex digits of a SHA-256, which stand for the raw block with that hash. The answer is
//! `{"hash":H,"content":BASE64}`, without `content` where there is none. The design that this comes
//! from has no frames; ours puts the length in front as an unsigned varint, and each side takes a
//! bare JSON value as well.
//!
//! The content of a raw block, a directory's node and anything else that is no file is the block; of a
//! file it is the file. So a file can be checked only by importing it again ([`verify`]).

mod client;
mod frame;
mod message;
mod server;
mod source;
mod verify;

pub use client::{CasError, ask_peers};
pub use frame::FrameReader;
pub use message::{AnswerHead, MessageError, Request, answer_without, decode_answer};
pub use server::serve;
pub use source::CasSource;
pub use verify::verify;

use crate::platform::time::Duration;

/// The protocol's name in multistream-select.
pub const PROTOCOL: &str = "/cas/1.0.0";
/// Largest content, decoded.
pub const MAX_CONTENT: usize = 32 << 20;
/// Largest request.
pub const MAX_REQUEST: usize = 16 << 10;
/// Largest answer: the content in base64, and the rest.
pub const MAX_ANSWER: usize = MAX_CONTENT.div_ceil(3) * 4 + (4 << 10);
/// Longest `hash` and `requesterId`.
pub const MAX_TEXT: usize = 512;
/// Most `preferredSources` that are read.
pub const MAX_PREFERRED: usize = 8;
/// An answer of which nothing arrives, or a request that has not arrived, for this long is given up.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Peers asked for one CID at the same time.
pub const MAX_ASKED: usize = 8;
/// An answer longer than this is read only while no other such answer to the same question is.
pub const LARGE_ANSWER: usize = 1 << 20;
/// Requests answered at a time; more wait in the network's queue, which has a bound of its own.
pub const MAX_ANSWERS: usize = 32;
/// Of these, those of one peer.
pub const MAX_ANSWERS_PER_PEER: usize = 8;
