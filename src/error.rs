//! The one error type of the API. Layers below have errors of their own; this one says what a
//! caller can do about it, and carries a stable code for JS.

use std::time::Duration;

use libp2p::PeerId;

use crate::{
    content::{
        block::{BlockError, Cid},
        path::PathError,
    },
    platform::database::DatabaseError,
    store::StoreError,
};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of the API failed. Cloneable, because callers of one flight share its outcome.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("peer {peer} is open already in this browser, perhaps in another tab")]
    AlreadyOpen { peer: PeerId },
    /// One cannot start a protocol twice, nor one that this peer itself speaks.
    #[error("the protocol {protocol} is started already")]
    AlreadyStarted { protocol: String },
    #[error("{what}: {reason}")]
    BadArgument { what: &'static str, reason: String },
    #[error("{cid} is not a valid file or directory: {reason}")]
    BadContent { cid: Cid, reason: String },
    #[error("too much at once: {what}")]
    Busy { what: &'static str },
    #[error("{what} was cancelled")]
    Cancelled { what: String },
    #[error("the client was closed")]
    Closed,
    #[error("the stored block {cid} is damaged; fetch it again")]
    CorruptBlock { cid: Cid },
    #[error("'{text}' is not an address that can be dialled: {reason}")]
    InvalidAddress { text: String, reason: String },
    #[error("'{text}' is not a CID: {reason}")]
    InvalidCid { text: String, reason: String },
    #[error("this is not a peer key: {reason}")]
    InvalidKey { reason: String },
    #[error("{reason}")]
    InvalidPath { reason: String },
    #[error("'{text}' is not a peer id")]
    InvalidPeerId { text: String },
    #[error("'{path}' is a directory")]
    IsADirectory { path: String },
    #[error("'{path}' is a file, not a directory")]
    NotADirectory { path: String },
    #[error("{what} was not found{}", asked_text(.asked))]
    NotFound { what: String, asked: Vec<String> },
    #[error("peer {peer} could not be reached: {reason}")]
    PeerUnreachable { peer: PeerId, reason: String },
    #[error("peer {peer} broke the protocol: {reason}")]
    Protocol { peer: PeerId, reason: String },
    #[error("the storage quota is used up; nothing was written")]
    QuotaExceeded,
    #[error("storage failed: {reason}")]
    Storage { reason: String },
    #[error("{what} took longer than {} s", .after.as_secs_f32())]
    Timeout { what: String, after: Duration },
    #[error("{what} is too large: {reason}")]
    TooLarge { what: String, reason: String },
    /// It was reached, but the app there did not take the message.
    #[error("peer {peer} did not acknowledge a message for {protocol} in {attempts} attempts")]
    Unacknowledged { peer: PeerId, protocol: String, attempts: u32 },
    #[error("peer {peer} does not speak {protocol}")]
    Unsupported { peer: PeerId, protocol: String },
    #[error("peer {peer} sent bytes that are not {cid}: {reason}")]
    WrongContent { peer: PeerId, cid: Cid, reason: String },
}

impl Error {
    /// Every code that [`Error::code`] can give, sorted. `index.d.ts` lists the same (and
    /// `LOAD_FAILED`, which only JS can see).
    pub const CODES: [&'static str; 25] = [
        "ALREADY_OPEN",
        "ALREADY_STARTED",
        "BAD_ARGUMENT",
        "BAD_CONTENT",
        "BUSY",
        "CANCELLED",
        "CLOSED",
        "CORRUPT_BLOCK",
        "INVALID_ADDRESS",
        "INVALID_CID",
        "INVALID_KEY",
        "INVALID_PATH",
        "INVALID_PEER_ID",
        "IS_A_DIRECTORY",
        "NOT_A_DIRECTORY",
        "NOT_FOUND",
        "PEER_UNREACHABLE",
        "PROTOCOL",
        "QUOTA_EXCEEDED",
        "STORAGE",
        "TIMEOUT",
        "TOO_LARGE",
        "UNACKNOWLEDGED",
        "UNSUPPORTED",
        "WRONG_CONTENT",
    ];

    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlreadyOpen { .. } => "ALREADY_OPEN",
            Self::AlreadyStarted { .. } => "ALREADY_STARTED",
            Self::BadArgument { .. } => "BAD_ARGUMENT",
            Self::BadContent { .. } => "BAD_CONTENT",
            Self::Busy { .. } => "BUSY",
            Self::Cancelled { .. } => "CANCELLED",
            Self::Closed => "CLOSED",
            Self::CorruptBlock { .. } => "CORRUPT_BLOCK",
            Self::InvalidAddress { .. } => "INVALID_ADDRESS",
            Self::InvalidCid { .. } => "INVALID_CID",
            Self::InvalidKey { .. } => "INVALID_KEY",
            Self::InvalidPath { .. } => "INVALID_PATH",
            Self::InvalidPeerId { .. } => "INVALID_PEER_ID",
            Self::IsADirectory { .. } => "IS_A_DIRECTORY",
            Self::NotADirectory { .. } => "NOT_A_DIRECTORY",
            Self::NotFound { .. } => "NOT_FOUND",
            Self::PeerUnreachable { .. } => "PEER_UNREACHABLE",
            Self::Protocol { .. } => "PROTOCOL",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::Storage { .. } => "STORAGE",
            Self::Timeout { .. } => "TIMEOUT",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::Unacknowledged { .. } => "UNACKNOWLEDGED",
            Self::Unsupported { .. } => "UNSUPPORTED",
            Self::WrongContent { .. } => "WRONG_CONTENT",
        }
    }
}

impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::QuotaExceeded => Self::QuotaExceeded,
            DatabaseError::Closed(_) => Self::Closed,
            other => Self::Storage { reason: other.to_string() },
        }
    }
}

impl From<BlockError> for Error {
    fn from(error: BlockError) -> Self {
        let (BlockError::TooLarge { cid, .. }
        | BlockError::Mismatch { cid }
        | BlockError::UnsupportedHash { cid, .. }) = &error;
        Self::BadContent { cid: *cid, reason: error.to_string() }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::QuotaExceeded => Self::QuotaExceeded,
            StoreError::Corrupt { cid } => Self::CorruptBlock { cid },
            StoreError::BadBlock { cid, reason } => {
                Self::BadContent { cid, reason: reason.to_string() }
            }
            StoreError::Database(error) => error.into(),
            other => Self::Storage { reason: other.to_string() },
        }
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Self::InvalidPath { reason: error.to_string() }
    }
}

fn asked_text(asked: &[String]) -> String {
    if asked.is_empty() { String::new() } else { format!(" (asked: {})", asked.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_typescript_union_lists_the_same_codes() {
        let types = include_str!("js/index.d.ts");
        let (_, rest) = types.split_once("export type PeerErrorCode").expect("the union");
        let (union, _) = rest.split_once("';").expect("its end");
        let listed: Vec<&str> = union
            .lines()
            .filter_map(|line| line.trim().strip_prefix("| '"))
            .filter_map(|rest| rest.split('\'').next())
            .filter(|code| *code != "LOAD_FAILED")
            .collect();
        assert_eq!(listed, Error::CODES);
    }

    #[test]
    fn a_not_found_error_says_who_was_asked() {
        let error =
            Error::NotFound { what: "block x".into(), asked: vec!["A: no".into(), "B: no".into()] };
        assert_eq!(error.to_string(), "block x was not found (asked: A: no; B: no)");
        assert!(Error::CODES.contains(&error.code()));
    }
}
