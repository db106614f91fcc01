//! Peers that lie, stop in the middle, or send nonsense: each call ends with a typed error, nothing
//! of it is kept, and the peer goes on working.
#![cfg(not(target_family = "wasm"))]

mod support;

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::join_all};
use libp2p::{PeerId, StreamProtocol, identity::Keypair};
use support::{by_websocket, get, noise, peer, relay, store};
use tabpeer::{
    content::{block::Block, import::import_bytes, profile::Profile},
    error::Error,
    exchange::webapp::{FileEncoder, PROTOCOL, encode_failure},
    network::{Network, NetworkConfig, RelaySpec},
    peer::{ListOptions, Peer},
};

/// A peer that answers every request with `answer` and closes the stream.
async fn evil(relays: Vec<RelaySpec>, answer: Bytes) -> (Network, PeerId) {
    let network = evil_network(relays).await;
    let mut incoming = network.accept(StreamProtocol::new(PROTOCOL)).await.expect("accepts");
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.close().await;
        }
    });
    let id = network.peer_id();
    (network, id)
}

async fn evil_network(relays: Vec<RelaySpec>) -> Network {
    let config = NetworkConfig { relays, ..NetworkConfig::new(Keypair::generate_ed25519()) };
    let network = Network::start(config).expect("starts");
    network.wait_online(Duration::from_secs(10)).await;
    network
}

fn message(kind: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(kind);
    out.put_u32(body.len() as u32);
    out.put_slice(body);
    out.freeze()
}

fn file_message(root: &Block, content: &[u8]) -> Bytes {
    let (mut encoder, head) =
        FileEncoder::new(root.cid(), root.data(), content.len() as u64, "text/plain")
            .expect("encodes");
    let mut out = BytesMut::from(&head[..]);
    out.put(encoder.push(content).expect("encodes"));
    out.put(encoder.finish().expect("encodes"));
    out.freeze()
}

/// The victim still gets good content from an honest peer and keeps a sound store.
async fn still_works(victim: &Peer, honest: &Peer, seed: u64) {
    let bytes = noise(300_000, seed);
    let cid = store(honest, &format!("good/{seed}"), &bytes).await.file;
    assert_eq!(get(victim, cid, Some(honest.peer_id())).await.expect("fetched"), bytes);
    assert!(victim.store().check().await.expect("counted").is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_the_content_are_refused() {
    let (relay, _data) = relay().await;
    let honest = peer(by_websocket(&relay)).await;
    let victim = peer(by_websocket(&relay)).await;
    let bytes = noise(3_000_000, 99);
    let (blocks, root) = import_bytes(Profile::default(), &bytes);
    let cid = root.cid;
    let root = blocks.iter().find(|block| *block.cid() == cid).expect("the root");
    let other = import_bytes(Profile::default(), &noise(3_000_000, 98)).0;
    let whole = file_message(root, &bytes);
    let mut wrong_leaf = bytes.to_vec();
    wrong_leaf[2_500_000] ^= 1;
    let mut huge = BytesMut::from(&[3u8, 0xff, 0xff, 0xff, 0xff][..]);
    huge.put_slice(b"{\"cid\":\"");
    let cases: Vec<(&str, Bytes, &str)> = vec![
        ("another root", file_message(other.last().expect("blocks"), &bytes), "WRONG_CONTENT"),
        ("a wrong leaf", file_message(root, &wrong_leaf), "WRONG_CONTENT"),
        ("too little content", file_message(root, &bytes[..2_000_000]), "WRONG_CONTENT"),
        ("cut in the middle", whole.slice(..whole.len() / 2), "NOT_FOUND"),
        ("cut before the end", whole.slice(..whole.len() - 1), "NOT_FOUND"),
        ("nothing at all", Bytes::new(), "NOT_FOUND"),
        ("another type", message(9, b"{}"), "NOT_FOUND"),
        ("a huge length and then nothing", huge.freeze(), "NOT_FOUND"),
        ("no JSON", message(3, b"<html>404</html>"), "NOT_FOUND"),
        ("deep JSON", message(3, "[".repeat(50_000).as_bytes()), "NOT_FOUND"),
        (
            "a refusal",
            encode_failure(&cid.to_string(), "no such thing").expect("encodes"),
            "NOT_FOUND",
        ),
    ];
    for (seed, (what, answer, code)) in cases.into_iter().enumerate() {
        let (network, id) = evil(by_websocket(&relay), answer).await;
        let error = get(&victim, cid, Some(id)).await.expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        assert!(error.to_string().contains(&id.to_string()), "{what}: {error} names the peer");
        network.close().await;
        still_works(&victim, &honest, seed as u64).await;
    }
    // Nothing of the lies was kept: the true content still has to come from somebody.
    assert_eq!(get(&victim, cid, None).await.expect_err("not here").code(), "NOT_FOUND");
    honest.close().await;
    victim.close().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_none_are_refused() {
    let (relay, _data) = relay().await;
    let honest = peer(by_websocket(&relay)).await;
    let victim = peer(by_websocket(&relay)).await;
    let cid = import_bytes(Profile::default(), b"x").1.cid;
    let entry = |path: &str| {
        format!(r#"{{"cid":"{cid}","entries":{{"{path}":{{"type":"file","cid":"{cid}"}}}}}}"#)
    };
    let cases = [
        ("a path upwards", message(1, entry("../up").as_bytes())),
        ("an absolute path", message(1, entry("/etc/passwd").as_bytes())),
        ("an empty part", message(1, entry("a//b").as_bytes())),
        ("a bad CID", message(1, br#"{"cid":"nonsense","entries":{}}"#)),
        ("no object", message(1, b"[]")),
        ("cut", message(1, entry("a").as_bytes()).slice(..40)),
        ("a length over the limit", Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff])),
        ("nothing", Bytes::new()),
    ];
    for (what, answer) in cases {
        let (network, id) = evil(by_websocket(&relay), answer).await;
        let error = victim.list_files(Some(id), ListOptions::default()).await.expect_err(what);
        assert_eq!(error.code(), "PROTOCOL", "{what}: {error}");
        network.close().await;
    }
    let silent = evil_network(by_websocket(&relay)).await;
    let error = victim
        .list_files(Some(silent.peer_id()), ListOptions::default())
        .await
        .expect_err("it does not speak the protocol");
    assert_eq!(error.code(), "UNSUPPORTED", "{error}");
    silent.close().await;
    let nobody = Keypair::generate_ed25519().public().to_peer_id();
    let error = victim.list_files(Some(nobody), ListOptions::default()).await.expect_err("nobody");
    assert_eq!(error.code(), "PEER_UNREACHABLE", "{error}");
    still_works(&victim, &honest, 1).await;
    honest.close().await;
    victim.close().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_never_ends_is_given_up_after_the_time_given() {
    let (relay, _data) = relay().await;
    let victim = peer(by_websocket(&relay)).await;
    let slow = evil_network(by_websocket(&relay)).await;
    let mut incoming = slow.accept(StreamProtocol::new(PROTOCOL)).await.expect("accepts");
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            let mut pace = tokio::time::interval(Duration::from_millis(50));
            // The first byte of a list of a MiB, and so on: never silent, and never done.
            let list = message(1, &vec![b' '; 1 << 20]);
            for byte in &list {
                pace.tick().await;
                if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
        }
    });
    let id = Some(slow.peer_id());
    let options = ListOptions { timeout: Some(Duration::from_secs(1)) };
    let listed = tokio::time::timeout(Duration::from_secs(30), victim.list_files(id, options));
    let error = listed.await.expect("in time").expect_err("it has no end");
    assert_eq!(error.code(), "TIMEOUT", "{error}");
    assert!(error.to_string().contains("listing the files of"), "{error}");
    slow.close().await;
    victim.close().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_survives_bad_requests_and_broken_streams() {
    let (relay, _data) = relay().await;
    let server = peer(by_websocket(&relay)).await;
    let victim = peer(by_websocket(&relay)).await;
    let big = noise(8_000_000, 4);
    let cid = store(&server, "big", &big).await.file;
    let attacker = evil_network(by_websocket(&relay)).await;
    let open = || attacker.open_stream(server.peer_id(), StreamProtocol::new(PROTOCOL));
    let requests: [&[u8]; 7] = [
        &[7],
        &[2, 0xff, 0xff, 0xff, 0xff],
        &[2, 0, 0, 0, 2, b'{', b'}'],
        &[2, 0, 0, 0, 1, 0xff],
        &[1, 0, 0, 0, 0],
        &[2, 0, 0],
        &[],
    ];
    for request in requests {
        let mut stream = open().await.expect("a stream");
        let _ = stream.write_all(request).await;
        let _ = stream.close().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(&[3]), "{request:?} → {answer:?}");
    }
    // Ask for the file, take a little, go away; many at once.
    let request = message(2, format!(r#"{{"cid":"{cid}"}}"#).as_bytes());
    let rude = (0..40).map(|_| {
        let request = request.clone();
        async move {
            let Ok(mut stream) = open().await else { return };
            let _ = stream.write_all(&request).await;
            let _ = stream.read(&mut [0; 1000]).await;
        }
    });
    join_all(rude).await;
    assert_eq!(get(&victim, cid, Some(server.peer_id())).await.expect("served"), big);
    attacker.close().await;
    still_works(&victim, &server, 2).await;
    server.close().await;
    victim.close().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_dies_in_the_middle_costs_one_call_and_comes_back() {
    let (first, data) = relay().await;
    let address = by_websocket(&first);
    let server = peer(address.clone()).await;
    let client = peer(address.clone()).await;
    let big = noise(30_000_000, 6);
    let cid = store(&server, "big", &big).await.file;
    let started = tokio::sync::Notify::new();
    let progress = std::sync::Arc::new(Started(started));
    let options =
        tabpeer::peer::GetOptions { progress: Some(progress.clone()), ..Default::default() };
    let getting = client.get_file(cid, Some(server.peer_id()), options);
    let killing = async {
        progress.0.notified().await;
        first.stop().await;
    };
    let (outcome, ()) = tokio::join!(getting, killing);
    let error = outcome.expect_err("the circuit broke");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(client.store().check().await.expect("counted").is_clean());

    for peer in [&server, &client] {
        reserved(peer, false).await;
    }
    let second = support::relay_again(data.path(), &address).await;
    for peer in [&server, &client] {
        peer.network().nudge();
        reserved(peer, true).await;
    }
    assert_eq!(get(&client, cid, Some(server.peer_id())).await.expect("fetched after all"), big);
    server.close().await;
    client.close().await;
    second.stop().await;
}

/// Waits until `peer` has a reservation, or has noticed that it has none.
async fn reserved(peer: &Peer, wanted: bool) {
    let mut status = peer.network().status();
    let waiting = status.wait_for(|status| status.reserved().is_some() == wanted);
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("in time").expect("open");
}

struct Started(tokio::sync::Notify);

impl tabpeer::peer::ProgressSink for Started {
    fn report(&self, done: u64, _: Option<u64>) {
        if done > 0 {
            self.0.notify_one();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_names_an_honest_peer_is_not_told_anothers_lie() {
    let (relay, _data) = relay().await;
    let honest = peer(by_websocket(&relay)).await;
    let victim = peer(by_websocket(&relay)).await;
    let bytes = noise(2_000_000, 7);
    let cid = store(&honest, "true", &bytes).await.file;
    let (blocks, _) = import_bytes(Profile::default(), &bytes);
    let root = blocks.iter().find(|block| *block.cid() == cid).expect("the root");
    let (liar, id) = evil(by_websocket(&relay), file_message(root, &noise(2_000_000, 8))).await;
    let (lied_to, told) =
        tokio::join!(get(&victim, cid, Some(id)), get(&victim, cid, Some(honest.peer_id())));
    assert!(told.expect("the honest peer was asked") == bytes);
    // The other call has connected the honest peer meanwhile, in time or not for this one.
    match lied_to {
        Ok(found) => assert!(found == bytes),
        Err(error) => assert_eq!(error.code(), "WRONG_CONTENT"),
    }
    liar.close().await;
    honest.close().await;
    victim.close().await;
    relay.stop().await;
}
