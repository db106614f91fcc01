//! Random edits end at the CID of a fresh build, whatever happens to memory in between.

use super::node::{Form, weight};
use super::shard::{Body, Shard, Slot, Tally};
use super::*;
use crate::content::hamt::murmur3_x64_64;
use proptest::prelude::*;
use std::sync::LazyLock;

/// Names that collide in a sharded directory down to different depths, found by search.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut hashed: Vec<(u64, String)> = (0..40_000)
        .map(|n| (murmur3_x64_64(format!("name{n}").as_bytes()), format!("name{n}")))
        .collect();
    hashed.sort();
    let same = |bits: u32| {
        let pairs = hashed.windows(2).filter(move |w| (w[0].0 ^ w[1].0) >> (64 - bits) == 0);
        pairs.flat_map(|w| [w[0].1.clone(), w[1].1.clone()])
    };
    let mut names: Vec<String> = same(24).take(8).collect();
    assert_eq!(names.len(), 8, "four pairs agree in three levels");
    names.extend(same(16).take(12));
    names.extend(same(8).take(12));
    names.extend(hashed.iter().step_by(3_001).map(|(_, name)| name.clone()));
    names.extend(["d".to_owned(), "e".to_owned()]);
    names.sort();
    names.dedup();
    names
});

#[derive(Debug, Clone)]
enum Step {
    Insert(String, Entry),
    Remove(String),
    Directory(String),
    Flush,
    Unload,
    Reopen,
    List,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let parent = prop_oneof![6 => Just(""), 2 => Just("d/"), 1 => Just("d/e/"), 1 => Just("e/d/")];
    let at = (parent, 0..NAMES.len()).prop_map(|(dir, i)| format!("{dir}{}", NAMES[i]));
    let content = (0u8..3, prop_oneof![Just(1u64), Just(200), Just(1 << 40)]);
    let entry = content.prop_map(|(which, tsize)| {
        let file = match which {
            0 => raw("x"),
            1 => raw("y"),
            _ => entry(&wrapped(Version::V0, "z"), EntryKind::File),
        };
        Entry { tsize, ..file }
    });
    let step = prop_oneof![
        12 => (at.clone(), entry).prop_map(|(path, entry)| Step::Insert(path, entry)),
        10 => at.clone().prop_map(Step::Remove),
        1 => prop_oneof![Just("d"), Just("d/e"), Just("e")].prop_map(|d| Step::Remove(d.into())),
        1 => at.prop_map(Step::Directory),
        2 => Just(Step::Flush),
        2 => Just(Step::Unload),
        1 => Just(Step::Reopen),
        1 => Just(Step::List),
    ];
    prop::collection::vec(step, 1..120)
}

fn params() -> impl Strategy<Value = DirParams> {
    let version = prop_oneof![Just(Version::V0), Just(Version::V1)];
    let limit = prop_oneof![Just(0usize), Just(150), Just(400), Just(1000), Just(1 << 18)];
    (version, limit, any::<bool>()).prop_map(|(version, limit, blocks)| {
        let rule = if blocks { ShardRule::BlockBytes } else { ShardRule::LinkBytes };
        DirParams { version, shard: rule(limit) }
    })
}

/// What a tree should hold: `None` for a directory.
#[derive(Default)]
struct Model(BTreeMap<TreePath, Option<Entry>>);

impl Model {
    /// Whether every path above is a directory or nothing.
    fn fits_below(&self, path: &TreePath) -> bool {
        let above = std::iter::successors(path.parent(), TreePath::parent);
        above.into_iter().all(|p| !matches!(self.0.get(&p), Some(Some(_))))
    }

    fn put(&mut self, path: &TreePath, entry: Option<Entry>) -> bool {
        let same_kind = self.0.get(path).is_none_or(|old| old.is_some() == entry.is_some());
        if !self.fits_below(path) || !same_kind {
            return false;
        }
        for above in std::iter::successors(path.parent(), TreePath::parent) {
            if !above.is_root() {
                self.0.insert(above, None);
            }
        }
        self.0.insert(path.clone(), entry);
        true
    }

    fn remove(&mut self, path: &TreePath) -> bool {
        let below = format!("{path}/");
        let found = self.0.remove(path).is_some();
        self.0.retain(|other, _| !other.as_str().starts_with(&below));
        found
    }

    /// A tree that never was anything else.
    fn build(&self, params: DirParams) -> Tree {
        let mut tree = Tree::empty(params);
        for (path, entry) in self.0.iter().rev() {
            match entry {
                Some(entry) => tree.insert(path, *entry),
                None => tree.create_directory(path),
            }
            .expect("it fits");
        }
        tree
    }
}

/// What is counted along with the edits is what counting afresh gives.
fn audit(child: &Child, rule: ShardRule) {
    let Some(dir) = &child.dir else { return };
    match &dir.form {
        Form::Flat(flat) => {
            let sum: u64 = flat.entries.iter().map(|(n, c)| weight(rule, n, &c.link)).sum();
            assert_eq!(flat.weight, sum);
            flat.entries.values().for_each(|child| audit(child, rule));
        }
        Form::Hamt(hamt) => audit_shard(&hamt.root, rule),
    }
}

fn audit_shard(shard: &Shard, rule: ShardRule) {
    let mut sum = Tally::default();
    for (_, slot) in &shard.slots {
        sum.add(slot.tally(rule));
        match slot {
            Slot::Entry(named) => audit(&named.child, rule),
            Slot::Shard(sub) => match &sub.body {
                Body::Loaded(shard) => audit_shard(shard, rule),
                Body::Unloaded(_) => {}
            },
        }
    }
    assert_eq!(shard.tally, sum);
}

/// A flush into the store, checked: it is what a fresh build is, and brings what was missing.
fn checked_flush(
    store: &mut Store,
    tree: &mut Tree,
    model: &Model,
    params: DirParams,
    old: &mut Cid,
) {
    let before = store.nodes(old);
    let (root, blocks) = store.flush(tree);
    assert_eq!(root, root_of(&mut model.build(params)));
    let after = store.nodes(&root);
    let new: BTreeSet<Cid> = blocks.iter().map(|block| *block.cid()).collect();
    assert!(new.is_subset(&after), "no block that is not part of the tree");
    assert!(after.difference(&before).all(|cid| new.contains(cid)), "no block that is missing");
    assert_eq!(new.len(), blocks.len(), "no block twice");
    assert!(root != *old || blocks.is_empty(), "nothing for nothing");
    *old = root;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn edits_end_where_a_fresh_build_does(params in params(), steps in steps()) {
        let mut store = Store::default();
        store.add(wrapped(Version::V0, "z"));
        let (mut tree, mut model) = (Tree::empty(params), Model::default());
        let mut root = Cid::default();
        for step in steps {
            match step {
                Step::Insert(at, entry) => {
                    let done = store.run(&mut tree, |t| t.insert(&path(&at), entry)).is_ok();
                    prop_assert_eq!(done, model.put(&path(&at), Some(entry)));
                }
                Step::Directory(at) => {
                    let done = store.run(&mut tree, |t| t.create_directory(&path(&at))).is_ok();
                    prop_assert_eq!(done, model.put(&path(&at), None));
                }
                Step::Remove(at) => {
                    let done = store.run(&mut tree, |t| t.remove(&path(&at))).is_ok();
                    prop_assert_eq!(done, model.remove(&path(&at)));
                }
                Step::Flush => checked_flush(&mut store, &mut tree, &model, params, &mut root),
                Step::Unload => tree.unload(),
                Step::Reopen => {
                    checked_flush(&mut store, &mut tree, &model, params, &mut root);
                    tree = Tree::open(root, params);
                }
                Step::List => {
                    let list = store.run(&mut tree, |t| t.list(&path(""))).expect("a list");
                    prop_assert!(list.iter().map(|(path, _)| path).eq(model.0.keys()));
                    for ((path, entry), expected) in list.iter().zip(model.0.values()) {
                        match expected {
                            Some(expected) => prop_assert_eq!(entry, expected),
                            None => prop_assert_eq!(entry.kind, EntryKind::Directory),
                        }
                        prop_assert_eq!(&store.run(&mut tree, |t| t.get(path)), &Ok(*entry));
                    }
                }
            }
            audit(&tree.root, params.shard);
        }
        checked_flush(&mut store, &mut tree, &model, params, &mut root);
    }
}
