//! A file or a folder, read in order by a thread of its own, at most a few pieces ahead of whoever takes them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tabpeer::content::path::{MAX_PARTS, check_name};
use tokio::sync::mpsc;

/// What is read of a file at a time: chunks of every import profile end with it, so none has to be put together.
const PIECE: u64 = 1 << 20;
/// Pieces read ahead.
const READ_AHEAD: usize = 8;
/// Most entries of one folder.
pub const MAX_FOLDER_ENTRIES: usize = 1 << 18;

/// What is found, in this order: a folder, what is in it sorted by name, its end; a file, its pieces, its end.
#[derive(Debug)]
pub enum Found {
    Folder {
        name: String,
    },
    FolderEnd,
    File {
        name: String,
    },
    Piece(Bytes),
    FileEnd,
    /// Left out, and why.
    Skipped {
        path: PathBuf,
        reason: &'static str,
    },
    Failed(FilesError),
}

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is {what}", path = .path.display())]
    Unfit { path: PathBuf, what: &'static str },
    #[error("{path} has more than {MAX_FOLDER_ENTRIES} entries", path = .path.display())]
    TooManyEntries { path: PathBuf },
    #[error("{path} lies more than {MAX_PARTS} folders deep", path = .path.display())]
    TooDeep { path: PathBuf },
}

/// What is left out of a folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    pub hidden: bool,
    pub follow_symlinks: bool,
}

/// Starts reading; ends early when the receiver is dropped.
pub fn read(path: PathBuf, filter: Filter) -> mpsc::Receiver<Found> {
    let (found, receiver) = mpsc::channel(READ_AHEAD);
    drop(tokio::task::spawn_blocking(move || {
        let name = super::last_part(&path);
        let mut reader = Reader { found, filter, above: Vec::new() };
        // What was asked for by name is read even if it is hidden or a symbolic link.
        let read = fs::metadata(&path)
            .map_err(|source| Stop::failed(&path, source))
            .and_then(|metadata| reader.entry(&path, name, &metadata));
        if let Err(Stop::Failed(error)) = read {
            // Nobody minds who has gone.
            let _ = reader.found.blocking_send(Found::Failed(error));
        }
    }));
    receiver
}

struct Reader {
    found: mpsc::Sender<Found>,
    filter: Filter,
    /// Device and inode of the folders that are being read, because links may lead back up.
    above: Vec<(u64, u64)>,
}

enum Stop {
    Failed(FilesError),
    /// Nobody wants the rest.
    Unwanted,
}

impl Stop {
    fn failed(path: &Path, source: io::Error) -> Self {
        Self::Failed(FilesError::Read { path: path.to_owned(), source })
    }
}

impl Reader {
    fn entry(&mut self, path: &Path, name: String, metadata: &Metadata) -> Result<(), Stop> {
        let unfit = |what| Stop::Failed(FilesError::Unfit { path: path.to_owned(), what });
        if metadata.is_dir() {
            self.folder(path, name, metadata)
        } else if metadata.is_file() {
            self.file(path, name)
        } else if self.above.is_empty() {
            Err(unfit("neither a file nor a folder"))
        } else {
            self.skip(path, "it is neither a file nor a folder")
        }
    }

    fn folder(&mut self, path: &Path, name: String, metadata: &Metadata) -> Result<(), Stop> {
        if self.above.len() >= MAX_PARTS {
            return Err(Stop::Failed(FilesError::TooDeep { path: path.to_owned() }));
        }
        let failed = |source| Stop::failed(path, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            if names.len() == MAX_FOLDER_ENTRIES {
                return Err(Stop::Failed(FilesError::TooManyEntries { path: path.to_owned() }));
            }
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_unstable();
        self.send(Found::Folder { name })?;
        self.above.push((metadata.dev(), metadata.ino()));
        for name in names {
            let path = path.join(&name);
            match name.into_string() {
                Ok(name) if check_name(&name).is_ok() => self.child(&path, name)?,
                _ => self.skip(&path, "its name cannot be part of a path")?,
            }
        }
        self.above.pop();
        self.send(Found::FolderEnd)
    }

    fn child(&mut self, path: &Path, name: String) -> Result<(), Stop> {
        if name.starts_with('.') && !self.filter.hidden {
            return self.skip(path, "it is hidden (--hidden adds it)");
        }
        let failed = |source| Stop::failed(path, source);
        let mut metadata = fs::symlink_metadata(path).map_err(failed)?;
        if metadata.is_symlink() {
            if !self.filter.follow_symlinks {
                return self.skip(path, "it is a symbolic link (--follow-symlinks follows it)");
            }
            metadata = match fs::metadata(path) {
                Ok(metadata) => metadata,
                Err(_) => return self.skip(path, "it is a symbolic link that leads nowhere"),
            };
            if self.above.contains(&(metadata.dev(), metadata.ino())) {
                return self.skip(path, "it is a symbolic link to a folder that it is in");
            }
        }
        self.entry(path, name, &metadata)
    }

    fn file(&mut self, path: &Path, name: String) -> Result<(), Stop> {
        let failed = |source| Stop::failed(path, source);
        // Not to be kept waiting by a pipe that has taken the file's place.
        let mut file =
            File::options().read(true).custom_flags(O_NONBLOCK).open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        self.send(Found::File { name })?;
        loop {
            // One more than there is, so that the end is found without asking for more room.
            let mut piece = Vec::with_capacity(size.min(PIECE) as usize + 1);
            file.by_ref().take(PIECE).read_to_end(&mut piece).map_err(failed)?;
            let last = (piece.len() as u64) < PIECE;
            if !piece.is_empty() {
                self.send(Found::Piece(piece.into()))?;
            }
            if last {
                return self.send(Found::FileEnd);
            }
        }
    }

    fn skip(&self, path: &Path, reason: &'static str) -> Result<(), Stop> {
        self.send(Found::Skipped { path: path.to_owned(), reason })
    }

    fn send(&self, found: Found) -> Result<(), Stop> {
        self.found.blocking_send(found).map_err(|_| Stop::Unwanted)
    }
}

/// Of Linux's `open`; the other systems that a relay runs on have none of their pipes in the way.
#[cfg(target_os = "linux")]
const O_NONBLOCK: i32 = 0o4000;
#[cfg(not(target_os = "linux"))]
const O_NONBLOCK: i32 = 0;
