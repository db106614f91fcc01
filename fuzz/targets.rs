//! What is fuzzed: each target feeds one decoder and checks what must hold of its answer. Shared by
//! the fuzzers (`fuzz_targets/`) and by the test that replays their corpora (`tests/fuzz_corpus.rs`).
//! A target says whether it accepted its input, so that a corpus can be seen to reach past the first check.

use bytes::Bytes;
use cid::Version;
use tabpeer::{
    config,
    content::{
        block::{Block, DAG_PB},
        car::{CarItem, CarReader, MAX_SECTION},
        dagpb::PbNode,
        directory::{DirParams, Tree, TreeError},
        path::TreePath,
        profile::Profile,
        read::{ReadStep, Reader},
        unixfs::UnixFs,
        walk::{Leaves, Walk},
    },
    exchange::{
        bitswap::message::{Message, MessageReader},
        capabilities::{PeerCapabilities, message::frame},
        cas::{FrameReader, MAX_REQUEST, Request, decode_answer},
        gateway::GatewayUrl,
        routing::records,
        webapp::{ContentDecoder, FileListDecoder, Rebuild, RequestDecoder},
    },
    messaging::{
        availability::message as availability,
        direct::{Value, frame as direct},
        topics::{exchange, payload, roster},
    },
    network::relay_record::RelayRecord,
    platform::{
        Dialer,
        tabs::{frame as tab_frames, notice::Notice as TabNotice},
    },
};

pub type Target = fn(&[u8]) -> bool;

/// Every target under the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("bitswap_message", bitswap_message),
    ("bitswap_stream", bitswap_stream),
    ("capabilities", capabilities),
    ("car", car),
    ("cas_answer", cas_answer),
    ("cas_request", cas_request),
    ("cid", cid),
    ("content_notices", content_notices),
    ("content_update", content_update),
    ("dag_pb", dag_pb),
    ("direct_frames", direct_frames),
    ("directory", directory),
    ("file", file),
    ("gateway_url", gateway_url),
    ("peer_exchange", peer_exchange),
    ("relay_record", relay_record),
    ("routing_records", routing_records),
    ("tab_frame", tab_frame),
    ("tab_notice", tab_notice),
    ("topic_payload", topic_payload),
    ("topic_peers", topic_peers),
    ("tree_path", tree_path),
    ("unixfs", unixfs),
    ("webapp_content", webapp_content),
    ("webapp_list", webapp_list),
    ("webapp_request", webapp_request),
];

/// What decodes encodes to something that decodes to the same.
pub fn bitswap_message(data: &[u8]) -> bool {
    let Ok(message) = Message::decode(Bytes::copy_from_slice(data)) else { return false };
    let mut reader = MessageReader::new();
    message.encode().into_iter().for_each(|piece| reader.push(piece));
    // Encoding may be longer than what came: what was left out comes out as its default.
    if let Ok(again) = reader.next() {
        assert_eq!(again.as_ref(), Some(&message));
    }
    true
}

/// Pieces of any size give the same messages as the whole.
pub fn bitswap_stream(data: &[u8]) -> bool {
    let (whole, parts) = (bitswap_messages(data, data.len()), bitswap_messages(data, 7));
    assert_eq!(whole, parts);
    whole.0 > 0
}

fn bitswap_messages(data: &[u8], piece: usize) -> (usize, bool) {
    let (mut reader, mut count) = (MessageReader::new(), 0);
    for piece in data.chunks(piece.max(1)) {
        reader.push(Bytes::copy_from_slice(piece));
        loop {
            match reader.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => break,
                Err(_) => return (count, false),
            }
        }
    }
    (count, true)
}

/// What decodes encodes to something that decodes to the same.
pub fn capabilities(data: &[u8]) -> bool {
    let Ok(Some((len, header))) = frame(data) else { return false };
    let Some(body) = data.get(header..header + len) else { return false };
    let Ok(said) = PeerCapabilities::decode(body) else { return false };
    let again = said.encode();
    let (len, header) = frame(&again).ok().flatten().expect("its own frame");
    assert_eq!(again.len(), header + len);
    assert_eq!(PeerCapabilities::decode(&again[header..]).as_ref(), Ok(&said));
    true
}

pub fn cas_answer(data: &[u8]) -> bool {
    let answer = decode_answer(data);
    if let Ok(Some(content)) = &answer {
        assert!(content.len() <= data.len());
    }
    answer.is_ok()
}

/// What decodes encodes to something that decodes to the same.
pub fn content_notices(data: &[u8]) -> bool {
    let Ok(notices) = availability::decode_batch(data) else { return false };
    let again = availability::encode_batch(&notices);
    assert_eq!(availability::decode_batch(&again).as_ref(), Ok(&notices));
    !notices.is_empty()
}

/// The same of what is announced on a topic.
pub fn content_update(data: &[u8]) -> bool {
    let Some(hash) = std::str::from_utf8(data).ok().and_then(availability::decode_update) else {
        return false;
    };
    assert_eq!(availability::decode_update(&availability::encode_update(&hash)), Some(hash));
    true
}

/// A request, framed or bare, in pieces.
pub fn cas_request(data: &[u8]) -> bool {
    let mut reader = FrameReader::new(MAX_REQUEST);
    for piece in data.chunks(5) {
        match reader.push(piece) {
            Ok(false) => {}
            Ok(true) => {
                let Ok(request) = Request::decode(reader.body()) else { return false };
                let mut reader = FrameReader::new(MAX_REQUEST);
                assert_eq!(reader.push(&request.encode()), Ok(true));
                assert_eq!(Request::decode(reader.body()), Ok(request));
                return true;
            }
            Err(_) => return false,
        }
    }
    false
}

/// A base URL of a gateway or router: what is accepted stays on its host.
pub fn gateway_url(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(url) = text.parse::<GatewayUrl>() else { return false };
    assert_eq!(url.to_string().parse::<GatewayUrl>().as_ref(), Ok(&url));
    true
}

pub fn routing_records(data: &[u8]) -> bool {
    records::parse(data, Dialer::Native).is_some_and(|providers| !providers.is_empty())
}

/// Blocks come in any case within the limits, and what is held is bounded.
pub fn car(data: &[u8]) -> bool {
    let (mut reader, mut accepted) = (CarReader::new(), false);
    for piece in data.chunks(1024) {
        reader.push(Bytes::copy_from_slice(piece));
        loop {
            match reader.next() {
                Ok(Some(CarItem::Roots(_))) => {}
                Ok(Some(_)) => accepted = true,
                Ok(None) => break,
                Err(_) => return accepted,
            }
        }
        assert!(reader.held() <= MAX_SECTION + 2048);
    }
    accepted && reader.end().is_ok()
}

/// A CID that parses is written as something that parses to the same.
pub fn cid(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(cid) = config::parse_cid(text) else { return false };
    assert_eq!(config::parse_cid(&cid.to_string()).ok(), Some(cid));
    true
}

/// The codec is strict: what decodes is what encoding gives.
pub fn dag_pb(data: &[u8]) -> bool {
    let Ok(node) = PbNode::decode(&Bytes::copy_from_slice(data)) else { return false };
    let again = PbNode::decode(&node.encode());
    assert_eq!(again.as_ref(), Ok(&node));
    true
}

/// Pieces of any size give the same frames as the whole, and each is written as one that reads alike.
pub fn topic_peers(data: &[u8]) -> bool {
    let (whole, good) = rosters(data, data.len());
    assert!((whole.clone(), good) == rosters(data, 5));
    for frame in &whole {
        let again = frame.encode();
        assert!(rosters(&again, again.len()) == (vec![frame.clone()], true));
    }
    good && !whole.is_empty()
}

fn rosters(data: &[u8], piece: usize) -> (Vec<roster::Frame>, bool) {
    let (mut reader, mut frames) = (roster::FrameReader::default(), Vec::new());
    for piece in data.chunks(piece.max(1)) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, true)
}

/// Whatever comes is a value that can be published again; whether it is JSON.
pub fn topic_payload(data: &[u8]) -> bool {
    let Some(value) = payload::decode(data.to_vec()) else { return false };
    let json = matches!(value, Value::Json(_));
    let again = payload::encode(value.clone()).expect("it has come, so it may go");
    assert_eq!(payload::decode(again), Some(value));
    json
}

pub fn tab_frame(data: &[u8]) -> bool {
    let Some((kind, place)) = tab_frames::parse(data) else { return false };
    assert!(data.starts_with(&tab_frames::header(kind, place)));
    true
}

pub fn tab_notice(data: &[u8]) -> bool {
    let Some(notice) = TabNotice::decode(data) else { return false };
    assert_eq!(notice.encode(), data);
    true
}

pub fn direct_frames(data: &[u8]) -> bool {
    let (whole, good) = frames(data, data.len());
    assert_eq!((whole.clone(), good), frames(data, 3));
    for frame in &whole {
        let again = frame.encode();
        assert_eq!(
            direct::FrameReader::new().read(&mut &again[..]).as_ref(),
            Ok(&Some(frame.clone()))
        );
    }
    good && !whole.is_empty()
}

fn frames(data: &[u8], piece: usize) -> (Vec<direct::Frame>, bool) {
    let (mut reader, mut frames) = (direct::FrameReader::new(), Vec::new());
    for mut piece in data.chunks(piece.max(1)) {
        loop {
            match reader.read(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, true)
}

/// The node of a directory: listing it asks for blocks, fails, or gives names that are paths.
pub fn directory(data: &[u8]) -> bool {
    let root = Block::encode(Version::V1, DAG_PB, Bytes::copy_from_slice(data));
    let mut tree = Tree::open(*root.cid(), DirParams::from(Profile::default()));
    // Only what was asked for is taken.
    if !matches!(tree.entries(&TreePath::root()), Err(TreeError::Need(_)))
        || tree.supply(&root).is_err()
    {
        return false;
    }
    match tree.entries(&TreePath::root()) {
        Ok(entries) => {
            // Others may use names that we would not make, but none that leads elsewhere.
            let leads_away = |name: &str| matches!(name, "" | "." | "..") || name.contains('/');
            assert!(!entries.iter().any(|(name, _)| leads_away(name)));
            true
        }
        Err(TreeError::Need(cids)) => !cids.contains(root.cid()),
        Err(_) => false,
    }
}

/// The root of a file: reading asks for blocks, fails, or ends; enumerating it as well.
pub fn file(data: &[u8]) -> bool {
    let root = Block::encode(Version::V1, DAG_PB, Bytes::copy_from_slice(data));
    if let Ok(mut walk) = Walk::new(*root.cid(), Leaves::Fetch) {
        walk.wants(1);
        let _ = walk.supply(&root);
    }
    let Ok(mut reader) = Reader::new(*root.cid(), None) else { return false };
    assert_eq!(reader.wants(1), [*root.cid()]);
    if reader.supply(&root).is_err() {
        return false;
    }
    loop {
        match reader.next() {
            ReadStep::Bytes(bytes) => assert!(bytes.len() <= data.len()),
            ReadStep::Done => return true,
            ReadStep::Wait => return reader.wants(64).len() <= 64,
        }
    }
}

pub fn peer_exchange(data: &[u8]) -> bool {
    let Ok(message) = exchange::Message::decode(data.to_vec()) else { return false };
    assert!(message.peers.len() <= exchange::MAX_NAMED);
    let encoded = message.encode();
    let len = exchange::frame(&encoded).expect("a length").expect("whole");
    let body = encoded[encoded.len() - len..].to_vec();
    assert_eq!(exchange::Message::decode(body), Ok(message));
    true
}

pub fn relay_record(data: &[u8]) -> bool {
    RelayRecord::parse(data, 1_800_000_000).is_ok()
}

/// A path that parses is written as itself.
pub fn tree_path(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(path) = TreePath::parse(text) else { return false };
    assert_eq!(TreePath::parse(path.as_str()).as_ref(), Ok(&path));
    assert!(path.parts().all(|part| !part.is_empty() && part != ".." && part != "."));
    true
}

pub fn unixfs(data: &[u8]) -> bool {
    let Ok(message) = UnixFs::decode(&Bytes::copy_from_slice(data)) else { return false };
    let _ = message.encode();
    true
}

/// The answer with a file, and the blocks made again from it.
pub fn webapp_content(data: &[u8]) -> bool {
    let (mut decoder, mut rebuild) = (ContentDecoder::new(), None);
    let mut events = 0;
    for piece in data.chunks(512) {
        let Ok(some) = decoder.push(piece) else { return false };
        for event in some {
            events += 1;
            if let tabpeer::exchange::webapp::ContentEvent::RawNode(node) = &event {
                let cid = *Block::encode(Version::V1, DAG_PB, node.clone()).cid();
                rebuild = Some(Rebuild::new(cid).with_held_limit(1 << 20));
            }
            if rebuild.as_mut().is_some_and(|rebuild| rebuild.event(event).is_err()) {
                return true;
            }
            while rebuild.as_mut().is_some_and(|rebuild| rebuild.next_block().is_some()) {}
        }
    }
    events > 1
}

pub fn webapp_list(data: &[u8]) -> bool {
    let mut decoder = FileListDecoder::new();
    let Ok(Some(list)) = decoder.push(data) else { return false };
    let again = list.encode().expect("what was read can be written");
    assert_eq!(FileListDecoder::new().push(&again), Ok(Some(list)));
    true
}

pub fn webapp_request(data: &[u8]) -> bool {
    let Ok(Some(request)) = RequestDecoder::new().push(data) else { return false };
    assert_eq!(RequestDecoder::new().push(&request.encode()), Ok(Some(request)));
    true
}
