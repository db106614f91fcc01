//! The relay's key on disk: who it is, so the one file that must survive and that nobody else may read.
//!
//! `identity.key` holds the protobuf form of a libp2p private key (libp2p `peer-ids`), always ed25519.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libp2p::identity::{KeyType, Keypair};

/// Name of the key file in the data directory.
pub const KEY_FILE: &str = "identity.key";
/// An encoded ed25519 key has 68 bytes.
const MAX_KEY_BYTES: u64 = 1024;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    #[error("cannot make the data directory {path}: {source}", path = .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot read the key file {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the key file {path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the key file {path} is damaged ({reason}); restore it from a backup, or remove it to start with a new peer id",
        path = .path.display()
    )]
    Damaged { path: PathBuf, reason: String },
}

/// Reads the key in `data_dir`, or makes one.
pub fn load_or_create(data_dir: &Path) -> Result<Keypair, IdentityError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|source| IdentityError::Directory { path: data_dir.to_owned(), source })?;
    let path = data_dir.join(KEY_FILE);
    match File::open(&path) {
        Ok(file) => read(file, &path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(data_dir, &path),
        Err(source) => Err(IdentityError::Read { path, source }),
    }
}

fn read(file: File, path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    let damaged = |reason: String| IdentityError::Damaged { path: path.to_owned(), reason };
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "others could read the key file: taking that right away");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    }
    let mut bytes = Vec::new();
    file.take(MAX_KEY_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_KEY_BYTES {
        return Err(damaged(format!("longer than {MAX_KEY_BYTES} bytes")));
    }
    let key =
        Keypair::from_protobuf_encoding(&bytes).map_err(|error| damaged(error.to_string()))?;
    if key.key_type() != KeyType::Ed25519 {
        return Err(damaged(format!("a key of type {}, not Ed25519", key.key_type())));
    }
    Ok(key)
}

/// Whole or not at all: written under another name, made durable, then linked to the real one, which fails when another
/// process was faster; its key is then the one.
fn create(data_dir: &Path, path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |source| IdentityError::Write { path: path.to_owned(), source };
    let key = Keypair::generate_ed25519();
    let encoded = key.to_protobuf_encoding().map_err(|error| IdentityError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let unfinished = data_dir.join(format!("{KEY_FILE}.{}.new", std::process::id()));
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed)?;
    let linked = file
        .write_all(&encoded)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&unfinished, path));
    let _ = fs::remove_file(&unfinished);
    match linked {
        Ok(()) => {
            File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed)?;
            tracing::info!(path = %path.display(), peer = %key.public().to_peer_id(), "made a new identity");
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            File::open(path).map_err(failed).and_then(|file| read(file, path))
        }
        Err(source) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn made_once_and_for_the_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("deep").join("data");
        let first = load_or_create(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join(KEY_FILE)), 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "nothing unfinished is left");
        let again = load_or_create(&data).unwrap();
        assert_eq!(first.public(), again.public());
    }

    #[test]
    fn rights_that_are_too_open_are_taken_away() {
        let data = tempfile::tempdir().unwrap();
        let key = load_or_create(data.path()).unwrap();
        let path = data.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load_or_create(data.path()).unwrap().public(), key.public());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_damaged_file_is_refused_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(KEY_FILE);
        for content in [b"not a key".to_vec(), Vec::new(), vec![0; 5000]] {
            fs::write(&path, &content).unwrap();
            let message = load_or_create(data.path()).unwrap_err().to_string();
            assert!(message.contains("damaged") && message.contains(KEY_FILE), "{message}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_data_directory_that_cannot_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = load_or_create(&file.path().join("data")).unwrap_err().to_string();
        assert!(message.contains("data directory"), "{message}");
    }
}
