//! A UnixFS directory made of a folder's entries, which come one by one: flat or, when it gets large, a HAMT.

use cid::Cid;
use tabpeer::content::directory::{DirParams, Entry, EntryKind, Tree, TreeError};
use tabpeer::content::path::TreePath;
use tabpeer::content::profile::Profile;
use tabpeer::store::Session;

use super::AddError;

pub struct Directory {
    tree: Tree,
}

impl Directory {
    pub fn new(profile: Profile) -> Self {
        Self { tree: Tree::empty(DirParams::from(profile)) }
    }

    pub fn insert(&mut self, name: &str, entry: Entry) -> Result<(), AddError> {
        let failed = |error: TreeError| AddError::Directory { reason: error.to_string() };
        let path = TreePath::parse(name).map_err(|error| failed(error.into()))?;
        self.tree.insert(&path, entry).map_err(failed)
    }

    /// Puts its blocks into `session`, children before parents.
    pub async fn finish(mut self, session: &mut Session) -> Result<Entry, AddError> {
        let failed = |error: TreeError| AddError::Directory { reason: error.to_string() };
        let flushed = self.tree.flush().map_err(failed)?;
        for block in flushed.blocks {
            session.put(block).await?;
        }
        self.tree.get(&TreePath::root()).map_err(failed)
    }
}

/// What a directory says of a file in it.
pub fn file_entry(cid: Cid, tsize: u64) -> Entry {
    Entry { cid, tsize, kind: EntryKind::File }
}
