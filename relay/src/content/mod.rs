//! What the relay keeps and serves: a store on the disk, in which each file or folder added is pinned as a root of its own.

mod add;
mod directory;
mod files;

use std::path::{Path, PathBuf};

use cid::Cid;
use serde::{Deserialize, Serialize};
use tabpeer::content::dagpb::PbNode;
use tabpeer::content::unixfs::{Kind, UnixFs};
use tabpeer::platform::database::{DatabaseError, Databases as _};
use tabpeer::platform::native::redb::{RedbDatabases, RedbOptions};
use tabpeer::store::{RootChange, Store, StoreError};

use crate::config::RelayConfig;

pub use add::{AddError, AddEvent, AddOptions, Added, add};

/// Name of the store's database in its folder.
const DATABASE: &str = "blocks";
/// In front of the CID in the name of a root that was added.
const ADDED: &str = "add/";

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    #[error("cannot open the store {path}: {source}", path = .path.display())]
    Open { path: PathBuf, source: StoreError },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{cid} was not added here: see `tabpeer-relay ls`")]
    NotAdded { cid: Cid },
}

/// A root that was added.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    pub cid: String,
    /// `file`, `directory` or `other`.
    pub kind: String,
    /// Bytes of the file; of anything else, bytes of all its blocks.
    pub size: u64,
}

/// Opens the store of a relay with this configuration; it must be the only one.
pub async fn open(config: &RelayConfig) -> Result<Store, ContentError> {
    let folder = config.store_path();
    let quota = Some(config.store.max_bytes).filter(|max| *max > 0);
    let options = RedbOptions { quota, ..RedbOptions::default() };
    let databases = RedbDatabases::with_options(&folder, options);
    let path = databases.path(DATABASE);
    let failed = |source| ContentError::Open { path, source };
    match databases.open(DATABASE.into()).await {
        Ok(database) => Store::open(database).await.map_err(failed),
        Err(error) => Err(failed(error.into())),
    }
}

/// Whether the store cannot be opened because another process has it.
pub fn is_in_use(error: &ContentError) -> bool {
    let ContentError::Open { source: StoreError::Database(DatabaseError::Failed(reason)), .. } =
        error
    else {
        return false;
    };
    reason.contains("another process")
}

/// Everything that was added, by CID.
pub async fn list(store: &Store) -> Result<Vec<Pin>, ContentError> {
    let mut pins = Vec::new();
    for (_, cid) in store.roots(ADDED).await? {
        let (kind, size) = describe(store, &cid).await?;
        pins.push(Pin { cid: cid.to_string(), kind: kind.into(), size });
    }
    Ok(pins)
}

/// Takes back what [`add`] has pinned, and frees what nothing else needs.
pub async fn remove(store: &Store, cid: Cid) -> Result<(), ContentError> {
    let name = root_name(&cid);
    let expected = store.root(&name).await?;
    if expected.is_none() {
        return Err(ContentError::NotAdded { cid });
    }
    Ok(store.commit(Vec::new(), vec![RootChange { name, expected, new: None }]).await?)
}

fn root_name(cid: &Cid) -> String {
    format!("{ADDED}{cid}")
}

async fn describe(store: &Store, cid: &Cid) -> Result<(&'static str, u64), ContentError> {
    let Some(block) = store.get(cid).await? else { return Ok(("other", 0)) };
    let len = block.data().len() as u64;
    let Ok(node) = PbNode::decode(block.data()) else { return Ok(("file", len)) };
    if cid.codec() != tabpeer::content::block::DAG_PB {
        return Ok(("file", len));
    }
    let below = node.links.iter().fold(len, |sum, link| sum.saturating_add(link.tsize));
    Ok(match node.data.and_then(|data| UnixFs::decode(&data).ok()) {
        Some(UnixFs { kind: Kind::File | Kind::Raw, file_size, .. }) => {
            ("file", file_size.unwrap_or(below))
        }
        Some(UnixFs { kind: Kind::Directory | Kind::HamtShard, .. }) => ("directory", below),
        _ => ("other", below),
    })
}

/// The last part of a path, as it is shown.
fn last_part(path: &Path) -> String {
    path.file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy().into_owned())
}
