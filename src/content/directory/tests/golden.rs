//! CIDs that other implementations publish for directories of known content.

use super::*;
use crate::content::block::sha256;
use crate::content::profile::Profile;

/// One published directory.
struct Fixture {
    cid: &'static str,
    source: &'static str,
    params: fn() -> DirParams,
    entries: fn() -> Vec<(String, Entry)>,
}

const ALWAYS_SHARD: ShardRule = ShardRule::LinkBytes(0);

const FIXTURES: &[Fixture] = &[
    Fixture {
        cid: "QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN",
        source: "IPIP-0499, unixfs-v0-2015: directory at the threshold",
        params: || Profile::UnixfsV0_2015.into(),
        entries: || x_files(Version::V0, 4096, 30, 30, "hamt-unixfs-v0-2015"),
    },
    Fixture {
        cid: "QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP",
        source: "IPIP-0499, unixfs-v0-2015: directory over the threshold",
        params: || Profile::UnixfsV0_2015.into(),
        entries: || x_files(Version::V0, 4033, 31, 31, "hamt-unixfs-v0-2015"),
    },
    Fixture {
        cid: "bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4",
        source: "IPIP-0499, unixfs-v1-2025: directory at the threshold",
        params: || Profile::UnixfsV1_2025.into(),
        entries: || x_files(Version::V1, 4766, 11, 21, "hamt-unixfs-v1-2025"),
    },
    Fixture {
        cid: "bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu",
        source: "IPIP-0499, unixfs-v1-2025: directory over the threshold",
        params: || Profile::UnixfsV1_2025.into(),
        entries: || x_files(Version::V1, 4766, 11, 22, "hamt-unixfs-v1-2025"),
    },
    Fixture {
        cid: "bafybeidbclfqleg2uojchspzd4bob56dqetqjsj27gy2cq3klkkgxtpn4i",
        source: "gateway-conformance, single-layer-hamt-with-multi-block-files.car",
        params: || DirParams { version: Version::V1, shard: ALWAYS_SHARD },
        entries: || {
            let cid = "bafybeigcisqd7m5nf3qmuvjdbakl5bdnh4ocrmacaqkpuh77qjvggmt2sa";
            let cid = cid.parse().expect("a CID");
            let file = Entry { cid, tsize: 1271, kind: EntryKind::File };
            (1..=1000).map(|n| (format!("{n}.txt"), file)).collect()
        },
    },
    Fixture {
        cid: "QmY89TkSEVHykWMHDmyejSWFj9CYNtvzw4UwnT9xbc4Zjc",
        source: "boxo, ipld/unixfs/hamt/hamt_test.go: TestDirBuilding",
        params: || DirParams { version: Version::V0, shard: ALWAYS_SHARD },
        entries: || {
            let empty = node(Version::V0, Vec::new(), &UnixFs::new(Kind::Directory));
            let empty = entry(&empty, EntryKind::Directory);
            (0..200).map(|n| (format!("DIRNAME{n}"), empty)).collect()
        },
    },
];

#[test]
fn directories_have_the_cids_that_others_publish() {
    for fixture in FIXTURES {
        let entries = (fixture.entries)();
        let mut tree = build((fixture.params)(), entries.iter().map(|(n, e)| (n.as_str(), *e)));
        assert_eq!(root_of(&mut tree).to_string(), fixture.cid, "{}", fixture.source);
    }
}

/// js-ipfs-unixfs, exporter-sharded.spec.ts: "reference shard with fanout of 16".
#[test]
fn a_foreign_fanout_is_kept() {
    let params = DirParams { version: Version::V1, shard: ALWAYS_SHARD };
    let mut data = UnixFs::new(Kind::HamtShard);
    (data.hash_type, data.fanout) = (Some(0x22), Some(16));
    let mut store = Store::default();
    let seed = store.add(node(Version::V1, Vec::new(), &data));
    let mut tree = Tree::open(seed, params);
    for byte in (b' '..=b'~').filter(|byte| !b"./".contains(byte)) {
        let name = char::from(byte).to_string();
        store.run(&mut tree, |t| t.insert(&path(&name), raw(&name))).expect("an insertion");
    }
    let known = "bafybeihnipspiyy3dctpcx7lv655qpiuy52d7b2fzs52dtrjqwmvbiux44";
    assert_eq!(store.flush(&mut tree).0.to_string(), known);
    let mut cold = Tree::open(known.parse().expect("a CID"), params);
    assert_eq!(store.run(&mut cold, |t| t.list(&path(""))).map(|list| list.len()), Ok(93));
    for byte in (b'!'..=b'~').filter(|byte| !b"./".contains(byte)) {
        let name = char::from(byte).to_string();
        store.run(&mut cold, |t| t.remove(&path(&name))).expect("a removal");
    }
    let alone = build(params, [(" ", raw(" "))]).flush().expect("a flush");
    let (root, _) = store.flush(&mut cold);
    assert_ne!(root, alone.root, "another fanout");
    assert_eq!(store.run(&mut cold, |t| t.get(&path(" "))), Ok(raw(" ")));
}

/// The two ways to the directories at and over the threshold end at the same CIDs.
#[test]
fn the_switches_are_where_the_specification_has_them_in_both_directions() {
    let [flat, sharded] = [&FIXTURES[2], &FIXTURES[3]];
    let (at, over) = ((flat.entries)(), (sharded.entries)());
    let (last_at, last_over) = (&at[at.len() - 1], &over[over.len() - 1]);
    let mut tree = build((flat.params)(), at.iter().map(|(n, e)| (n.as_str(), *e)));
    for _ in 0..2 {
        assert_eq!(root_of(&mut tree).to_string(), flat.cid);
        tree.remove(&path(&last_at.0)).expect("a removal");
        tree.insert(&path(&last_over.0), last_over.1).expect("an insertion");
        assert_eq!(root_of(&mut tree).to_string(), sharded.cid);
        tree.remove(&path(&last_over.0)).expect("a removal");
        tree.insert(&path(&last_at.0), last_at.1).expect("an insertion");
    }
    // A replaced link that takes more bytes does it, too: the block rule counts the tsize.
    let (name, mut entry) = at[0].clone();
    let before = root_of(&mut tree);
    entry.tsize = 1 << 7;
    tree.insert(&path(&name), entry).expect("a replacement");
    assert!(tree.flush().expect("a flush").blocks.len() > 1, "sharded");
    tree.insert(&path(&name), at[0].1).expect("a replacement");
    assert_eq!(root_of(&mut tree), before);
}

/// Files with the content "x" under names from Kubo's test helpers: the keystream of ChaCha20 (RFC 8439)
/// under SHA-256 of the seed, taken modulo an alphabet; the last name has a length of its own.
fn x_files(
    version: Version,
    count: usize,
    len: usize,
    last: usize,
    seed: &str,
) -> Vec<(String, Entry)> {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz01234567890-_";
    let file = match version {
        Version::V0 => entry(&wrapped(version, "x"), EntryKind::File),
        Version::V1 => raw("x"),
    };
    let mut letters = keystream(sha256(seed.as_bytes()))
        .map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
    let len_of = |i| if i + 1 == count { last } else { len };
    (0..count).map(|i| (letters.by_ref().take(len_of(i)).collect(), file)).collect()
}

fn keystream(key: [u8; 32]) -> impl Iterator<Item = u8> {
    let words: Vec<u32> =
        key.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    (0u32..).flat_map(move |counter| {
        let mut start = [0u32; 16];
        start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
        start[4..12].copy_from_slice(&words);
        start[12] = counter;
        let mut state = start;
        for _ in 0..10 {
            for column in 0..4 {
                quarter(&mut state, [column, column + 4, column + 8, column + 12]);
            }
            for row in 0..4 {
                let [b, c, d] = [1, 2, 3].map(|shift| 4 * shift + (row + shift) % 4);
                quarter(&mut state, [row, b, c, d]);
            }
        }
        let mut out = Vec::with_capacity(64);
        for (word, add) in state.iter().zip(start) {
            out.extend_from_slice(&word.wrapping_add(add).to_le_bytes());
        }
        out
    })
}

fn quarter(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (x, y, z, turn) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(turn);
    }
}
