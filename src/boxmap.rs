//! An ordered map that boxes its values, because of what the wasm weighs.
//!
//! The code of a `BTreeMap` is several KiB for every pair of types. Values behind a pointer are all
//! moved alike, so the maps of one type of key end up as one copy of that code.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::iter::Map;

/// A `BTreeMap` with boxed values, behind the same methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoxMap<K, V>(BTreeMap<K, Box<V>>);

type Item<'a, K, V> = (&'a K, &'a V);
pub type Iter<'a, K, V> =
    Map<btree_map::Iter<'a, K, Box<V>>, fn(Item<'a, K, Box<V>>) -> Item<'a, K, V>>;
pub type IterMut<'a, K, V> =
    Map<btree_map::IterMut<'a, K, Box<V>>, fn((&'a K, &'a mut Box<V>)) -> (&'a K, &'a mut V)>;
pub type IntoIter<K, V> = Map<btree_map::IntoIter<K, Box<V>>, fn((K, Box<V>)) -> (K, V)>;

impl<K, V> Default for BoxMap<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

#[allow(dead_code, reason = "the methods of a map, whichever the build at hand needs")]
impl<K: Ord, V> BoxMap<K, V> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(|value| &**value)
    }

    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key).map(|value| &mut **value)
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, Box::new(value)).map(|value| *value)
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key).map(|value| *value)
    }

    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        Entry(self.0.entry(key))
    }

    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.0.first_key_value().map(|(key, value)| (key, &**value))
    }

    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.0.pop_first().map(|(key, value)| (key, *value))
    }

    pub fn keys(&self) -> btree_map::Keys<'_, K, Box<V>> {
        self.0.keys()
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.0.values().map(|value| &**value)
    }

    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> + ExactSizeIterator {
        self.0.values_mut().map(|value| &mut **value)
    }

    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.0.into_values().map(|value| *value)
    }

    pub fn into_keys(self) -> impl Iterator<Item = K> {
        self.0.into_keys()
    }

    pub fn iter(&self) -> Iter<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, &**value))
    }

    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        self.0.iter_mut().map(|(key, value)| (key, &mut **value))
    }

    pub fn range(
        &self,
        range: impl std::ops::RangeBounds<K>,
    ) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.0.range(range).map(|(key, value)| (key, &**value))
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain(|key, value| keep(key, value));
    }
}

pub struct Entry<'a, K, V>(btree_map::Entry<'a, K, Box<V>>);

#[allow(dead_code, reason = "as of the map")]
impl<'a, K: Ord, V> Entry<'a, K, V> {
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    pub fn or_insert_with(self, value: impl FnOnce() -> V) -> &'a mut V {
        self.0.or_insert_with(|| Box::new(value()))
    }

    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a BoxMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a mut BoxMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<K, V> IntoIterator for BoxMap<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(key, value)| (key, *value))
    }
}

/// One by one: the bulk building of a `BTreeMap` sorts first, which is more code yet.
impl<K: Ord, V> FromIterator<(K, V)> for BoxMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut map = Self::new();
        map.extend(items);
        map
    }
}

impl<K: Ord, V> Extend<(K, V)> for BoxMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, items: I) {
        for (key, value) in items {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V, Q: Ord + ?Sized> std::ops::Index<&Q> for BoxMap<K, V>
where
    K: Borrow<Q>,
{
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        &self.0[key]
    }
}

/// A set on the same code as the maps of its type of key: a `BTreeSet` would be a copy of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoxSet<K>(BoxMap<K, ()>);

impl<K> Default for BoxSet<K> {
    fn default() -> Self {
        Self(BoxMap::default())
    }
}

#[allow(dead_code, reason = "as of the map")]
impl<K: Ord> BoxSet<K> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether it is new.
    pub fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    /// Whether it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.remove(key).is_some()
    }

    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    pub fn first(&self) -> Option<&K> {
        self.0.first_key_value().map(|(key, ())| key)
    }

    pub fn pop_first(&mut self) -> Option<K> {
        self.0.pop_first().map(|(key, ())| key)
    }

    pub fn iter(&self) -> btree_map::Keys<'_, K, Box<()>> {
        self.0.keys()
    }

    pub fn range(
        &self,
        range: impl std::ops::RangeBounds<K>,
    ) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.0.range(range).map(|(key, ())| key)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.0.retain(|key, ()| keep(key));
    }
}

impl<'a, K: Ord> IntoIterator for &'a BoxSet<K> {
    type Item = &'a K;
    type IntoIter = btree_map::Keys<'a, K, Box<()>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K> IntoIterator for BoxSet<K> {
    type Item = K;
    type IntoIter = btree_map::IntoKeys<K, Box<()>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.0.into_keys()
    }
}

impl<K: Ord> FromIterator<K> for BoxSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut set = Self::new();
        set.extend(keys);
        set
    }
}

impl<K: Ord> Extend<K> for BoxSet<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key);
        }
    }
}

#[cfg(test)]
mod tests;
