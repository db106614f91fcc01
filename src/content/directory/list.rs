//! The whole content of a tree or a part of it, in order.

use super::load::Loader;
use super::node::{Child, Dir, Form};
use super::shard::{Body, Shard, Slot};
use super::{Entry, EntryKind, TreeError};
use crate::content::hamt::Place;
use crate::content::path::{MAX_PARTS, TreePath};

impl Child {
    /// Loads everything below, and wishes for what was not supplied. The number of entries, this one
    /// included, once all of it is there.
    pub fn load_whole(
        &mut self,
        depth: usize,
        loader: &mut Loader,
    ) -> Result<Option<usize>, TreeError> {
        loader.visit(1)?;
        let kind = self.resolve(loader);
        match loader.wish(kind)? {
            None => Ok(None),
            Some(EntryKind::Directory) => {
                let dir = self.open(loader);
                match loader.wish(dir)? {
                    Some(Some(dir)) => Ok(dir.load_whole(depth + 1, loader)?.map(|n| n + 1)),
                    Some(None) => Ok(Some(1)),
                    None => Ok(None),
                }
            }
            Some(_) => Ok(Some(1)),
        }
    }
}

impl Dir {
    /// As [`Child::load_whole`], without the directory itself.
    pub fn load_whole(
        &mut self,
        depth: usize,
        loader: &mut Loader,
    ) -> Result<Option<usize>, TreeError> {
        if depth > MAX_PARTS {
            return Err(TreeError::TooDeep);
        }
        if let Some(entries) = self.whole {
            loader.visit(entries)?;
            return Ok(Some(entries));
        }
        self.whole = match &mut self.form {
            Form::Hamt(hamt) => hamt.root.load_whole(Place::root(hamt.fanout), depth, loader)?,
            Form::Flat(flat) => {
                let mut sum = Some(0);
                for child in flat.entries.values_mut() {
                    if loader.is_full() {
                        return Ok(None);
                    }
                    sum = add(sum, child.load_whole(depth, loader)?);
                }
                sum
            }
        };
        Ok(self.whole)
    }

    /// Everything below in order, each directory before its content; `path` leads here.
    pub fn gather(
        &self,
        path: &TreePath,
        out: &mut Vec<(TreePath, Entry)>,
    ) -> Result<(), TreeError> {
        for (name, child) in self.sorted_children() {
            let path = path.join(name)?;
            out.push((path.clone(), child.entry()));
            if let Some(dir) = &child.dir {
                dir.gather(&path, out)?;
            }
        }
        Ok(())
    }
}

impl Shard {
    fn load_whole(
        &mut self,
        place: Place,
        depth: usize,
        loader: &mut Loader,
    ) -> Result<Option<usize>, TreeError> {
        if let Some(entries) = self.whole {
            loader.visit(entries)?;
            return Ok(Some(entries));
        }
        let mut sum = Some(0);
        for (slot, held) in &mut self.slots {
            if loader.is_full() {
                return Ok(None);
            }
            let found = match held {
                Slot::Entry(named) => named.child.load_whole(depth, loader)?,
                Slot::Shard(sub) => {
                    loader.visit(1)?;
                    let Some(below) = place.below(*slot) else { continue };
                    let before = sub.tally();
                    let opened = sub.open(below, loader);
                    let found = match loader.wish(opened)? {
                        Some(shard) => shard.load_whole(below, depth, loader)?,
                        None => None,
                    };
                    let after = sub.tally();
                    self.tally.replace(before, after);
                    found
                }
            };
            sum = add(sum, found);
        }
        self.whole = sum;
        Ok(sum)
    }

    pub fn entries<'a>(&'a self, out: &mut Vec<(&'a str, &'a Child)>) {
        for (_, held) in &self.slots {
            match held {
                Slot::Entry(named) => out.push((&named.name, &named.child)),
                Slot::Shard(sub) => {
                    if let Body::Loaded(shard) = &sub.body {
                        shard.entries(out);
                    }
                }
            }
        }
    }

    /// Names of the entries in this shard itself.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().filter_map(|(_, held)| match held {
            Slot::Entry(named) => Some(named.name.as_str()),
            Slot::Shard(_) => None,
        })
    }
}

fn add(sum: Option<usize>, more: Option<usize>) -> Option<usize> {
    Some(sum?.saturating_add(more?))
}
