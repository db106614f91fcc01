//! Giving a file that is stored here a place in the tree.

use super::{Peer, Stored, convert, file_path, read, tree::Edit};
use crate::{
    content::{
        block::{Block, Cid},
        dagpb::PbNode,
        directory::{Entry, EntryKind},
    },
    error::{Error, Result},
};

impl Peer {
    /// Puts a whole file that is stored here into the tree, at `path`.
    pub async fn place(&self, path: &str, file: Cid) -> Result<Stored> {
        let path = file_path(path)?;
        let store = &self.inner.store;
        let root = store.get(&file).await?.ok_or_else(|| convert::missing(&file))?;
        if read::is_directory(&root)? {
            return Err(Error::IsADirectory { path: file.to_string() });
        }
        let entry = Entry { cid: file, tsize: tsize(&root), kind: EntryKind::File };
        let edited = self.inner.tree.edit(Edit::Insert(path, entry), None).await?;
        Ok(Stored { file: edited.cid.unwrap_or(file), root: edited.root })
    }
}

/// Bytes of all blocks of the file, as its root says.
fn tsize(root: &Block) -> u64 {
    let links = PbNode::decode(root.data()).map(|node| node.links).unwrap_or_default();
    let below = links.iter().fold(0u64, |sum, link| sum.saturating_add(link.tsize));
    below.saturating_add(root.data().len() as u64)
}
