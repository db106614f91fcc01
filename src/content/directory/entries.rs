//! What is in one directory, without looking at what the entries are.

use super::TreeError;
use super::load::Loader;
use super::node::{Child, Dir, Form};
use super::shard::{Shard, Slot};
use crate::content::hamt::Place;

impl Dir {
    /// Loads every shard of this directory; `false` if some were not supplied yet.
    pub fn load_names(&mut self, loader: &mut Loader) -> Result<bool, TreeError> {
        match &mut self.form {
            Form::Flat(_) => Ok(true),
            Form::Hamt(hamt) => hamt.root.load_names(Place::root(hamt.fanout), loader),
        }
    }

    /// What is loaded, sorted by name.
    pub fn sorted_children(&self) -> Vec<(&str, &Child)> {
        let mut here: Vec<(&str, &Child)> = match &self.form {
            Form::Flat(flat) => flat.entries.iter().map(|(n, child)| (n.as_str(), child)).collect(),
            Form::Hamt(hamt) => {
                let mut entries = Vec::new();
                hamt.root.entries(&mut entries);
                entries
            }
        };
        here.sort_unstable_by_key(|(name, _)| *name);
        here
    }
}

impl Shard {
    fn load_names(&mut self, place: Place, loader: &mut Loader) -> Result<bool, TreeError> {
        let mut all = true;
        for (slot, held) in &mut self.slots {
            if loader.is_full() {
                return Ok(false);
            }
            loader.visit(1)?;
            let Slot::Shard(sub) = held else { continue };
            let Some(below) = place.below(*slot) else { continue };
            let before = sub.tally();
            let opened = sub.open(below, loader);
            all &= match loader.wish(opened)? {
                Some(shard) => shard.load_names(below, loader)?,
                None => false,
            };
            let after = sub.tally();
            self.tally.replace(before, after);
        }
        Ok(all)
    }
}
