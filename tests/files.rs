//! The main job between native peers and a real relay: store, list, fetch through the circuit,
//! serve on, remove, reopen.
#![cfg(not(target_family = "wasm"))]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures::future::join_all;
use support::{by_websocket, get, noise, peer, peer_on, read, relay, source, store};
use tabpeer::{
    config::PeerConfig,
    content::profile::Profile,
    error::Error,
    exchange::webapp::EntryKind,
    peer::{Content, GetOptions, ListOptions, Peer, StoreOptions},
    platform::memory::MemoryDatabases,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_from_a_to_b_through_the_relay_and_from_b_to_c() {
    let (relay, _data) = relay().await;
    let a = peer(by_websocket(&relay)).await;
    let b = peer(by_websocket(&relay)).await;
    assert!(a.connected() && b.connected());

    let big = noise(5_000_001, 1);
    let mut stored = Vec::new();
    for profile in Profile::ALL {
        let path = format!("big/{profile}.bin");
        let options = StoreOptions { profile, ..StoreOptions::default() };
        stored.push(a.store_file(&path, source(&big), options).await.expect("stored").file);
    }
    for i in 0..20 {
        store(&a, &format!("notes/{i}.txt"), &noise(100 * i, 2)).await;
    }

    let list = b.list_files(Some(a.peer_id()), ListOptions::default()).await.expect("listed");
    assert_eq!(list.root, Some(a.root()));
    assert_eq!(list.entries.len(), 3 + 20 + 2);
    assert_eq!(list.entries["notes"].kind, EntryKind::Directory);
    assert_eq!(list.entries["notes/3.txt"].mime_type.as_deref(), Some("text/plain; charset=utf-8"));

    for cid in &stored {
        assert_eq!(get(&b, *cid, Some(a.peer_id())).await.expect("fetched"), big);
    }
    a.close().await;

    let c = peer(by_websocket(&relay)).await;
    for cid in &stored {
        assert_eq!(get(&c, *cid, Some(b.peer_id())).await.expect("served on"), big);
    }
    let entry = &list.entries["notes/7.txt"];
    let error =
        get(&c, entry.cid, Some(a.peer_id())).await.expect_err("a is gone and b never fetched it");
    assert_eq!(error.code(), "NOT_FOUND");
    for peer in [b, c] {
        peer.close().await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_got_by_cid_flat_and_sharded() {
    let (relay, _data) = relay().await;
    let a = peer(by_websocket(&relay)).await;
    let b = peer(by_websocket(&relay)).await;
    // Long names take the directory past 256 KiB of block bytes with few files.
    let names: Vec<String> = (0..1500).map(|i| format!("{i:0200}")).collect();
    let work = names.iter().map(|name| store_path(&a, format!("many/{name}")));
    join_all(work).await;
    store(&a, "few/one", &noise(10, 1)).await;
    let list = a.list_files(None, ListOptions::default()).await.expect("listed");
    for (path, count) in [("many", names.len()), ("few", 1)] {
        let cid = list.entries[path].cid;
        let Ok(Content::Directory(entries)) =
            b.get_file(cid, Some(a.peer_id()), GetOptions::default()).await
        else {
            panic!("{path} is a directory");
        };
        assert_eq!(entries.len(), count);
        for (name, cid) in entries {
            assert_eq!(list.entries[&format!("{path}/{name}")].cid, cid);
        }
    }
    a.close().await;
    b.close().await;
    relay.stop().await;
}

async fn store_path(peer: &Peer, path: String) {
    store(peer, &path, &Bytes::from(path.clone())).await;
}

#[tokio::test]
async fn a_peer_without_relays_works_offline_and_keeps_everything() {
    let databases = Arc::new(MemoryDatabases::default());
    let bytes = noise(3_000_000, 5);
    let (id, key, root, cid) = {
        let peer = peer_on(Vec::new(), databases.clone()).await;
        assert!(!peer.connected());
        let cid = store(&peer, "a/b/c.bin", &bytes).await.file;
        let out = (peer.peer_id(), peer.peer_key().expect("a key"), peer.root(), cid);
        peer.close().await;
        assert_eq!(peer.create_directory("late").await.expect_err("closed").code(), "CLOSED");
        peer.close().await;
        out
    };
    let again = peer_on(Vec::new(), databases.clone()).await;
    assert_eq!((again.peer_id(), again.root()), (id, root));
    assert_eq!(read(&again, cid).await.expect("kept"), bytes);
    again.close().await;

    // The same key given by hand finds the same files.
    let keypair = Some(tabpeer::config::parse_key(&key).expect("a key"));
    let given = Peer::open(PeerConfig { keypair, ..PeerConfig::default() }, databases)
        .await
        .expect("opens");
    assert_eq!(given.root(), root);
    given.close().await;
}

#[tokio::test]
async fn the_same_key_twice_is_refused_until_the_first_is_closed() {
    let databases = Arc::new(MemoryDatabases::default());
    let first = peer_on(Vec::new(), databases.clone()).await;
    let second = Peer::open(PeerConfig::default(), databases.clone()).await;
    assert!(matches!(second.err(), Some(Error::AlreadyOpen { peer }) if peer == first.peer_id()));
    store(&first, "still/works", &noise(10, 1)).await;
    first.close().await;
    peer_on(Vec::new(), databases).await.close().await;
}

#[tokio::test]
async fn removing_frees_what_nothing_else_refers_to() {
    let peer = peer(Vec::new()).await;
    let empty = peer.usage().await.expect("usage").used;
    let shared = noise(2_500_000, 1);
    store(&peer, "one/shared.bin", &shared).await;
    store(&peer, "two/shared.bin", &shared).await;
    store(&peer, "one/own.bin", &noise(1_500_000, 2)).await;
    let full = peer.usage().await.expect("usage").used;
    assert!(full < empty + 4_100_000, "shared blocks are stored once");

    peer.remove_file("one").await.expect("removed");
    assert_eq!(
        read(&peer, peer.list_files(None, ListOptions::default()).await.expect("list").entries["two/shared.bin"].cid)
            .await
            .expect("kept"),
        shared
    );
    let less = peer.usage().await.expect("usage").used;
    assert!(less + 1_400_000 < full, "own.bin is freed");

    peer.remove_file("two").await.expect("removed");
    assert_eq!(peer.usage().await.expect("usage").used, empty);
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

#[tokio::test]
async fn edits_that_come_together_all_arrive() {
    let peer = peer(Vec::new()).await;
    let work = (0..500).map(|i| {
        let peer = &peer;
        async move { store(peer, &format!("d{}/{i}", i % 7), &noise(i * 10, i as u64)).await }
    });
    let done = join_all(work).await;
    let list = peer.list_files(None, ListOptions::default()).await.expect("list");
    assert_eq!(list.entries.len(), 507);
    assert_eq!(list.root, Some(peer.root()));
    for (i, stored) in done.iter().enumerate() {
        assert_eq!(list.entries[&format!("d{}/{i}", i % 7)].cid, stored.file);
    }
    assert!(peer.store().check().await.expect("counted").is_clean());
    peer.close().await;
}

#[tokio::test]
async fn bad_calls_are_refused_with_their_code_and_change_nothing() {
    let peer = peer(Vec::new()).await;
    store(&peer, "dir/file", &noise(10, 1)).await;
    let root = peer.root();
    let bytes = noise(5, 1);
    let put = |path: &'static str| {
        let (peer, source) = (peer.clone(), source(&bytes));
        async move {
            peer.store_file(path, source, StoreOptions::default())
                .await
                .err()
                .map(|error| error.code())
        }
    };
    for bad in ["", "/", "a//b", "../a", "a/./b", "a/\0", "a/"] {
        assert_eq!(put(bad).await, Some("INVALID_PATH"), "{bad:?}");
    }
    assert_eq!(put("dir/file/below").await, Some("NOT_A_DIRECTORY"));
    assert_eq!(put("dir").await, Some("IS_A_DIRECTORY"));
    assert_eq!(
        peer.create_directory("dir/file").await.expect_err("a file").code(),
        "NOT_A_DIRECTORY"
    );
    assert_eq!(peer.remove_file("nothing").await.expect_err("nothing").code(), "NOT_FOUND");
    let cid = tabpeer::content::import::import_bytes(Profile::default(), b"absent").1.cid;
    assert_eq!(get(&peer, cid, None).await.expect_err("absent").code(), "NOT_FOUND");
    let failing: tabpeer::peer::ByteStream = Box::pin(futures::stream::iter([
        Ok(noise(3_000_000, 9)),
        Err(Error::BadArgument { what: "content", reason: "it broke".into() }),
    ]));
    let broken = peer.store_file("broken", failing, StoreOptions::default()).await;
    assert_eq!(broken.expect_err("broken").code(), "BAD_ARGUMENT");
    assert_eq!(peer.root(), root);
    assert!(peer.store().check().await.expect("counted").is_clean());
    store(&peer, "dir/other", &noise(10, 2)).await;
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_one_cid_share_a_flight_and_all_hear_of_it() {
    let (relay, _data) = relay().await;
    let a = peer(by_websocket(&relay)).await;
    let b = peer(by_websocket(&relay)).await;
    let bytes = noise(4_000_000, 3);
    let cid = store(&a, "f", &bytes).await.file;
    let heard = Arc::new(AtomicU64::new(0));
    let calls = (0..5).map(|_| {
        let (b, heard, from) = (b.clone(), heard.clone(), a.peer_id());
        async move {
            let progress = Arc::new(move |done: u64, total: Option<u64>| {
                assert!(total.is_none_or(|total| done <= total));
                heard.fetch_max(done, Ordering::Relaxed);
            });
            b.get_file(
                cid,
                Some(from),
                GetOptions { progress: Some(progress), ..GetOptions::default() },
            )
            .await
        }
    });
    for outcome in join_all(calls).await {
        assert!(matches!(outcome, Ok(Content::File(file)) if file.size == 4_000_000));
    }
    assert_eq!(heard.load(Ordering::Relaxed), 4_000_000);
    a.close().await;
    b.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_full_quota_refuses_files_and_still_lets_others_go() {
    let databases = Arc::new(MemoryDatabases::default());
    let peer = peer_on(Vec::new(), databases.clone()).await;
    let kept = noise(200_000, 1);
    let cid = store(&peer, "kept", &kept).await.file;
    store(&peer, "goes", &noise(200_000, 2)).await;
    let database = databases.get(&format!("tabpeer-{}", peer.peer_id()));
    database.set_quota(Some(peer.usage().await.expect("usage").used + 1000));

    let big = noise(300_000, 3);
    let (refused, removed, made) = tokio::join!(
        peer.store_file("new", source(&big), StoreOptions::default()),
        peer.remove_file("goes"),
        peer.create_directory("empty"),
    );
    assert_eq!(refused.expect_err("no room").code(), "QUOTA_EXCEEDED");
    removed.expect("what frees space is not held up by what needs it");
    made.expect("made");
    let list = peer.list_files(None, ListOptions::default()).await.expect("list");
    assert_eq!(list.entries.keys().collect::<Vec<_>>(), ["empty", "kept"]);
    assert_eq!(read(&peer, cid).await.expect("kept"), kept);
    assert!(peer.store().check().await.expect("counted").is_clean());
    database.set_quota(None);
    store(&peer, "new", &big).await;
    peer.close().await;
}

#[tokio::test]
async fn closing_ends_a_file_whose_source_has_stalled() {
    let peer = peer(Vec::new()).await;
    let stalled: tabpeer::peer::ByteStream = Box::pin(futures::stream::pending());
    let storing = peer.store_file("stalled", stalled, StoreOptions::default());
    let (outcome, ()) = tokio::join!(storing, peer.close());
    assert_eq!(outcome.expect_err("closed").code(), "CLOSED");
}
