//! What a tree holds in memory: directories as far as they are loaded, and what is known of the rest.

use super::load::Loader;
use super::shard::{Key, Shard};
use super::{Entry, EntryKind, TreeError};
use crate::boxmap::BoxMap;
use crate::content::block::{Block, Cid, DAG_PB, RAW, cid_of};
use crate::content::dagpb::PbLink;
use crate::content::hamt::{Fanout, Place, Stat};
use crate::content::profile::ShardRule;
use crate::content::unixfs::{Kind, UnixFs};
use crate::content::varint::{bytes_field_len, varint_len};

/// A link without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub cid: Cid,
    pub tsize: u64,
}

/// An entry of a directory. While `dir` is changed, `link` is the one of its last sealed state.
#[derive(Debug)]
pub(super) struct Child {
    pub link: Link,
    /// `None` until its block tells.
    pub kind: Option<EntryKind>,
    pub dir: Option<Box<Dir>>,
}

/// A loaded directory.
#[derive(Debug)]
pub(super) struct Dir {
    pub stat: Stat,
    pub form: Form,
    /// Of the directory's root node.
    pub seal: Seal,
    /// How many entries the whole subtree has, when all of it is loaded and of known kind.
    pub whole: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Form {
    Flat(Flat),
    Hamt(Hamt),
}

#[derive(Debug, Default)]
pub(super) struct Flat {
    pub entries: BoxMap<String, Child>,
    /// Sum of [`weight`] over the entries.
    pub weight: u64,
}

/// A sharded directory. Whether it is still too large for a flat one is known without loading it:
/// it was when it was written, and changes since are counted in `at_least`.
#[derive(Debug)]
pub(super) struct Hamt {
    pub fanout: Fanout,
    pub root: Shard,
    /// A lower bound of the size that the rule measures.
    pub at_least: u64,
    /// How much to find when the bound no longer suffices. More than the threshold if it had to be
    /// found before, so that removing one entry after the other does not find it each time.
    pub goal: u64,
    pub seeking: bool,
}

/// How a node in memory relates to the blocks that were handed out.
#[derive(Debug)]
pub(super) struct Seal {
    pub state: State,
    /// The node's CID when it was last loaded or handed out.
    pub origin: Option<Cid>,
}

#[derive(Debug)]
pub(super) enum State {
    /// As in its block, which the caller has.
    Saved,
    /// Encoded; the block waits for the next flush.
    Sealed(Block),
    /// Differs from any block; so does everything above it.
    Changed,
}

impl Seal {
    pub fn saved(cid: Cid) -> Self {
        Self { state: State::Saved, origin: Some(cid) }
    }

    pub fn changed() -> Self {
        Self { state: State::Changed, origin: None }
    }

    pub fn touch(&mut self) {
        self.state = State::Changed;
    }

    pub fn is_saved(&self) -> bool {
        matches!(self.state, State::Saved)
    }

    pub fn is_changed(&self) -> bool {
        matches!(self.state, State::Changed)
    }
}

impl Child {
    pub fn new(link: Link) -> Self {
        let kind = match link.cid.codec() {
            RAW => Some(EntryKind::File),
            DAG_PB => None,
            _ => Some(EntryKind::Other),
        };
        Self { link, kind, dir: None }
    }

    pub fn of(entry: &Entry) -> Self {
        let link = Link { cid: entry.cid, tsize: entry.tsize };
        Self { link, kind: Some(entry.kind), dir: None }
    }

    /// A new directory; its link has the right length at once, and its content when it is sealed.
    pub fn directory(dir: Dir, version: cid::Version) -> Self {
        let link = Link { cid: cid_of(version, DAG_PB, &[0; 32]), tsize: 0 };
        Self { link, kind: Some(EntryKind::Directory), dir: Some(Box::new(dir)) }
    }

    /// What this is, from memory or from its block.
    pub fn resolve(&mut self, loader: &mut Loader) -> Result<EntryKind, TreeError> {
        if self.kind.is_none() {
            self.fetch(loader)?;
        }
        Ok(self.kind.unwrap_or(EntryKind::Other))
    }

    /// The directory this is, loaded; `None` if it is something else.
    pub fn open(&mut self, loader: &mut Loader) -> Result<Option<&mut Dir>, TreeError> {
        let may_be = matches!(self.kind, None | Some(EntryKind::Directory));
        if may_be && self.dir.is_none() {
            self.fetch(loader)?;
        }
        Ok(self.dir.as_deref_mut())
    }

    /// Whether the link tells the content, that is, nothing below has changed since it was made.
    pub fn is_settled(&self) -> bool {
        self.dir.as_ref().is_none_or(|dir| !dir.seal.is_changed())
    }

    fn fetch(&mut self, loader: &mut Loader) -> Result<(), TreeError> {
        let block = loader.block(&self.link.cid)?;
        let (kind, dir) = loader.classify(&block)?;
        self.kind = Some(kind);
        self.dir = dir.map(Box::new);
        Ok(())
    }

    pub fn entry(&self) -> Entry {
        let kind = self.kind.unwrap_or(EntryKind::Other);
        Entry { cid: self.link.cid, tsize: self.link.tsize, kind }
    }
}

impl Dir {
    pub fn empty() -> Self {
        let form = Form::Flat(Flat::default());
        Self { stat: Stat::default(), form, seal: Seal::changed(), whole: None }
    }

    /// Loads what must be known to find, put or take `name`.
    pub fn load(&mut self, name: &str, loader: &mut Loader) -> Result<(), TreeError> {
        match &mut self.form {
            Form::Flat(_) => Ok(()),
            Form::Hamt(hamt) => hamt.root.load(&Key::new(name), Place::root(hamt.fanout), loader),
        }
    }

    /// The entry called `name`, if what leads to it is loaded.
    pub fn child_mut(&mut self, name: &str) -> Option<&mut Child> {
        match &mut self.form {
            Form::Flat(flat) => flat.entries.get_mut(name),
            Form::Hamt(hamt) => hamt.root.find(&Key::new(name), Place::root(hamt.fanout)),
        }
    }

    /// Adds or replaces an entry, after [`Dir::load`].
    pub fn put(&mut self, name: &str, child: Child, rule: ShardRule) -> Result<(), TreeError> {
        match &mut self.form {
            Form::Flat(flat) => {
                flat.weight += weight(rule, name, &child.link);
                if let Some(old) = flat.entries.insert(name.to_owned(), child) {
                    flat.weight -= weight(rule, name, &old.link);
                }
            }
            Form::Hamt(hamt) => hamt.put(name, child, rule)?,
        }
        self.mark();
        Ok(())
    }

    /// Removes an entry, after [`Dir::load`].
    pub fn take(&mut self, name: &str, rule: ShardRule) {
        match &mut self.form {
            Form::Flat(flat) => {
                if let Some(old) = flat.entries.remove(name) {
                    flat.weight -= weight(rule, name, &old.link);
                }
            }
            Form::Hamt(hamt) => hamt.weighed(|root, place| {
                root.take(&Key::new(name), place, rule);
            }),
        }
        self.mark();
    }

    /// Says that the directory called `name` has changed inside.
    pub fn touch(&mut self, name: &str) {
        if let Form::Hamt(hamt) = &mut self.form {
            hamt.root.touch(&Key::new(name), Place::root(hamt.fanout));
        }
        self.mark();
    }

    fn mark(&mut self) {
        self.seal.touch();
        self.whole = None;
    }
}

impl Hamt {
    pub fn put(&mut self, name: &str, child: Child, rule: ShardRule) -> Result<(), TreeError> {
        self.weighed(|root, place| root.put(Key::new(name), child, place, rule))
    }

    /// Does something that changes entries, and moves the bound along.
    pub fn weighed<T>(&mut self, change: impl FnOnce(&mut Shard, Place) -> T) -> T {
        let before = self.root.tally.weight;
        let result = change(&mut self.root, Place::root(self.fanout));
        let after = self.root.tally.weight;
        self.at_least = (self.at_least + after).saturating_sub(before);
        result
    }
}

/// What an entry counts under the rule.
pub(super) fn weight(rule: ShardRule, name: &str, link: &Link) -> u64 {
    let cid = link.cid.encoded_len();
    let bytes = match rule {
        ShardRule::LinkBytes(_) => name.len() + cid,
        ShardRule::BlockBytes(_) => bytes_field_len(
            bytes_field_len(cid) + bytes_field_len(name.len()) + 1 + varint_len(link.tsize),
        ),
    };
    bytes as u64
}

/// What a flat directory without entries counts under the rule.
pub(super) fn base_weight(rule: ShardRule, stat: Stat) -> u64 {
    match rule {
        ShardRule::LinkBytes(_) => 0,
        ShardRule::BlockBytes(_) => bytes_field_len(flat_data(stat).encode().len()) as u64,
    }
}

/// The size above which a directory is sharded.
pub(super) fn threshold(rule: ShardRule) -> u64 {
    match rule {
        ShardRule::LinkBytes(bytes) | ShardRule::BlockBytes(bytes) => bytes as u64,
    }
}

/// The UnixFS message of a flat directory.
pub(super) fn flat_data(stat: Stat) -> UnixFs {
    let mut data = UnixFs::new(Kind::Directory);
    (data.mode, data.mtime) = (stat.mode, stat.mtime);
    data
}

/// A named link.
pub(super) fn pb_link(name: String, link: &Link) -> PbLink {
    PbLink { cid: link.cid, name, tsize: link.tsize }
}
