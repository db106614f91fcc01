//! A map of what may end by itself.

use std::{collections::HashMap, hash::Hash};

/// So many entries are never looked through.
const FEW: usize = 64;

/// Forgets what has ended, not at once, but each time that the map has doubled: looking through all
/// entries at every new one would cost the square of them.
pub(super) struct Swept<K, V> {
    entries: HashMap<K, V>,
    /// How many entries there are when it is looked through next.
    sweep_at: usize,
}

impl<K, V> Default for Swept<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at: FEW }
    }
}

impl<K: Eq + Hash, V> Swept<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// Takes an entry in, unless there are `most` that are still `alive`.
    #[must_use]
    pub fn insert(&mut self, key: K, value: V, most: usize, alive: impl Fn(&V) -> bool) -> bool {
        if self.entries.len() >= self.sweep_at.min(most) {
            self.entries.retain(|_, value| alive(value));
            self.sweep_at = FEW.max(self.entries.len() * 2);
        }
        let room = self.entries.len() < most;
        if room {
            self.entries.insert(key, value);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn looks_through_each_entry_a_few_times_only() {
        let mut map = Swept::default();
        let looks = Cell::new(0);
        for key in 0..10_000 {
            let alive = |_: &()| {
                looks.set(looks.get() + 1);
                true
            };
            assert!(map.insert(key, (), usize::MAX, alive));
        }
        assert!(looks.get() < 20_000, "{}", looks.get());
    }

    #[test]
    fn what_has_ended_makes_room() {
        let mut map = Swept::default();
        for key in 0..100 {
            assert!(map.insert(key, key % 2 == 0, 100, |_| true));
        }
        assert!(!map.insert(100, true, 100, |_| true));
        assert!(map.insert(100, true, 100, |alive| *alive));
        assert_eq!((map.get(&98), map.get(&99)), (Some(&true), None));
        assert!(map.entries.len() == 51);
    }
}
