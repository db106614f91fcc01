//! The trustless gateway, as its clients meet it.

use std::collections::BTreeSet;

use cid::{Cid, Version};
use tabpeer::content::block::{Block, RAW};
use tabpeer::content::car::{CarItem, CarReader};
use tabpeer::content::directory::{DirParams, Entry, EntryKind, Tree};
use tabpeer::content::import::{FileBuilder, import_bytes};
use tabpeer::content::layout::Layout;
use tabpeer::content::profile::Profile;
use tabpeer::store::RootChange;
use tabpeer_relay::Relay;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::get;
use crate::{start, start_with};

/// Entries of the sharded directory.
const MANY: usize = 4000;
/// In `chunks` of it the file below is cut.
const CHUNK: usize = 1000;
const FILE_LEN: usize = 10_500;

/// A relay whose store has a directory with: `file` of several levels, `twice` whose chunks repeat, `many` a sharded
/// directory with raw leaves.
struct Fixture {
    relay: Relay,
    _data: TempDir,
    root: Cid,
    file: Vec<Block>,
    twice: Vec<Block>,
    many: Cid,
}

impl Fixture {
    async fn new() -> Self {
        let (relay, data) = start().await;
        let store = relay.store().unwrap();
        let mut session = store.session();
        let layout = Layout::new(CHUNK, 4, Version::V1, true).unwrap();
        let content: Vec<u8> = (0..FILE_LEN).map(|at| (at >> 3) as u8 ^ (at / 977) as u8).collect();
        let (file, file_root) = import_bytes(layout, &content);
        let (twice, twice_root) = import_bytes(layout, &[7; 8 * CHUNK]);
        let mut tree = Tree::empty(DirParams::from(Profile::default()));
        let entry = |cid, tsize| Entry { cid, tsize, kind: EntryKind::File };
        for (name, root) in [("file", file_root), ("twice", twice_root)] {
            tree.insert(&name.parse().unwrap(), entry(root.cid, root.tsize)).unwrap();
        }
        for at in 0..MANY {
            let name = format!("many/entry number {at:040}");
            let leaf = Block::encode(Version::V1, RAW, format!("{at}").into());
            tree.insert(&name.parse().unwrap(), entry(*leaf.cid(), 5)).unwrap();
            session.put(leaf).await.unwrap();
        }
        let flushed = tree.flush().unwrap();
        let many = tree.get(&"many".parse().unwrap()).unwrap().cid;
        for block in file.iter().chain(&twice).chain(&flushed.blocks) {
            session.put(block.clone()).await.unwrap();
        }
        let root = flushed.root;
        let pin = RootChange { name: "test".into(), expected: None, new: Some(root) };
        store.commit(vec![session], vec![pin]).await.unwrap();
        Self { relay, _data: data, root, file, twice, many }
    }

    fn file_cid(&self) -> Cid {
        *self.file.last().unwrap().cid()
    }

    /// The CIDs of a CAR's blocks, all verified.
    async fn car(&self, path: &str) -> Vec<Cid> {
        let (status, head, body) = get(&self.relay, path, "").await;
        assert_eq!(status, 200, "{path}: {head} {}", String::from_utf8_lossy(&body));
        car_cids(&body)
    }
}

/// Reads a body sent in chunks or at once, whose headers say so.
pub fn car_cids(body: &[u8]) -> Vec<Cid> {
    let mut reader = CarReader::new();
    reader.push(unchunked(body).into());
    let mut cids = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        if let CarItem::Block(cid, data) = item {
            cids.push(*Block::verify(cid, data).unwrap().cid());
        }
    }
    reader.end().unwrap();
    cids
}

/// The content of a body in HTTP's chunked coding.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").expect("a chunk's length");
        let len = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            return content;
        }
        content.extend_from_slice(&body[end + 2..end + 2 + len]);
        body = &body[end + 4 + len..];
    }
}

#[tokio::test]
async fn blocks_and_their_headers() {
    let fixture = Fixture::new().await;
    let cid = fixture.file_cid();
    let path = format!("/ipfs/{cid}?format=raw");
    let (status, head, body) = get(&fixture.relay, &path, "Origin: http://example.org\r\n").await;
    assert_eq!(status, 200);
    Block::verify(cid, body.clone().into()).unwrap();
    for line in [
        "content-type: application/vnd.ipld.raw".to_owned(),
        format!("content-length: {}", body.len()),
        format!("etag: \"{cid}.raw\""),
        "cache-control: public, max-age=29030400, immutable".into(),
        "x-content-type-options: nosniff".into(),
        format!("x-ipfs-path: /ipfs/{cid}"),
        format!("x-ipfs-roots: {cid}"),
        format!("content-disposition: attachment; filename=\"{cid}.bin\""),
        "access-control-allow-origin: *".into(),
    ] {
        assert!(head.lines().any(|found| found == line), "{line} in {head}");
    }
    assert!(head.contains("access-control-expose-headers: ") && head.contains("x-ipfs-roots"));

    let (status, head, body) = request(&fixture.relay, "HEAD", &path, "").await;
    assert_eq!((status, body.len()), (200, 0));
    assert!(head.contains(&format!("etag: \"{cid}.raw\"")) && !head.contains("content-length: 0"));
    let (_, head, _) =
        get(&fixture.relay, &format!("{path}&filename=a%20%22b%c3%bc.bin"), "").await;
    assert!(head.contains("filename=\"a__b_.bin\"; filename*=utf-8''a%20%22b%c3%bc.bin"), "{head}");
    for known in [format!("\"{cid}.raw\""), format!("\"x\", W/\"{cid}.raw\""), "*".into()] {
        let header = format!("If-None-Match: {known}\r\n");
        let (status, head, body) = get(&fixture.relay, &path, &header).await;
        assert_eq!((status, body.len()), (304, 0), "{known}");
        assert!(head.contains("etag: "), "{head}");
    }
    let (status, ..) = get(&fixture.relay, &path, "If-None-Match: \"other\"\r\n").await;
    assert_eq!(status, 200);
    // By a path, and by the other version of the CID.
    let by_path = format!("/ipfs/{}/file?format=raw", fixture.root);
    let (status, head, body) = get(&fixture.relay, &by_path, "").await;
    assert_eq!(status, 200);
    Block::verify(cid, body.into()).unwrap();
    assert!(head.contains(&format!("x-ipfs-roots: {},{cid}", fixture.root)), "{head}");
    let (status, head, _) = request(&fixture.relay, "OPTIONS", &path, "Origin: http://a.b\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x-any\r\n").await;
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("access-control-allow-methods: get,head"), "{head}");
}

#[tokio::test]
async fn what_a_car_has_in_it() {
    let fixture = Fixture::new().await;
    let Fixture { root, many, .. } = fixture;
    let file = fixture.file_cid();
    let of_file: BTreeSet<Cid> = fixture.file.iter().map(|block| *block.cid()).collect();

    let all = fixture.car(&format!("/ipfs/{file}?format=car")).await;
    assert_eq!(all[0], file);
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), of_file);
    assert_eq!(fixture.car(&format!("/ipfs/{file}?format=car&dag-scope=block")).await, [file]);
    let path = format!("/ipfs/{root}/file?format=car&dag-scope=entity");
    let with_way = fixture.car(&path).await;
    assert_eq!((with_way[0], &with_way[1..]), (root, &all[..]));
    assert_eq!(fixture.car(&format!("/ipfs/{root}?format=car&dag-scope=entity")).await, [root]);

    // Depth first: the leaves come in the order of the file.
    let leaves: Vec<Cid> = all.iter().filter(|cid| cid.codec() == RAW).copied().collect();
    let of_content = fixture.file.iter().map(|b| *b.cid()).filter(|cid| cid.codec() == RAW);
    assert_eq!(leaves, of_content.collect::<Vec<_>>());
    for (bytes, wanted) in [
        ("0:*", 0..11),
        ("0:0", 0..1),
        ("999:1000", 0..2),
        ("4000:5999", 4..6),
        ("-501:*", 9..11),
        ("-500:-1", 10..11),
        ("9000:99999999", 9..11),
        ("-99999999:1", 0..1),
        ("5:4", 0..0),
    ] {
        let path = format!("/ipfs/{file}?format=car&entity-bytes={bytes}");
        let got = fixture.car(&path).await;
        let got_leaves: Vec<Cid> = got.iter().filter(|cid| cid.codec() == RAW).copied().collect();
        assert_eq!(got_leaves, leaves[wanted], "{bytes}");
        assert_eq!(got[0], file);
    }

    // All repeated chunks are one block; so are the nodes above them.
    let twice = *fixture.twice.last().unwrap().cid();
    let path = |dups| format!("/ipfs/{twice}?format=car&car-dups={dups}");
    assert_eq!(fixture.car(&path("n")).await.len(), 3);
    assert_eq!(fixture.car(&path("y")).await.len(), 1 + 2 + 8);
    let part = format!("/ipfs/{twice}?format=car&entity-bytes=7000:*");
    assert_eq!(fixture.car(&part).await.len(), 3);

    // A sharded directory: its shards are the entity, one entry needs those on the way.
    let shards = fixture.car(&format!("/ipfs/{many}?format=car&dag-scope=entity")).await;
    assert!(shards.len() > 100 && shards.iter().all(|cid| cid.codec() != RAW), "{}", shards.len());
    let everything = fixture.car(&format!("/ipfs/{many}?format=car")).await;
    assert_eq!(everything.len(), shards.len() + MANY);
    for at in [0, 1, 777, MANY - 1] {
        let path = format!("/ipfs/{root}/many/entry%20number%20{at:040}?format=car");
        let way = fixture.car(&path).await;
        assert!((4..=6).contains(&way.len()), "{}", way.len());
        let entry = Block::encode(Version::V1, RAW, format!("{at}").into());
        assert_eq!((way[0], way[1], way.last().unwrap()), (root, many, entry.cid()));
    }
}

#[tokio::test]
async fn formats_are_negotiated_and_mistakes_are_told_apart() {
    let fixture = Fixture::new().await;
    let Fixture { root, .. } = fixture;
    let file = fixture.file_cid();
    let absent = Block::encode(Version::V1, RAW, "absent".into());
    let absent = absent.cid();
    for (path, header, expected) in [
        (format!("{file}"), "Accept: application/vnd.ipld.raw", 200),
        (format!("{file}"), "Accept: application/vnd.ipld.car; version=1; order=dfs; dups=y", 200),
        (format!("{file}"), "Accept: text/html, application/vnd.ipld.car;q=0.5", 200),
        (format!("{file}"), "Accept: */*", 406),
        (format!("{file}"), "Accept: text/html", 406),
        (format!("{file}"), "", 400),
        (format!("{file}?format=dag-json"), "", 406),
        (format!("{file}?format=tar"), "Accept: application/vnd.ipld.raw", 406),
        (format!("{file}?format=car&car-version=2"), "", 406),
        ("nonsense?format=raw".into(), "", 400),
        ("%00?format=raw".into(), "", 400),
        (format!("{root}/../x?format=car"), "", 400),
        (format!("{root}/%2e%2e/x?format=car"), "", 400),
        (format!("{root}/a%2fb?format=car"), "", 400),
        (format!("{root}//file?format=car"), "", 400),
        (format!("{root}/{}?format=car", "x/".repeat(200)), "", 400),
        (format!("{root}/nothing?format=car"), "", 404),
        (format!("{root}/file/deeper?format=car"), "", 404),
        (format!("{root}/many/nothing?format=car"), "", 404),
        (format!("{absent}?format=raw"), "", 404),
        (format!("{absent}?format=car"), "", 404),
        (format!("{absent}?format=raw"), "Cache-Control: only-if-cached", 412),
        (format!("{file}?format=raw"), "Cache-Control: only-if-cached", 200),
        (format!("{file}?format=car&entity-bytes=10500:*"), "", 400),
        (format!("{file}?format=car&entity-bytes=0:-10501"), "", 400),
        (format!("{file}?format=car&entity-bytes=99999999999999999999:*"), "", 400),
        (format!("{file}?format=car&entity-bytes=0:9223372036854775807"), "", 200),
        (format!("{file}?format=car&dag-scope=most"), "", 400),
        ("bafkqaaa".into(), "", 200),
        ("bafkqaaa?format=raw".into(), "", 200),
        ("bafkqaaa?format=car".into(), "", 200),
    ] {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let path = format!("/ipfs/{path}");
        for method in ["GET", "HEAD"] {
            let (status, head, body) = request(&fixture.relay, method, &path, &header).await;
            assert_eq!(status, expected, "{method} {path} {header}: {head}");
            assert!(head.contains("x-content-type-options: nosniff"), "{head}");
            assert_eq!(head.contains("immutable"), status == 200, "{head}");
            assert!(method == "GET" || body.is_empty());
        }
    }
    let (_, _, body) = get(&fixture.relay, "/ipfs/bafkqaaa", "").await;
    assert_eq!(body.len(), 0, "the probe's block is empty");
    let (_, _, body) = get(&fixture.relay, "/ipfs/bafkqaaa?format=car", "").await;
    assert_eq!(car_cids(&body), []);
    let accept = "Accept: application/vnd.ipld.car; dups=y\r\n";
    let (_, head, _) = get(&fixture.relay, &format!("/ipfs/{file}?dag-scope=block"), accept).await;
    assert!(head.contains("content-type: application/vnd.ipld.car; version=1; order=dfs; dups=y"));
    let location = format!("content-location: /ipfs/{file}?dag-scope=block&format=car&car-dups=y");
    assert!(head.contains(&location), "{head}");

    // Another response, another tag.
    let mut tags = BTreeSet::new();
    for query in [
        "raw",
        "car",
        "car&dag-scope=block",
        "car&dag-scope=entity",
        "car&entity-bytes=0:5",
        "car&car-dups=y",
    ] {
        let (_, head, _) =
            request(&fixture.relay, "HEAD", &format!("/ipfs/{file}?format={query}"), "").await;
        tags.insert(head.lines().find(|line| line.starts_with("etag: ")).unwrap().to_owned());
    }
    assert_eq!(tags.len(), 6, "{tags:?}");
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let (relay, _data) = start_with(|config| config.gateway.enabled = false).await;
    let (status, ..) = get(&relay, "/ipfs/bafkqaaa?format=raw", "").await;
    assert_eq!(status, 404);
    let (_, _, record) = get(&relay, "/.well-known/tabpeer.json", "").await;
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["features"], serde_json::json!(["relay", "kad", "gossipsub", "bitswap"]));
    let (relay, data) = start_with(|config| config.store.enabled = false).await;
    let (status, ..) = get(&relay, "/ipfs/bafkqaaa?format=raw", "").await;
    assert_eq!(status, 404);
    assert!(relay.store().is_none() && !data.path().join("store").exists());
}

/// A CAR whose client does not read: what is sent ahead is bounded, and others are refused, not kept waiting, when all
/// places are taken.
#[tokio::test]
async fn responses_at_once_are_bounded() {
    let (relay, _data) = start_with(|config| config.gateway.max_requests = 1).await;
    let store = relay.store().unwrap();
    let mut session = store.session();
    // One chunk, again and again: much to send, and little to hash.
    let leaf = Block::encode(Version::V1, RAW, vec![7; 1 << 20].into());
    let mut file = FileBuilder::new(Profile::default());
    for _ in 0..48 {
        file.push_leaf(*leaf.cid(), 1 << 20, 1 << 20);
    }
    let (nodes, root) = file.finish();
    for block in nodes.into_iter().chain([leaf]) {
        session.put(block).await.unwrap();
    }
    session.flush().await.unwrap();

    let path = format!("/ipfs/{}?format=car&car-dups=y", root.cid);
    let mut slow = TcpStream::connect(relay.http_addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 64];
    slow.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200"));
    let (status, ..) = get(&relay, &path, "").await;
    assert_eq!(status, 503);
    // The slow one gets all of it in the end, and makes room.
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > 48 << 20);
    let (status, ..) = get(&relay, &format!("/ipfs/{}?format=raw", root.cid), "").await;
    assert_eq!(status, 200);
}

/// Status, headers in lower case, and body.
async fn request(relay: &Relay, method: &str, path: &str, header: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(relay.http_addr()).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(response[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.replace("\r\n", "\n"), response[end + 4..].to_vec())
}
