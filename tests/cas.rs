//! `/cas/1.0.0` between real peers over TCP: both sides, several at a time, liars, requests passed on.
#![cfg(not(target_family = "wasm"))]

use std::{
    future::poll_fn,
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{StreamProtocol, identity::Keypair};
use tabpeer::{
    content::{
        block::{Block, Cid, DAG_PB, RAW, sha256},
        import::import_bytes,
        profile::Profile,
    },
    exchange::{
        cas::{
            CasError, CasSource, MAX_CONTENT, PROTOCOL, Request, answer_without, ask_peers,
            decode_answer, serve,
        },
        fetch::source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
    },
    network::{Network, NetworkConfig, peers::PeerStreams},
    platform::memory::MemoryDatabase,
    store::{RootChange, Store},
};
use tokio::sync::mpsc;

const CAS: StreamProtocol = StreamProtocol::new(PROTOCOL);
/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(30);

fn network() -> Network {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("valid")];
    let config = NetworkConfig { listen, ..NetworkConfig::new(Keypair::generate_ed25519()) };
    Network::start(config).expect("starts")
}

/// Connects, and waits until `from` knows what `to` speaks.
async fn connect(from: &Network, to: &Network, protocol: &str) {
    let mut status = to.status();
    let listening = status.wait_for(|status| !status.listen_addresses.is_empty()).await;
    from.dial(listening.expect("open").listen_addresses[0].clone()).await.expect("dials");
    let mut peers = from.peers();
    let speaks = |watch: &tabpeer::network::peers::PeersWatch| {
        let peers = watch.current();
        let info = peers.get(&to.peer_id());
        info.is_some_and(|info| info.protocols.iter().any(|name| name == protocol))
    };
    while !speaks(&peers) {
        peers.changed().await.expect("open");
    }
}

async fn store(contents: &[&[Block]]) -> Store {
    let store = Store::open(Arc::new(MemoryDatabase::new())).await.expect("opens");
    for blocks in contents {
        let mut session = store.session();
        for block in *blocks {
            session.put(block.clone()).await.expect("put");
        }
        let root = *blocks.last().expect("blocks").cid();
        let change = RootChange { name: root.to_string(), expected: None, new: Some(root) };
        store.commit(vec![session], vec![change]).await.expect("committed");
    }
    store
}

async fn server(contents: &[&[Block]]) -> Network {
    let network = network();
    serve(&network, store(contents).await).await.expect("serves");
    network
}

fn noise(len: usize, seed: u32) -> Bytes {
    (0..len as u32).map(|i| ((i ^ seed << 13).wrapping_mul(0x9e37_79b9) >> 23) as u8).collect()
}

fn raw(data: &'static str) -> Block {
    Block::encode(cid::Version::V1, RAW, Bytes::from_static(data.as_bytes()))
}

fn fetch_request(root: Cid, ttl: Option<u32>) -> FetchRequest {
    FetchRequest {
        root,
        fallback: None,
        preferred_sources: Vec::new(),
        ttl,
        requester: None,
        timeout: None,
        source_timeout: None,
    }
}

async fn next(session: &mut Box<dyn SourceSession>) -> SourceEvent {
    let event = poll_fn(|cx| session.poll_next(cx));
    tokio::time::timeout(PATIENCE, event).await.expect("in time").expect("it goes on")
}

/// Answers every request with `answer` after `before` was called.
async fn answering(answer: impl Into<Bytes>) -> (Network, Arc<AtomicUsize>) {
    let (network, answer) = (network(), answer.into());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let mut incoming = network.accept(CAS).await.expect("accepts");
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.close().await;
            });
        }
    });
    (network, asked)
}

/// Takes every request and says nothing; tells when a stream has ended.
async fn silent() -> (Network, mpsc::Receiver<&'static str>) {
    let network = network();
    let mut incoming = network.accept(CAS).await.expect("accepts");
    let (told, tells) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            let told = told.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = told.send("asked").await;
                while matches!(stream.read(&mut [0; 64]).await, Ok(len) if len > 0) {}
                let _ = told.send("ended").await;
            });
        }
    });
    (network, tells)
}

async fn close(networks: &[&Network]) {
    for network in networks {
        network.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_files_are_answered_and_verified() {
    let block = raw("a block");
    let node = Block::encode(cid::Version::V1, DAG_PB, Bytes::from_static(b"\n\x02\x08\x01"));
    let bytes = noise(3_000_001, 1);
    let mut contents = vec![vec![block.clone()], vec![node.clone()]];
    let mut roots = Vec::new();
    for profile in Profile::ALL {
        for len in [0, 1, 300_000, bytes.len()] {
            let (mut blocks, root) = import_bytes(profile, &bytes[..len]);
            // The root last, also where the file is one leaf.
            blocks.sort_by_key(|block| *block.cid() == root.cid);
            contents.push(blocks.clone());
            roots.push((root.cid, blocks));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    contents.retain(|blocks| blocks.last().is_some_and(|root| seen.insert(*root.cid())));
    let contents: Vec<&[Block]> = contents.iter().map(Vec::as_slice).collect();
    let server = server(&contents).await;
    let client = network();
    connect(&client, &server, PROTOCOL).await;
    let ask = async |cid| ask_peers(&client, [server.peer_id()], &Request::new(cid)).await;
    for block in [&block, &node] {
        assert_eq!(ask(*block.cid()).await, Ok((server.peer_id(), vec![block.clone()])));
    }
    for (root, blocks) in roots {
        let (_, got) = ask(root).await.expect("the file");
        assert!(blocks.iter().all(|block| got.contains(block)), "{root}");
    }
    let absent = *raw("absent").cid();
    let not_there = CasError::NotThere { peer: server.peer_id(), cid: absent };
    assert_eq!(ask(absent).await, Err(vec![not_there]));
    close(&[&server, &client]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_frames_nothing_is_understood() {
    let block = raw("a block");
    let server = server(&[from_ref(&block)]).await;
    let client = network();
    connect(&client, &server, PROTOCOL).await;
    let digest: String = sha256(b"a block").iter().map(|byte| format!("{byte:02x}")).collect();
    for (hash, content) in [(digest, Some(block.data().clone())), ("0".repeat(64), None)] {
        let mut stream = client.open_stream(server.peer_id(), CAS).await.expect("opens");
        let request = format!(r#"{{"type":"GET_CONTENT","hash":"{hash}"}}"#);
        stream.write_all(request.as_bytes()).await.expect("writes");
        stream.flush().await.expect("flushes");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("reads");
        assert!(answer.starts_with(b"{"));
        assert_eq!(decode_answer(&answer), Ok(content));
    }
    // And the other way round: an answer without its length.
    let (bare, _) = answering(r#"{"content":"YSBibG9jaw=="}"#).await;
    connect(&client, &bare, PROTOCOL).await;
    let got = ask_peers(&client, [bare.peer_id()], &Request::new(*block.cid())).await;
    assert_eq!(got, Ok((bare.peer_id(), vec![block])));
    close(&[&server, &client, &bare]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_right_answer_wins_and_the_others_are_dropped() {
    let bytes = noise(2_500_000, 2);
    let (blocks, root) = import_bytes(Profile::default(), &bytes);
    let client = network();
    let (liar, _) = answering(r#"{"content":"bGllcw=="}"#).await;
    let (empty, _) = answering("{}").await;
    let (silent, _tells) = silent().await;
    let honest = server(&[&blocks]).await;
    for peer in [&liar, &empty, &silent, &honest] {
        connect(&client, peer, PROTOCOL).await;
    }
    let peers = [&silent, &liar, &empty, &honest].map(Network::peer_id);
    let (from, got) = ask_peers(&client, peers, &Request::new(root.cid)).await.expect("content");
    assert!(from == honest.peer_id() && blocks.iter().all(|block| got.contains(block)));
    let errors = ask_peers(&client, peers[1..3].iter().copied(), &Request::new(root.cid)).await;
    let errors = errors.expect_err("none has it");
    let wrong = CasError::Wrong { peer: liar.peer_id(), cid: root.cid };
    assert!(errors.len() == 2 && errors.contains(&wrong), "{errors:?}");
    close(&[&client, &liar, &empty, &silent, &honest]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_ends_its_stream() {
    let client = network();
    let (silent, mut tells) = silent().await;
    connect(&client, &silent, PROTOCOL).await;
    let request = Request::new(*raw("nobody has it").cid());
    tokio::select! {
        got = ask_peers(&client, [silent.peer_id()], &request) => panic!("{got:?}"),
        told = tells.recv() => assert_eq!(told, Some("asked")),
    }
    assert_eq!(tells.recv().await, Some("ended"));
    close(&[&client, &silent]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_are_refused() {
    let cid = *raw("wanted").cid();
    let client = network();
    let mut huge = vec![0xff, 0xff, 0xff, 0x7f];
    huge.extend_from_slice(b"{\"content\":\"");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("a page", b"<html>no</html>".to_vec()),
        ("a huge length", huge),
        ("a cut frame", b"\x7f{\"content\":".to_vec()),
        ("a cut value", b"{\"content\":\"aaaa".to_vec()),
        ("deep nesting", [b"{\"a\":".to_vec(), vec![b'['; 5000]].concat()),
        ("no base64", b"{\"content\":\"!!!\"}".to_vec()),
        ("two answers", [&answer_without(&cid, None, false)[..], b"{}"].concat()),
    ];
    for (what, answer) in cases {
        let (evil, asked) = answering(answer).await;
        connect(&client, &evil, PROTOCOL).await;
        let errors =
            ask_peers(&client, [evil.peer_id()], &Request::new(cid)).await.expect_err(what);
        let [error] = &errors[..] else { panic!("{errors:?}") };
        let odd = matches!(error, CasError::Message { .. } | CasError::Broken { .. });
        assert!(odd && error.to_string().contains(&evil.peer_id().to_string()), "{what}: {error}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        evil.close().await;
    }
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_end_and_the_server_goes_on() {
    let block = raw("a block");
    let large = noise(MAX_CONTENT + 1, 3);
    let (large_blocks, large_root) = import_bytes(Profile::default(), &large);
    let server = server(&[from_ref(&block), &large_blocks]).await;
    let client = network();
    connect(&client, &server, PROTOCOL).await;
    for request in [
        &b"<html>"[..],
        b"{\"type\":\"PUT\"}",
        b"{\"type\":\"GET_CONTENT\",\"hash\":\"x\"}",
        b"\xff\xff\xff\xff\x0f",
        b"\x05{}",
        &[b'{'; 40_000],
    ] {
        let mut stream = client.open_stream(server.peer_id(), CAS).await.expect("opens");
        let _ = stream.write_all(request).await;
        let _ = stream.close().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    // Too large to be sent: it is said, not begun.
    let answer = ask_peers(&client, [server.peer_id()], &Request::new(large_root.cid)).await;
    assert!(matches!(&answer.expect_err("too large")[..], [CasError::NotThere { .. }]));
    let answer = ask_peers(&client, [server.peer_id()], &Request::new(*block.cid())).await;
    assert_eq!(answer, Ok((server.peer_id(), vec![block])));
    close(&[&server, &client]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_brings_a_file_by_one_request_and_says_what_is_missing() {
    let bytes = noise(2_500_000, 4);
    let (blocks, root) = import_bytes(Profile::default(), &bytes);
    let other = raw("besides");
    let server = server(&[&blocks, from_ref(&other)]).await;
    let client = network();
    let source = CasSource::new(Arc::new(client.clone()));
    assert_eq!(source.kind(), SourceKind::Peers);
    let mut session = source.open(&fetch_request(root.cid, None));
    session.want(&[root.cid]);
    let SourceEvent::Missing { cids, reason } = next(&mut session).await else { panic!("found") };
    assert!(cids == [root.cid] && reason.contains(PROTOCOL), "{reason}");
    connect(&client, &server, PROTOCOL).await;
    let cids: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
    session.want(&cids[3..]);
    let mut came = Vec::new();
    for _ in &cids[3..] {
        let SourceEvent::Block { block, from } = next(&mut session).await else { panic!("none") };
        assert_eq!(from, Some(server.peer_id()));
        came.push(*block.cid());
    }
    server.close().await;
    // The rest came with it.
    session.want(&cids[..3]);
    for _ in 0..3 {
        let SourceEvent::Block { block, .. } = next(&mut session).await else { panic!("none") };
        came.push(*block.cid());
    }
    came.sort();
    let mut all = cids;
    all.sort();
    assert_eq!(came, all);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_asks_for_what_the_root_does_not_cover() {
    let (root, other, absent) = (raw("the root"), raw("besides"), raw("absent"));
    let server = server(&[from_ref(&root), from_ref(&other)]).await;
    let client = network();
    connect(&client, &server, PROTOCOL).await;
    let source = CasSource::new(Arc::new(client.clone()));
    let mut session = source.open(&fetch_request(*root.cid(), None));
    session.want(&[*other.cid(), *absent.cid()]);
    let (mut came, mut missing) = (None, None);
    while came.is_none() || missing.is_none() {
        match next(&mut session).await {
            SourceEvent::Block { block, .. } => came = Some(block),
            SourceEvent::Missing { cids, reason } => missing = Some((cids, reason)),
            SourceEvent::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(came, Some(other));
    let (cids, reason) = missing.expect("one is missing");
    assert!(cids == [*absent.cid()] && reason.contains(&server.peer_id().to_string()), "{reason}");
    close(&[&server, &client]).await;
}

/// `ttl` and the rest ride along and change nothing: what is not here is not looked for elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_where_it_comes_to() {
    let block = raw("far away");
    let far = server(&[from_ref(&block)]).await;
    let near = server(&[]).await;
    let client = network();
    connect(&client, &near, PROTOCOL).await;
    connect(&near, &far, PROTOCOL).await;
    let mut request = Request::new(*block.cid());
    request.requester = Some("did:key:z6Mk".into());
    for ttl in [None, Some(0), Some(1), Some(u32::MAX)] {
        request.ttl = ttl;
        let answer = ask_peers(&client, [near.peer_id()], &request).await;
        assert!(
            matches!(&answer.expect_err("too far")[..], [CasError::NotThere { .. }]),
            "{ttl:?}"
        );
    }
    connect(&client, &far, PROTOCOL).await;
    let answer = ask_peers(&client, [far.peer_id()], &request).await;
    assert_eq!(answer, Ok((far.peer_id(), vec![block])));
    close(&[&far, &near, &client]).await;
}
