//! Replays the corpora of the fuzzers: what they found once must go well for ever. Each corpus must
//! reach both ways out of its decoder, or it tests nothing.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::{collections::BTreeSet, fs, path::PathBuf};

#[test]
fn every_corpus_is_replayed() {
    let corpora = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let folder = corpora.join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (mut accepted, mut refused) = (0, 0);
        for file in files {
            let input = fs::read(file.expect("listed").path()).expect("read");
            match target(&input) {
                true => accepted += 1,
                false => refused += 1,
            }
        }
        assert!(accepted > 0 && refused > 0, "{name}: {accepted} accepted, {refused} refused");
    }
}

#[test]
fn every_target_has_its_fuzzer() {
    let fuzzers = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let fuzzers: BTreeSet<String> = fs::read_dir(fuzzers)
        .expect("fuzz_targets")
        .map(|file| file.expect("listed").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let targets: BTreeSet<String> =
        targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(fuzzers, targets);
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("a manifest");
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in it");
    }
}

/// Begins corpora with what our own encoders write: `cargo test --test fuzz_corpus -- --ignored`. The
/// fuzzers (`cargo fuzz run NAME`, on a nightly compiler) go on from there.
#[test]
#[ignore = "writes into the source tree"]
fn write_seeds() {
    let corpora = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, seeds) in seeds::seeds() {
        let folder = corpora.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("seed-garbage"), b"\xff\x00garbage").expect("written");
        for (at, seed) in seeds.into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{at}")), seed).expect("written");
        }
    }
}

mod seeds {
    use bytes::Bytes;
    use cid::{Cid, Version};
    use libp2p::identity::Keypair;
    use serde_json::Value;
    use tabpeer::{
        content::{
            block::{Block, DAG_PB, RAW},
            car::{car_header, car_section},
            directory::{DirParams, Entry, EntryKind, Tree},
            import::import_bytes,
            layout::Layout,
            path::TreePath,
            profile::{Profile, ShardRule},
        },
        exchange::{
            bitswap::message::{Message, Presence, RawBlock, WantEntry, WantKind},
            capabilities::{IpfsKind, PeerCapabilities},
            cas::Request,
            webapp::{
                EntryKind as EntryKindOnWire, FileEncoder, FileEntry, FileList,
                Request as FileRequest, encode_failure,
            },
        },
        messaging::{
            availability::message::{Notice, encode_batch, encode_update},
            direct::{Value as Said, frame::Frame},
            topics::{exchange, roster},
        },
        network::relay_record,
        platform::tabs::{self, frame, notice::What},
    };

    pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let leaf = Block::encode(Version::V1, RAW, Bytes::from_static(b"some bytes"));
        let message = bitswap(&leaf);
        let framed = message.encode().concat();
        let nodes = nodes();
        let path = |node: &Block| node.data().to_vec();
        let car = [&car_header(&[*leaf.cid()])[..], &car_section(&leaf).concat()].concat();
        let unixfs = |node: &Block| {
            let node = tabpeer::content::dagpb::PbNode::decode(node.data()).expect("a node");
            node.data.expect("its message").to_vec()
        };
        let file = nodes.iter().find(|node| !node.links().expect("valid").is_empty());
        let file = file.expect("a file of several blocks");
        let (mut encoder, head) =
            FileEncoder::new(file.cid(), file.data(), 10, "text/plain").expect("encodes");
        let content = [
            &head[..],
            &encoder.push(b"0123456789").expect("fits"),
            &encoder.finish().expect("whole"),
        ];
        vec![
            ("bitswap_message", vec![framed[framed.len() - message.encoded_len()..].to_vec()]),
            ("bitswap_stream", vec![framed.clone(), framed.repeat(3)]),
            ("capabilities", vec![capabilities()]),
            ("car", vec![car]),
            ("cas_answer", vec![br#"{"hash":"x","content":"aGVsbG8="}"#.to_vec(), b"{}".to_vec()]),
            ("cas_request", vec![cas(&leaf).encode().to_vec(), br#"{"type":"GET_CONTENT","hash":"bafkqaaa"}"#.to_vec()]),
            ("gateway_url", vec![b"https://gateway.example/base".to_vec(), b"http://[::1]:8080".to_vec(), b"https://a@b/".to_vec()]),
            ("routing_records", vec![br#"{"Providers":[{"Schema":"peer","ID":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X","Addrs":["/ip4/127.0.0.1/tcp/1"],"Protocols":["transport-bitswap"]}]}"#.to_vec()]),
            (
                "cid",
                vec![
                    leaf.cid().to_string().into(),
                    Cid::new_v0(*leaf.cid().hash()).expect("sha2-256").to_string().into(),
                ],
            ),
            ("content_notices", notices(&leaf)),
            (
                "content_update",
                vec![
                    encode_update(leaf.cid()).into(),
                    format!(r#"{{"size":7,"hash":"{}","type":"new-content","more":[{{}}]}}"#, leaf.cid()).into(),
                    br#"{"type":"new-content","hash":7}"#.to_vec(),
                ],
            ),
            ("dag_pb", nodes.iter().map(path).collect()),
            ("direct_frames", direct()),
            ("directory", nodes.iter().map(path).collect()),
            ("file", nodes.iter().map(path).collect()),
            ("peer_exchange", vec![exchange(0), exchange(3)]),
            ("relay_record", vec![record()]),
            (
                "tab_frame",
                vec![frame::header(frame::Kind::Credit, 1 << 20).to_vec(), [&frame::header(frame::Kind::Data, 7)[..], b"bytes"].concat()],
            ),
            ("tab_notice", tab_notices()),
            (
                "topic_payload",
                vec![br#"{"text":"hello"}"#.to_vec(), b"\0bytes\0[1]".to_vec(), "not JSON".into()],
            ),
            ("topic_peers", rosters()),
            ("tree_path", vec![b"photos/2026/cat.jpg".to_vec(), "ünï".into(), b"a/../b".to_vec()]),
            ("unixfs", nodes.iter().map(unixfs).collect()),
            (
                "webapp_content",
                vec![content.concat(), encode_failure("bafy", "no").expect("short").to_vec()],
            ),
            ("webapp_list", vec![list()]),
            (
                "webapp_request",
                vec![
                    FileRequest::FileList.encode().to_vec(),
                    FileRequest::File { cid: *leaf.cid() }.encode().to_vec(),
                ],
            ),
        ]
    }

    fn capabilities() -> Vec<u8> {
        let mut said = PeerCapabilities::inferred(IpfsKind::Tabpeer, None, true);
        said.gateways = vec!["https://gateway.example".into()];
        said.swarm_addresses = vec!["/ip4/127.0.0.1/tcp/4001".parse().expect("valid")];
        (said.bandwidth_limit, said.sequence) = (Some(1000), 3);
        said.encode()
    }

    fn exchange(peers: u8) -> Vec<u8> {
        let named = |n: u8| {
            let key = Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes");
            let address = format!("/ip4/127.0.0.1/tcp/{n}/ws/p2p-circuit").parse().expect("valid");
            exchange::Named { peer: key.public().to_peer_id(), addresses: vec![address; n.into()] }
        };
        let peers = (0..peers).map(named).collect();
        let mut message = exchange::Message { topic: "room/lobby".into(), peers }.encode();
        let len = exchange::frame(&message).expect("a length").expect("whole");
        message.split_off(message.len() - len)
    }

    fn rosters() -> Vec<Vec<u8>> {
        let peer = |n| {
            let key = Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes");
            key.public().to_peer_id()
        };
        let all = roster::Frame {
            topic: "room/lobby".into(),
            all: true,
            joined: vec![peer(1)],
            left: vec![],
        };
        let change = roster::Frame {
            topic: "room/\"ü\"".into(),
            all: false,
            joined: vec![],
            left: vec![peer(1), peer(2)],
        };
        vec![all.encode(), [all.encode(), change.encode()].concat()]
    }

    fn tab_notices() -> Vec<Vec<u8>> {
        let open = What::Open { to: 2, token: [7; 16] };
        [What::Hello, open].map(|what| tabs::notice::Notice { from: 1, what }.encode()).into()
    }

    fn notices(leaf: &Block) -> Vec<Vec<u8>> {
        let key = Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes");
        let notice = Notice { hash: *leaf.cid(), source: key.public().to_peer_id() };
        let batch = encode_batch([&notice, &notice]);
        vec![batch[..batch.len() - 3].to_vec(), batch, Vec::new()]
    }

    fn direct() -> Vec<Vec<u8>> {
        let id = || "0123456789abcdef.7".to_owned();
        let frames = [
            Frame::Data { id: id(), value: Said::Json("{\"a\":[1,null,\"ü\"]}".into()) },
            Frame::Data { id: id(), value: Said::Bytes(Bytes::from_static(b"\x00\xff")) },
            Frame::Ack { id: id() },
        ];
        let mut seeds: Vec<Vec<u8>> = frames.iter().map(|frame| frame.encode().to_vec()).collect();
        seeds.push(seeds.concat());
        for other in [
            r#"{"type":"data","id":"\u0061","data":"bnVsbA==","more":[{}]}"#,
            r#"{"type":"data","id":"a","data":"IiI=","bytes":true}"#,
            r#"{"type":"data","id":"a","data":"ew=="}"#,
            r#"{"type":"ack","id":""}"#,
        ] {
            seeds.push([&(other.len() as u32).to_be_bytes()[..], other.as_bytes()].concat());
        }
        seeds
    }

    fn cas(leaf: &Block) -> Request {
        Request {
            requester: Some("did:key:z6Mk".into()),
            ttl: Some(2),
            ..Request::new(*leaf.cid())
        }
    }

    fn bitswap(leaf: &Block) -> Message {
        let want = |kind, cancel| WantEntry {
            cid: *leaf.cid(),
            priority: 7,
            kind,
            cancel,
            send_dont_have: true,
        };
        Message {
            wants: vec![want(WantKind::Block, false), want(WantKind::Have, true)],
            full: true,
            blocks: vec![RawBlock {
                version: Version::V1,
                codec: RAW,
                hash_code: 0x12,
                data: leaf.data().clone(),
            }],
            presences: vec![(*leaf.cid(), Presence::Have), (*leaf.cid(), Presence::DontHave)],
            pending_bytes: 99,
        }
    }

    /// Files and directories of every kind.
    fn nodes() -> Vec<Block> {
        let layout = Layout::from(Profile::UnixfsV0_2015);
        let (blocks, _) = import_bytes(layout, &[7; 600 << 10]);
        let mut nodes: Vec<Block> = blocks
            .into_iter()
            .filter(|b| b.cid().codec() == DAG_PB && b.data().len() < 4096)
            .collect();
        for (count, threshold) in [(3, usize::MAX), (40, 64)] {
            let mut params = DirParams::from(Profile::default());
            params.shard = ShardRule::BlockBytes(threshold);
            let mut tree = Tree::empty(params);
            for at in 0..count {
                let entry = Entry { cid: *nodes[0].cid(), tsize: 5, kind: EntryKind::File };
                tree.insert(&TreePath::parse(&format!("file-{at}")).expect("valid"), entry)
                    .expect("inserts");
            }
            nodes.extend(tree.flush().expect("flushes").blocks);
        }
        nodes
    }

    fn record() -> Vec<u8> {
        let key = Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes");
        let address = format!("/ip4/127.0.0.1/tcp/4001/ws/p2p/{}", key.public().to_peer_id());
        let record = serde_json::json!({
            "version": 1, "addresses": [address], "issuedAt": 1_700_000_000, "expiresAt": 1_900_000_000,
            "limits": {"circuitBytes": 0}, "features": ["relay"],
        });
        let Value::Object(record) = record else { unreachable!("an object") };
        let signed = relay_record::sign(record, &key).expect("signs");
        Value::Object(signed).to_string().into()
    }

    fn list() -> Vec<u8> {
        let cid = *Block::encode(Version::V1, RAW, Bytes::from_static(b"x")).cid();
        let file = |kind| FileEntry { kind, cid, mime_type: Some("text/plain".into()) };
        let entries = [("a", EntryKindOnWire::Directory), ("a/b.txt", EntryKindOnWire::File)];
        let entries = entries.map(|(path, kind)| (path.to_owned(), file(kind)));
        FileList { root: Some(cid), entries: entries.into() }.encode().expect("encodes").to_vec()
    }
}
