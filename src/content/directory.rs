//! A tree of UnixFS directories that is edited in place (UnixFS specification, "dag-pb Directory" and
//! "dag-pb HAMTDirectory"; thresholds as in IPIP-0499).
//!
//! Nothing is loaded before it is needed: a call that misses blocks changes nothing and says which
//! ones ([`TreeError::Need`]); the caller hands them in with [`Tree::supply`] and repeats the call.
//! [`Tree::flush`] gives the blocks of the directories that changed, and only those.
//!
//! The root CID depends on the content alone, not on the order of edits, and is what other
//! implementations make of the same content: a directory is sharded exactly when its size is above
//! the rule's threshold. What other software wrote with other rules is read as it is. Where it is
//! edited, directories on the way are written under our CID version and get the form that our rule
//! demands, a sharded one at the latest when it gets smaller (until then it is taken to be large, so
//! that an insertion need not load it all). It keeps its fanout. Mode and mtime are kept.

mod edit;
mod entries;
mod list;
mod load;
mod node;
mod seal;
mod shard;
#[cfg(test)]
mod tests;

use crate::boxmap::{BoxMap, BoxSet};

use super::block::{Block, Cid};
use super::dagpb::PbError;
use super::hamt::HamtError;
use super::path::{PathError, TreePath};
use super::profile::{Profile, ShardRule};
use super::unixfs::UnixFsError;
use edit::Edit;
use load::{Loader, Shelf};
use node::{Child, Dir, Link};
use seal::Handout;

/// Most entries, and shards on the way to them, that one call goes over.
pub const MAX_ENTRIES: usize = 1 << 18;
/// Most blocks that one answer asks for.
pub const MAX_NEED: usize = 64;
/// Most sharded directories whose size is remembered while they are not loaded.
const MAX_LEARNED: usize = 1024;

/// What decides the CIDs of directories; usually a [`Profile`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirParams {
    pub version: cid::Version,
    pub shard: ShardRule,
}

/// Something in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub cid: Cid,
    /// Sum of the sizes of its blocks.
    pub tsize: u64,
    pub kind: EntryKind,
}

/// What an entry is. A link does not tell; its codec or its block does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Directory,
    Symlink,
    /// No UnixFS at all, as a link to some other IPLD data. Found in foreign directories only.
    Other,
}

/// Why a call on a tree failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// At most [`MAX_NEED`] blocks to supply before calling again.
    #[error("{} blocks of the tree are not loaded", .0.len())]
    Need(Vec<Cid>),
    #[error("there is nothing at {path:?}")]
    NotFound { path: String },
    #[error("{path:?} is not a directory")]
    NotADirectory { path: String },
    #[error("{path:?} is a directory")]
    IsADirectory { path: String },
    #[error("the root of the tree can be neither replaced nor removed")]
    Root,
    #[error("directory node {cid} cannot be read: {why}")]
    BadNode { cid: Cid, why: Box<NodeError> },
    #[error(transparent)]
    BadPath(#[from] PathError),
    #[error("the tree has more than {MAX_ENTRIES} entries")]
    TooMany,
    #[error("the tree has directories nested more than {} deep", super::path::MAX_PARTS)]
    TooDeep,
    #[error("{:?} and {:?} have the same hash and cannot be in one sharded directory", .names[0], .names[1])]
    Collision { names: [String; 2] },
    #[error("a directory node would have {len} bytes, more than a block may have")]
    NodeTooLarge { len: usize },
    #[error("block {cid} was supplied, but the last call did not ask for it")]
    NotAsked { cid: Cid },
}

/// What is wrong with a directory node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Pb(#[from] PbError),
    #[error(transparent)]
    UnixFs(#[from] UnixFsError),
    #[error(transparent)]
    Hamt(#[from] HamtError),
    #[error("it should be a shard with links")]
    NotAShard,
    #[error("{0:?} is not a name that an entry can have")]
    BadName(String),
    #[error("it has two entries called {0:?}")]
    Duplicate(String),
}

/// What a flush hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    pub root: Cid,
    /// Directory nodes that are new since the last flush, children before parents. A node can be
    /// among them that the caller has from elsewhere, if equal directories exist in two places.
    pub blocks: Vec<Block>,
}

/// A mutable tree of directories. See the module's documentation.
#[derive(Debug)]
pub struct Tree {
    params: DirParams,
    root: Child,
    /// Blocks supplied for the next call; dropped after it.
    shelf: Shelf,
    /// Multihashes of the blocks that the last call asked for.
    asked: BoxSet<Vec<u8>>,
    learned: BoxMap<Cid, u64>,
}

impl From<Profile> for DirParams {
    fn from(profile: Profile) -> Self {
        Self { version: profile.version(), shard: profile.shard_rule() }
    }
}

impl Tree {
    /// A tree whose root is an empty directory, to be written by the first flush.
    pub fn empty(params: DirParams) -> Self {
        Self::of(Child::directory(Dir::empty(), params.version), params)
    }

    /// The tree below an existing directory.
    pub fn open(root: Cid, params: DirParams) -> Self {
        Self::of(Child::new(Link { cid: root, tsize: 0 }), params)
    }

    /// Hands in a block that the last call asked for. What is wrong with it shows in the next call.
    pub fn supply(&mut self, block: &Block) -> Result<(), TreeError> {
        let hash = block.cid().hash().to_bytes();
        if !self.asked.contains(&hash) {
            return Err(TreeError::NotAsked { cid: *block.cid() });
        }
        self.shelf.insert(hash, block.clone());
        Ok(())
    }

    /// Puts an entry at `path`, making the directories above it. An entry that is there is replaced,
    /// but never a directory by something else or something else by a directory.
    pub fn insert(&mut self, path: &TreePath, entry: Entry) -> Result<(), TreeError> {
        self.edit(path, &Edit::Put(entry))
    }

    /// Makes a directory and those above it; nothing to do if there is one.
    pub fn create_directory(&mut self, path: &TreePath) -> Result<(), TreeError> {
        if path.is_root() {
            return self.with_root(|_, _| Ok(()));
        }
        self.edit(path, &Edit::MakeDirectory)
    }

    /// Removes an entry; a directory with all that is in it. The directory above stays, also when it
    /// is empty then.
    pub fn remove(&mut self, path: &TreePath) -> Result<(), TreeError> {
        self.edit(path, &Edit::Remove)
    }

    /// What is at `path`; the root for the empty path.
    pub fn get(&mut self, path: &TreePath) -> Result<Entry, TreeError> {
        let parts: Vec<&str> = path.parts().collect();
        self.run(|root, loader| {
            let child = find(root, &parts, loader)?;
            let kind = child.resolve(loader)?;
            if child.is_settled() {
                return Ok(Entry { kind, ..child.entry() });
            }
            // A changed directory has no CID yet. Sizes are kept from the root down, so seal it all.
            if !root.settle(loader)? {
                return Err(loader.need());
            }
            Ok(find(root, &parts, loader)?.entry())
        })
    }

    /// Everything below the directory at `path`, in the order of paths, each directory before its
    /// content. Asks for as many blocks at a time as an answer holds. Stays in memory until
    /// [`Tree::unload`].
    pub fn list(&mut self, path: &TreePath) -> Result<Vec<(TreePath, Entry)>, TreeError> {
        self.in_directory(path, |dir, loader| {
            let Some(entries) = dir.load_whole(path.parts().count(), loader)? else {
                return Err(loader.need());
            };
            let mut out = Vec::with_capacity(entries);
            dir.gather(path, &mut out)?;
            Ok(out)
        })
    }

    /// The names and CIDs in the directory at `path`, sorted by name, whatever they are.
    pub fn entries(&mut self, path: &TreePath) -> Result<Vec<(String, Cid)>, TreeError> {
        self.in_directory(path, |dir, loader| {
            if !dir.load_names(loader)? {
                return Err(loader.need());
            }
            let children = dir.sorted_children().into_iter();
            Ok(children.map(|(name, child)| (name.to_owned(), child.link.cid)).collect())
        })
    }

    /// Encodes what changed since the last flush. Asks for blocks only when a sharded directory has
    /// shrunk so far that it may have to become a flat one.
    pub fn flush(&mut self) -> Result<Flushed, TreeError> {
        self.run(|root, loader| {
            if !root.settle(loader)? {
                return Err(loader.need());
            }
            let mut out = Handout::default();
            root.collect(&mut out);
            Ok(Flushed { root: root.link.cid, blocks: out.blocks })
        })
    }

    /// Forgets everything that a flush has handed out, so that memory is bounded by what changed
    /// since. What is needed again is asked for again.
    pub fn unload(&mut self) {
        self.root.unload(self.params, &mut self.learned);
    }

    fn of(root: Child, params: DirParams) -> Self {
        let (shelf, asked, learned) = (Shelf::new(), BoxSet::new(), BoxMap::new());
        Self { params, root, shelf, asked, learned }
    }

    /// Works on the directory at `path`, with all CIDs known.
    fn in_directory<T>(
        &mut self,
        path: &TreePath,
        call: impl FnOnce(&mut Dir, &mut Loader) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        let parts: Vec<&str> = path.parts().collect();
        self.run(|root, loader| {
            if !root.settle(loader)? {
                return Err(loader.need());
            }
            match find(root, &parts, loader)?.open(loader)? {
                Some(dir) => call(dir, loader),
                None => Err(TreeError::NotADirectory { path: path.to_string() }),
            }
        })
    }

    fn edit(&mut self, path: &TreePath, edit: &Edit) -> Result<(), TreeError> {
        let parts: Vec<&str> = path.parts().collect();
        self.with_root(|root, loader| root.apply(&parts, 0, edit, loader).map(drop))
    }

    fn with_root<T>(
        &mut self,
        call: impl FnOnce(&mut Dir, &mut Loader) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        self.run(|root, loader| match root.open(loader)? {
            Some(dir) => call(dir, loader),
            None => Err(TreeError::NotADirectory { path: String::new() }),
        })
    }

    /// One call: with the blocks on the shelf, and a note of what it asks for.
    fn run<T>(
        &mut self,
        call: impl FnOnce(&mut Child, &mut Loader) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        let shelf = std::mem::take(&mut self.shelf);
        let result = call(&mut self.root, &mut Loader::new(self.params, &shelf, &self.learned));
        self.asked = match &result {
            Err(TreeError::Need(cids)) => cids.iter().map(|cid| cid.hash().to_bytes()).collect(),
            _ => BoxSet::new(),
        };
        result
    }
}

/// The entry at `parts`, loading what leads there.
fn find<'a>(
    root: &'a mut Child,
    parts: &[&str],
    loader: &mut Loader,
) -> Result<&'a mut Child, TreeError> {
    let mut child = root;
    for (depth, name) in parts.iter().enumerate() {
        let Some(dir) = child.open(loader)? else {
            return Err(TreeError::NotADirectory { path: edit::joined(parts, depth) });
        };
        dir.load(name, loader)?;
        let found = dir.child_mut(name);
        child = found.ok_or_else(|| TreeError::NotFound { path: parts.join("/") })?;
    }
    Ok(child)
}
