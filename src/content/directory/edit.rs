//! One edit at a path: down through the directories, asking for what is not loaded before anything
//! is changed, and marking what was passed on the way back.

use super::load::Loader;
use super::node::{Child, Dir, Link};
use super::{Entry, EntryKind, TreeError};

/// What to do at a path.
pub(super) enum Edit {
    Put(Entry),
    MakeDirectory,
    Remove,
}

impl Dir {
    /// Applies `edit` at `parts[at..]`; says whether anything is different now.
    pub fn apply(
        &mut self,
        parts: &[&str],
        at: usize,
        edit: &Edit,
        loader: &mut Loader,
    ) -> Result<bool, TreeError> {
        let Some(name) = parts.get(at).copied() else { return Err(TreeError::Root) };
        let rest = parts.get(at + 1..).unwrap_or_default();
        let (here, rule) = (|| joined(parts, at + 1), loader.params.shard);
        self.load(name, loader)?;
        let Some(child) = self.child_mut(name) else {
            let child = match edit {
                Edit::Remove => return Err(TreeError::NotFound { path: parts.join("/") }),
                Edit::Put(entry) => grow(rest, Child::of(entry), loader)?,
                Edit::MakeDirectory => {
                    grow(rest, Child::directory(Dir::empty(), loader.params.version), loader)?
                }
            };
            self.put(name, child, rule)?;
            return Ok(true);
        };
        if !rest.is_empty() {
            let Some(dir) = child.open(loader)? else {
                return Err(TreeError::NotADirectory { path: here() });
            };
            let changed = dir.apply(parts, at + 1, edit, loader)?;
            if changed {
                self.touch(name);
            }
            return Ok(changed);
        }
        match edit {
            Edit::Remove => self.take(name, rule),
            Edit::MakeDirectory => match child.resolve(loader)? {
                EntryKind::Directory => return Ok(false),
                _ => return Err(TreeError::NotADirectory { path: here() }),
            },
            Edit::Put(entry) => {
                let same = Link { cid: entry.cid, tsize: entry.tsize } == child.link;
                if same && child.is_settled() {
                    return Ok(false);
                }
                let was = child.resolve(loader)? == EntryKind::Directory;
                match (was, entry.kind == EntryKind::Directory) {
                    (true, false) => return Err(TreeError::IsADirectory { path: here() }),
                    (false, true) => return Err(TreeError::NotADirectory { path: here() }),
                    _ => self.put(name, Child::of(entry), rule)?,
                }
            }
        }
        Ok(true)
    }
}

/// The entry that leads through new directories to `child`.
fn grow(parts: &[&str], child: Child, loader: &Loader) -> Result<Child, TreeError> {
    parts.iter().rev().try_fold(child, |child, name| {
        let mut dir = Dir::empty();
        dir.put(name, child, loader.params.shard)?;
        Ok(Child::directory(dir, loader.params.version))
    })
}

/// The path of the first `count` parts.
pub(super) fn joined(parts: &[&str], count: usize) -> String {
    parts.get(..count).unwrap_or(parts).join("/")
}
