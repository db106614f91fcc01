//! The same directories as another implementation makes them: crate `rust-unixfs`, which knows the
//! rule by link bytes.

use super::*;
use proptest::prelude::*;
use rust_unixfs::dir::builder::{BufferingTreeBuilder, TreeOptions};

/// The root that `rust-unixfs` makes of these files.
fn oracle(version: Version, limit: usize, files: &BTreeMap<String, Entry>) -> (Cid, BTreeSet<Cid>) {
    let mut options = TreeOptions::default();
    options.wrap_with_directory();
    options.block_size_limit(None);
    options.cid_version(version);
    options.shard_threshold(Some(limit as u64));
    let mut builder = BufferingTreeBuilder::new(options);
    for (path, file) in files {
        builder.put_link(path, file.cid, file.tsize).expect("a file");
    }
    let mut nodes = builder.build();
    let (mut root, mut all) = (Cid::default(), BTreeSet::new());
    while let Some(node) = nodes.next_borrowed() {
        root = node.expect("a node").cid.to_owned();
        all.insert(root);
    }
    (root, all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn trees_are_what_another_implementation_makes(
        files in prop::collection::btree_map("[a-c]/([xy]/)?[0-9a-zü]{1,3}\\.t", (0u8..4, 1u64..1 << 45), 1..150),
        limit in prop_oneof![Just(0usize), Just(300), Just(1500), Just(1 << 18)],
        v0 in any::<bool>(),
    ) {
        let version = if v0 { Version::V0 } else { Version::V1 };
        let files: BTreeMap<String, Entry> = files
            .into_iter()
            .map(|(path, (which, tsize))| (path, Entry { tsize, ..raw(&which.to_string()) }))
            .collect();
        let params = DirParams { version, shard: ShardRule::LinkBytes(limit) };
        let mut tree = build(params, files.iter().map(|(p, e)| (p.as_str(), *e)));
        let flushed = tree.flush().expect("a flush");
        let (root, all) = oracle(version, limit, &files);
        prop_assert_eq!(flushed.root, root);
        let ours: BTreeSet<Cid> = flushed.blocks.iter().map(|block| *block.cid()).collect();
        prop_assert_eq!(ours, all);
    }
}
