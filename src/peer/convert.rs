//! Errors and results of the layers below, as the API gives them.

use libp2p::PeerId;

use crate::{
    content::{
        block::Cid,
        directory::{Entry, EntryKind as DirEntryKind, TreeError},
        mime,
        path::TreePath,
        read::ReadError,
        walk::WalkError,
    },
    error::Error,
    exchange::{
        fetch::FetchError,
        webapp::{EntryKind, FileEntry, FileList},
    },
    network::NetworkError,
};

/// A failed start is the fault of an argument: an address to listen on or a relay.
pub(super) fn start_error(error: NetworkError) -> Error {
    match error {
        NetworkError::InvalidRelay { spec, reason } => Error::InvalidAddress { text: spec, reason },
        NetworkError::Listen { address, reason } => {
            Error::InvalidAddress { text: address.to_string(), reason }
        }
        NetworkError::Closed => Error::Closed,
        other => Error::BadArgument { what: "network", reason: other.to_string() },
    }
}

pub(super) fn tree_error(root: Cid, error: TreeError) -> Error {
    match error {
        TreeError::NotFound { path } => {
            Error::NotFound { what: format!("'{path}'"), asked: Vec::new() }
        }
        TreeError::NotADirectory { path } => Error::NotADirectory { path },
        TreeError::IsADirectory { path } => Error::IsADirectory { path },
        TreeError::BadPath(error) => error.into(),
        TreeError::Root => Error::InvalidPath { reason: error.to_string() },
        TreeError::TooMany | TreeError::TooDeep | TreeError::NodeTooLarge { .. } => {
            Error::TooLarge { what: "the tree".into(), reason: error.to_string() }
        }
        TreeError::BadNode { cid, .. } => Error::BadContent { cid, reason: error.to_string() },
        other => Error::BadContent { cid: root, reason: other.to_string() },
    }
}

pub(super) fn read_error(cid: Cid, error: &ReadError) -> Error {
    Error::BadContent { cid, reason: error.to_string() }
}

pub(super) fn walk_error(root: Cid, error: &WalkError) -> Error {
    match error {
        WalkError::DagPb { cid, .. } => Error::BadContent { cid: *cid, reason: error.to_string() },
        WalkError::TooManyBlocks { .. } => {
            Error::TooLarge { what: root.to_string(), reason: error.to_string() }
        }
    }
}

pub(super) fn missing(cid: &Cid) -> Error {
    Error::NotFound { what: format!("block {cid}"), asked: Vec::new() }
}

/// A tree as other peers see it. What is neither file nor directory (a symlink of foreign making)
/// has no form in a file list and is left out.
pub(super) fn file_list(root: Cid, entries: Vec<(TreePath, Entry)>) -> FileList {
    let entries = entries.into_iter().filter_map(|(path, entry)| {
        let kind = match entry.kind {
            DirEntryKind::File => EntryKind::File,
            DirEntryKind::Directory => EntryKind::Directory,
            DirEntryKind::Symlink | DirEntryKind::Other => return None,
        };
        let name = path.name().filter(|_| kind == EntryKind::File);
        let mime_type = name.map(|name| mime::of_name(name).unwrap_or(mime::BINARY).to_owned());
        Some((path.as_str().to_owned(), FileEntry { kind, cid: entry.cid, mime_type }))
    });
    FileList { root: Some(root), entries: entries.collect() }
}

/// Why `what` could not be fetched.
pub(super) fn fetch_error(root: Cid, error: FetchError) -> Error {
    match error {
        FetchError::NotFound { wrong: Some(wrong), .. } => {
            Error::WrongContent { peer: wrong.peer, cid: wrong.cid, reason: wrong.reason }
        }
        FetchError::NotFound { cid, asked, wrong: None } if cid == root => {
            Error::NotFound { what: root.to_string(), asked }
        }
        FetchError::NotFound { cid, asked, wrong: None } => {
            Error::NotFound { what: format!("block {cid} of {root}"), asked }
        }
        FetchError::TimedOut { after, asked } => {
            let asked = if asked.is_empty() { "nobody".to_owned() } else { asked.join("; ") };
            Error::Timeout { what: format!("getting {root} (asked: {asked})"), after }
        }
        FetchError::Here(error) => error,
    }
}

/// Bytes of the texts of others in ours: addresses are long, and there may be many.
const MAX_REASON: usize = 600;

pub(super) fn unreachable(peer: PeerId, mut reason: String) -> Error {
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        reason.push('…');
    }
    Error::PeerUnreachable { peer, reason }
}

pub(super) fn network_error(error: NetworkError) -> Error {
    match error {
        NetworkError::Closed => Error::Closed,
        NetworkError::UnsupportedProtocol { peer, protocol } => {
            Error::Unsupported { peer, protocol }
        }
        NetworkError::AddressUnreachable { address, reason } => {
            Error::InvalidAddress { text: address.to_string(), reason }
        }
        NetworkError::PeerUnreachable { peer, .. }
        | NetworkError::ConnectionLost { peer, .. }
        | NetworkError::DialSelf(peer)
        | NetworkError::StreamTimeout { peer, .. } => unreachable(peer, error.to_string()),
        NetworkError::TooMany { what, .. } => Error::Busy { what },
        NetworkError::NotAnnounced { .. } => {
            let asked = Vec::new();
            Error::NotFound { what: "a peer that serves the DHT".into(), asked }
        }
        other => Error::BadArgument { what: "network", reason: other.to_string() },
    }
}
