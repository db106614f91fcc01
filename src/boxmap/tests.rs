//! Whatever is done to them, they are what `BTreeMap` and `BTreeSet` are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use proptest::prelude::*;

use super::{BoxMap, BoxSet};

/// So few that most of them come twice.
fn key() -> impl Strategy<Value = String> {
    "[a-d]{0,2}"
}

#[derive(Debug, Clone)]
enum Edit {
    Insert(String, u8),
    Remove(String),
    PopFirst,
    /// Added to what is there, or put there.
    Entry(String, u8),
    Change(String, u8),
    AddToAll(u8),
    KeepBelow(u8),
    Extend(Vec<(String, u8)>),
    Clear,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (key(), any::<u8>()).prop_map(|(key, value)| Edit::Insert(key, value)),
        3 => key().prop_map(Edit::Remove),
        1 => Just(Edit::PopFirst),
        2 => (key(), any::<u8>()).prop_map(|(key, value)| Edit::Entry(key, value)),
        2 => (key(), any::<u8>()).prop_map(|(key, value)| Edit::Change(key, value)),
        1 => any::<u8>().prop_map(Edit::AddToAll),
        1 => any::<u8>().prop_map(Edit::KeepBelow),
        1 => prop::collection::vec((key(), any::<u8>()), 0..6).prop_map(Edit::Extend),
        1 => Just(Edit::Clear),
    ]
}

fn bound() -> impl Strategy<Value = Bound<String>> {
    prop_oneof![
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

/// A range that `BTreeMap` takes: it panics on others, and so may these.
fn is_range((start, end): &(Bound<String>, Bound<String>)) -> bool {
    match (start, end) {
        (Bound::Excluded(start), Bound::Excluded(end)) => start < end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start <= end,
    }
}

/// Does the same to both, and compares what they say to it.
fn edit_map(map: &mut BoxMap<String, u8>, model: &mut BTreeMap<String, u8>, edit: Edit) {
    match edit {
        Edit::Insert(key, value) => {
            assert_eq!(map.insert(key.clone(), value), model.insert(key, value));
        }
        Edit::Remove(key) => assert_eq!(map.remove(key.as_str()), model.remove(key.as_str())),
        Edit::PopFirst => assert_eq!(map.pop_first(), model.pop_first()),
        Edit::Entry(key, value) => {
            let (ours, theirs) = (map.entry(key.clone()).or_default(), model.entry(key.clone()));
            let theirs = theirs.or_default();
            (*ours, *theirs) = (ours.wrapping_add(value), theirs.wrapping_add(value));
            assert_eq!(map.entry(key.clone()).or_insert(value), model.entry(key).or_insert(value));
        }
        Edit::Change(key, value) => match (map.get_mut(key.as_str()), model.get_mut(&key)) {
            (Some(ours), Some(theirs)) => (*ours, *theirs) = (value, value),
            (ours, theirs) => assert_eq!(ours, theirs),
        },
        Edit::AddToAll(value) => {
            map.values_mut().for_each(|held| *held = held.wrapping_add(value));
            for (_, held) in map.iter_mut() {
                *held = held.wrapping_add(1);
            }
            model.values_mut().for_each(|held| *held = held.wrapping_add(value).wrapping_add(1));
        }
        Edit::KeepBelow(limit) => {
            map.retain(|_, value| *value < limit);
            model.retain(|_, value| *value < limit);
        }
        Edit::Extend(items) => {
            map.extend(items.clone());
            model.extend(items);
        }
        Edit::Clear => {
            map.clear();
            model.clear();
        }
    }
}

fn edit_set(set: &mut BoxSet<String>, model: &mut BTreeSet<String>, edit: Edit) {
    match edit {
        Edit::Insert(key, _) | Edit::Entry(key, _) => {
            assert_eq!(set.insert(key.clone()), model.insert(key));
        }
        Edit::Remove(key) | Edit::Change(key, _) => {
            assert_eq!(set.remove(key.as_str()), model.remove(key.as_str()));
        }
        Edit::PopFirst => assert_eq!(set.pop_first(), model.pop_first()),
        Edit::AddToAll(value) | Edit::KeepBelow(value) => {
            let limit = usize::from(value % 3);
            set.retain(|key| key.len() < limit);
            model.retain(|key| key.len() < limit);
        }
        Edit::Extend(items) => {
            set.extend(items.iter().map(|(key, _)| key.clone()));
            model.extend(items.into_iter().map(|(key, _)| key));
        }
        Edit::Clear => {
            set.clear();
            model.clear();
        }
    }
}

proptest! {
    #[test]
    fn a_map_is_what_a_btree_map_is(
        edits in prop::collection::vec(edit(), 0..60),
        key in key(),
        range in (bound(), bound()).prop_filter("a range", is_range),
    ) {
        let (mut map, mut model) = (BoxMap::new(), BTreeMap::new());
        for edit in edits {
            edit_map(&mut map, &mut model, edit);
            prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            prop_assert!(map.iter().eq(model.iter()));
        }
        let key = key.as_str();
        prop_assert_eq!(map.get(key), model.get(key));
        prop_assert_eq!(map.contains_key(key), model.contains_key(key));
        if model.contains_key(key) {
            prop_assert_eq!(map[key], model[key]);
        }
        prop_assert_eq!(map.first_key_value(), model.first_key_value());
        prop_assert!(map.keys().eq(model.keys()));
        prop_assert!(map.values().eq(model.values()));
        prop_assert!(map.values().rev().eq(model.values().rev()));
        prop_assert!(map.iter().rev().eq(model.iter().rev()));
        prop_assert!((&map).into_iter().eq(&model));
        prop_assert!((&mut map).into_iter().eq(&mut model));
        prop_assert!(map.range(range.clone()).eq(model.range(range.clone())));
        prop_assert!(map.range(range.clone()).rev().eq(model.range(range).rev()));
        prop_assert!(map.clone().into_keys().eq(model.clone().into_keys()));
        prop_assert!(map.clone().into_values().eq(model.clone().into_values()));
        prop_assert_eq!(&map, &model.clone().into_iter().collect());
        prop_assert!(map.into_iter().eq(model));
    }

    #[test]
    fn a_set_is_what_a_btree_set_is(
        edits in prop::collection::vec(edit(), 0..60),
        key in key(),
        range in (bound(), bound()).prop_filter("a range", is_range),
    ) {
        let (mut set, mut model) = (BoxSet::new(), BTreeSet::new());
        for edit in edits {
            edit_set(&mut set, &mut model, edit);
            prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            prop_assert!(set.iter().eq(model.iter()));
        }
        prop_assert_eq!(set.contains(key.as_str()), model.contains(key.as_str()));
        prop_assert_eq!(set.first(), model.first());
        prop_assert!(set.iter().rev().eq(model.iter().rev()));
        prop_assert!((&set).into_iter().eq(&model));
        prop_assert!(set.range(range.clone()).eq(model.range(range.clone())));
        prop_assert!(set.range(range.clone()).rev().eq(model.range(range).rev()));
        prop_assert_eq!(&set, &model.iter().cloned().collect());
        prop_assert!(set.into_iter().eq(model));
    }
}
