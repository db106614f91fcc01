//! Adding a file or a folder: read by one thread, hashed by several, written behind, and made durable and a root in one
//! commit at the end. Memory holds a few pieces of 1 MiB, the entries of the folders being read, and the key of each block.

use std::path::Path;
use std::task::Poll;

use futures::stream;
use serde::{Deserialize, Serialize};
use tabpeer::content::directory::Entry;
use tabpeer::content::profile::Profile;
use tabpeer::error::Error;
use tabpeer::peer::import::import_into;
use tabpeer::store::{RootChange, Session, Store, StoreError};
use tokio::sync::mpsc;

use super::directory::{Directory, file_entry};
use super::files::{self, FilesError, Filter, Found};

/// Progress is told every so many bytes.
const PROGRESS_BYTES: u64 = 16 << 20;

/// How something is added.
#[derive(Clone, Debug, Default)]
pub struct AddOptions {
    pub profile: Profile,
    /// What it is called in the events; the last part of its path by default.
    pub name: Option<String>,
    /// Names that begin with a dot.
    pub hidden: bool,
    pub follow_symlinks: bool,
}

/// What is told while something is added; the root last.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "event")]
pub enum AddEvent {
    Added(Added),
    Skipped {
        path: String,
        reason: String,
    },
    /// Bytes read so far.
    Progress {
        bytes: u64,
    },
}

/// A file or a directory that is stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Added {
    pub cid: String,
    pub path: String,
    /// Bytes of all its blocks.
    pub size: u64,
}

/// Why nothing was added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(
        "the store is full; nothing was added (`store.max_bytes` of the configuration, or the disk)"
    )]
    Full,
    #[error("the store failed: {0}")]
    Store(StoreError),
    #[error("the import failed: {0}")]
    Import(Error),
    #[error("a directory cannot be made: {reason}")]
    Directory { reason: String },
    #[error("reading ended in the middle")]
    Interrupted,
}

impl From<StoreError> for AddError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::QuotaExceeded => Self::Full,
            error => Self::Store(error),
        }
    }
}

/// Adds what is at `path` and pins it. What happens goes to `events`, which may be slow; dropping the future takes
/// everything back.
pub async fn add(
    store: &Store,
    path: &Path,
    options: &AddOptions,
    events: mpsc::Sender<AddEvent>,
) -> Result<Added, AddError> {
    let filter = Filter { hidden: options.hidden, follow_symlinks: options.follow_symlinks };
    let found = files::read(path.to_owned(), filter);
    let name = options.name.clone().unwrap_or_else(|| super::last_part(path));
    let mut import = Import {
        session: store.session(),
        profile: options.profile,
        found,
        events,
        folders: Vec::new(),
        trail: Vec::new(),
        bytes: 0,
        told: 0,
    };
    let root = import.run(&name).await?;
    let Import { session, events, .. } = import;
    let pin = super::root_name(&root.cid);
    let expected = store.root(&pin).await?;
    let pin = RootChange { name: pin, expected, new: Some(root.cid) };
    store.commit(vec![session], vec![pin]).await?;
    let added = Added { cid: root.cid.to_string(), path: name, size: root.tsize };
    // Only now, because now it is true. Whoever does not listen has the result.
    let _ = events.send(AddEvent::Added(added.clone())).await;
    Ok(added)
}

struct Import {
    session: Session,
    profile: Profile,
    found: mpsc::Receiver<Found>,
    events: mpsc::Sender<AddEvent>,
    /// Those that are being read, the innermost last.
    folders: Vec<Directory>,
    /// Their names.
    trail: Vec<String>,
    /// Read so far.
    bytes: u64,
    /// Read when progress was told last.
    told: u64,
}

impl Import {
    /// Reads everything; `root` is what the whole is called. Tells of everything but the root.
    async fn run(&mut self, root: &str) -> Result<Entry, AddError> {
        loop {
            let found = self.found.recv().await.ok_or(AddError::Interrupted)?;
            let (name, entry) = match found {
                Found::Folder { name } => {
                    self.folders.push(Directory::new(self.profile));
                    self.trail.push(if self.trail.is_empty() { root.to_owned() } else { name });
                    continue;
                }
                Found::Skipped { path, reason } => {
                    let path = path.to_string_lossy().into_owned();
                    let _ =
                        self.events.send(AddEvent::Skipped { path, reason: reason.into() }).await;
                    continue;
                }
                Found::File { name } => (name, self.file().await?),
                Found::FolderEnd => {
                    let folder = self.folders.pop().ok_or(AddError::Interrupted)?;
                    let name = self.trail.pop().ok_or(AddError::Interrupted)?;
                    (name, folder.finish(&mut self.session).await?)
                }
                Found::Failed(error) => return Err(error.into()),
                Found::Piece(_) | Found::FileEnd => return Err(AddError::Interrupted),
            };
            let Some(above) = self.folders.last_mut() else { return Ok(entry) };
            above.insert(&name, entry)?;
            let path = format!("{}/{name}", self.trail.join("/"));
            let added = Added { cid: entry.cid.to_string(), path, size: entry.tsize };
            let _ = self.events.send(AddEvent::Added(added)).await;
        }
    }

    /// A file, from its first piece to its end.
    async fn file(&mut self) -> Result<Entry, AddError> {
        let Self { session, profile, found, events, bytes, told, .. } = self;
        let mut failure = None;
        let mut pieces = stream::poll_fn(|cx| {
            let result = match std::task::ready!(found.poll_recv(cx)) {
                Some(Found::FileEnd) => return Poll::Ready(None),
                Some(Found::Piece(piece)) => {
                    *bytes += piece.len() as u64;
                    if *bytes - *told >= PROGRESS_BYTES {
                        *told = *bytes;
                        // The next one says as much.
                        let _ = events.try_send(AddEvent::Progress { bytes: *bytes });
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                Some(Found::Failed(error)) => AddError::from(error),
                _ => AddError::Interrupted,
            };
            let reason = result.to_string();
            failure = Some(result);
            Poll::Ready(Some(Err(Error::Storage { reason })))
        });
        let root = import_into(session, *profile, &mut pieces, None, None).await;
        match (failure, root) {
            (None, Ok(root)) => Ok(file_entry(root.cid, root.tsize)),
            (Some(failure), _) => Err(failure),
            (None, Err(Error::QuotaExceeded)) => Err(AddError::Full),
            (None, Err(error)) => Err(AddError::Import(error)),
        }
    }
}
