//! Large blocks in segments: how they lie there, how their space comes back, what happens when files are
//! gone, left over, or cannot be had.
#![cfg(target_family = "wasm")]
#![allow(clippy::arc_with_non_send_sync, reason = "a browser has one thread")]

mod browser;
#[allow(dead_code, reason = "the conformance suite uses the rest")]
#[path = "store_conformance/fixture.rs"]
mod fixture;

use std::sync::Arc;

use browser::{Idb, count_transactions, function, script};
use bytes::Bytes;
use fixture::*;
use tabpeer::{
    platform::{
        database::{Database as _, Op, Table},
        time::{Duration, sleep},
        web::idb::IdbDatabase,
    },
    store::{Store, StoreError},
};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

const TABLE: Table = Table::Blocks;
const KIB: usize = 1 << 10;
/// Of most values here.
const LEN: usize = 100 * KIB;

fn key(at: usize) -> Bytes {
    Bytes::copy_from_slice(&(at as u32).to_be_bytes())
}

fn value(at: usize) -> Bytes {
    (0..LEN).map(|byte| (byte * 7 + at * 13) as u8).collect()
}

fn put_new(at: usize) -> Op {
    Op::PutNew { table: TABLE, key: key(at), value: value(at) }
}

fn delete(at: usize) -> Op {
    Op::Delete { table: TABLE, key: key(at) }
}

async fn segment_store(idb: &Idb) -> Store {
    Store::open(Arc::new(idb.open_database().await)).await.expect("opens")
}

async fn write(database: &IdbDatabase, ops: impl IntoIterator<Item = Op>) -> Vec<bool> {
    database.write(ops.into_iter().collect()).await.expect("written")
}

async fn assert_holds(database: &IdbDatabase, all: impl IntoIterator<Item = usize>) {
    let all: Vec<usize> = all.into_iter().collect();
    let found = database.get_many(TABLE, all.iter().copied().map(key).collect()).await;
    let found = found.expect("read");
    for (at, found) in all.into_iter().zip(found) {
        assert!(found == Some(value(at)), "value {at}");
    }
}

/// Waits for what happens in the background; says whether it came to that.
async fn comes_true(mut done: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..500 {
        if done().await {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

/// Waits until the segments are `wanted`: space comes back in the background.
async fn until_files(idb: &Idb, wanted: &str) {
    comes_true(async || idb.files().await == wanted).await;
    assert_eq!(idb.files().await, wanted);
}

#[wasm_bindgen_test]
async fn large_blocks_are_in_segments_and_small_ones_in_rows() {
    for (len, segments, kind) in [
        ((64 * KIB) - 1, true, "Uint8Array"),
        (64 * KIB, true, "Object"),
        (4096 * KIB, true, "Object"),
        (4096 * KIB + 1, true, "Uint8Array"),
        (64 * KIB, false, "Uint8Array"),
    ] {
        let idb = if segments { Idb::new("kinds") } else { Idb::without_segments("kinds") };
        let database = idb.open_database().await;
        let value: Bytes = (0..len).map(|at| (at % 251) as u8).collect();
        let put = Op::PutNew { table: TABLE, key: key(0), value: value.clone() };
        assert_eq!(write(&database, [put]).await, [true]);
        let read = database.get_many(TABLE, vec![key(0)]).await.expect("read");
        assert!(read == [Some(value)], "{len} bytes: not what was written");
        assert_eq!(idb.kinds().await, kind, "{len} bytes");
        database.close().await;
        idb.delete().await;
    }
}

#[wasm_bindgen_test]
async fn what_is_known_not_to_be_there_is_not_asked_for() {
    let idb = Idb::new("known");
    let database = idb.open_database().await;
    assert_eq!(write(&database, [put_new(0)]).await, [true]);
    let transactions = count_transactions();
    let has = async |at: usize| {
        let before = transactions.get();
        let has = database.has_many(TABLE, vec![key(at)]).await.expect("asked");
        assert!(
            database.get_many(TABLE, vec![key(at)]).await.expect("read")[0].is_some() == has[0]
        );
        (has[0], transactions.get() - before)
    };
    assert_eq!(has(9).await, (false, 2), "nobody said that there is no other connection");
    database.expect_use(TABLE);
    assert!(comes_true(async || has(9).await == (false, 0)).await, "it is asked for ever");
    assert_eq!(has(0).await, (true, 2), "it was there before");
    let ops = [put_new(1), put_new(2)];
    assert_eq!(write(&database, ops).await, [true; 2]);
    assert_eq!(has(1).await, (true, 2));
    // What another connection has written meanwhile, which a peer's never meets, stays what it is.
    let other = idb.no_more_segments().open_database().await;
    assert_eq!(write(&other, [put_new(3)]).await, [true]);
    assert_eq!(write(&database, (2..5).map(put_new)).await, [false, false, true]);
    assert_holds(&database, 0..5).await;
    // What is deleted may come back.
    assert!(write(&database, [delete(4)]).await.is_empty());
    assert!(!has(4).await.0);
    assert_eq!(write(&database, [put_new(4)]).await, [true]);
    assert_holds(&database, 0..5).await;
    database.close().await;
    other.close().await;
    // The next visit reads which are there.
    let database = idb.open_database().await;
    database.expect_use(TABLE);
    let knows = async || {
        let has = database.has_many(TABLE, (0..10).map(key).collect()).await.expect("asked");
        assert_eq!(has, (0..10).map(|at| at < 5).collect::<Vec<_>>());
        let before = transactions.get();
        database.has_many(TABLE, (5..10).map(key).collect()).await.expect("asked");
        transactions.get() == before
    };
    assert!(comes_true(knows).await, "it is asked for ever");
    database.close().await;
    idb.delete().await;
}

#[wasm_bindgen_test]
async fn what_is_there_already_is_not_appended_again() {
    let idb = Idb::new("again");
    let database = idb.open_database().await;
    assert_eq!(write(&database, (0..4).map(put_new)).await, [true; 4]);
    let all = [false, false, true, false, false];
    assert_eq!(write(&database, [0, 1, 4, 2, 3].map(put_new)).await, all);
    assert_holds(&database, 0..5).await;
    database.close().await;
    assert_eq!(idb.files().await, format!("1:{}", 5 * LEN));
    // The next visit goes on in the same file.
    let database = idb.open_database().await;
    write(&database, [put_new(5)]).await;
    assert_holds(&database, 0..6).await;
    database.close().await;
    assert_eq!(idb.files().await, format!("1:{}", 6 * LEN));
    idb.delete().await;
}

#[wasm_bindgen_test]
async fn a_segment_without_values_is_deleted() {
    let idb = Idb::new("deleted");
    let database = idb.open_database().await;
    write(&database, (0..4).map(put_new)).await;
    write(&database, (0..4).map(delete)).await;
    until_files(&idb, "").await;
    // What comes next has a number of its own.
    write(&database, [put_new(1)]).await;
    assert_eq!(idb.files().await, format!("2:{LEN}"));
    assert_holds(&database, [1]).await;
    database.close().await;
    idb.delete().await;
}

#[wasm_bindgen_test]
async fn the_living_move_out_of_a_mostly_dead_segment() {
    let idb = Idb::new("mostly");
    let database = idb.open_database().await;
    write(&database, (0..10).map(put_new)).await;
    write(&database, (0..5).map(delete)).await;
    assert_eq!(idb.files().await, format!("1:{}", 10 * LEN), "half of it lives");
    // Read, written and deleted while they move.
    let deleted = database.write(vec![delete(5)]);
    let (found, added) =
        (database.get_many(TABLE, (6..10).map(key).collect()), database.write(vec![put_new(20)]));
    deleted.await.expect("deleted");
    assert!(
        found
            .await
            .expect("read")
            .iter()
            .eq(&(6..10).map(|at| Some(value(at))).collect::<Vec<_>>())
    );
    added.await.expect("added");
    for _ in 0..20 {
        assert_holds(&database, (6..10).chain([20])).await;
    }
    // The new value went to the first segment or the second, as it happened: it is in the second now.
    until_files(&idb, &format!("2:{}", 5 * LEN)).await;
    assert_holds(&database, (6..10).chain([20])).await;
    database.close().await;
    let database = idb.open_database().await;
    assert_holds(&database, (6..10).chain([20])).await;
    database.close().await;
    idb.delete().await;
}

/// Of a crash between a write to a file and the row that would name it, or before a file was removed.
#[wasm_bindgen_test]
async fn files_that_no_row_names_are_swept_when_the_database_is_opened() {
    let idb = Idb::new("sweep");
    let database = idb.open_database().await;
    write(&database, (0..2).map(put_new)).await;
    database.close().await;
    idb.run(&script(
        "for (const left of ['7', '9']) {
            const file = await (await (await folder()).getFileHandle(left, { create: true })).createWritable();
            await file.write(new Uint8Array(1000));
            await file.close();
        }",
    ))
    .await;
    let database = idb.open_database().await;
    until_files(&idb, &format!("1:{}", 2 * LEN)).await;
    write(&database, [put_new(2)]).await;
    assert_eq!(idb.files().await, format!("1:{},10:{LEN}", 2 * LEN));
    assert_holds(&database, 0..3).await;
    database.close().await;
    idb.delete().await;
}

#[wasm_bindgen_test]
async fn what_is_in_segments_is_read_and_deleted_where_there_are_none() {
    let idb = Idb::new("none");
    let database = idb.open_database().await;
    write(&database, (0..3).map(put_new)).await;
    database.close().await;
    let database = idb.no_more_segments().open_database().await;
    assert_holds(&database, 0..3).await;
    assert_eq!(write(&database, [put_new(0), put_new(3)]).await, [false, true]);
    write(&database, (0..3).map(delete)).await;
    assert_holds(&database, [3]).await;
    let gone = database.get_many(TABLE, vec![key(0)]).await;
    assert_eq!(gone, Ok(vec![None]));
    database.close().await;
    assert_eq!(idb.files().await, format!("1:{}", 3 * LEN), "nobody could remove it");
    let database = idb.open_database().await;
    until_files(&idb, "").await;
    assert_holds(&database, [3]).await;
    database.close().await;
    idb.delete().await;
}

/// A file that is lost may have been the newest: its number tells nothing of where values are appended.
#[wasm_bindgen_test]
async fn a_row_of_a_lost_newest_segment_endangers_no_other() {
    let idb = Idb::new("newest");
    let database = idb.open_database().await;
    write(&database, (0..4).map(put_new)).await;
    database.close().await;
    idb.run(&script(&format!(
        "const open = indexedDB.open(name);
        await new Promise((done, failed) => {{ open.onsuccess = done; open.onerror = failed; }});
        const key = new Uint8Array([0, 0, 0, 50]);
        const blocks = open.result.transaction('blocks', 'readwrite').objectStore('blocks');
        const put = blocks.put({{ key, segment: 9, offset: 0, length: {LEN} }}, key);
        await new Promise((done, failed) => {{ put.onsuccess = done; put.onerror = failed; }});
        open.result.close();
        for (const foreign of ['note', '0', '-1', '1.5']) await (await folder()).getFileHandle(foreign, {{ create: true }});"
    )))
    .await;
    let database = idb.open_database().await;
    let lost = database.get_many(TABLE, vec![key(50)]).await;
    assert_eq!(lost, Ok(vec![Some(Bytes::new())]), "a corrupt block");
    write(&database, [delete(50)]).await;
    write(&database, (0..3).map(delete)).await;
    for at in 3..20 {
        write(&database, [put_new(at)]).await;
        assert_holds(&database, 3..=at).await;
    }
    database.close().await;
    let database = idb.open_database().await;
    assert_holds(&database, 3..20).await;
    let files = idb.files().await;
    assert!(files.contains(",10:"), "no number is used twice: {files}");
    database.close().await;
    idb.delete().await;
}

/// As after a crash: nobody says again which segments have lost values.
#[wasm_bindgen_test]
async fn a_mostly_dead_segment_is_found_when_the_database_is_opened_again() {
    let idb = Idb::new("found");
    let database = idb.open_database().await;
    write(&database, (0..4).map(put_new)).await;
    database.close().await;
    let database = idb.no_more_segments().open_database().await;
    write(&database, (0..3).map(delete)).await;
    database.close().await;
    let database = idb.open_database().await;
    until_files(&idb, &format!("2:{LEN}")).await;
    assert_holds(&database, [3]).await;
    database.close().await;
    idb.delete().await;
}

/// The same database in two connections at once, which only happens while a page is loaded anew.
#[wasm_bindgen_test]
async fn a_second_connection_waits_for_the_segments_and_works_meanwhile() {
    let idb = Idb::new("second");
    let first = idb.open_database().await;
    write(&first, [put_new(0)]).await;
    let second = IdbDatabase::open(&idb.name).await.expect("opens");
    write(&second, [put_new(1)]).await;
    assert_holds(&second, 0..2).await;
    assert_holds(&first, 0..2).await;
    first.close().await;
    assert!(second.has_segments().await);
    write(&second, [put_new(2)]).await;
    assert_holds(&second, 0..3).await;
    assert_eq!(idb.files().await, format!("1:{}", 2 * LEN));
    second.close().await;
    idb.delete().await;
}

#[wasm_bindgen_test]
async fn more_than_one_segment_holds() {
    const BLOCK: usize = 2 << 20;
    let idb = Idb::new("many");
    let database = idb.open_database().await;
    let block = |at: usize| {
        let mut block = vec![at as u8; BLOCK];
        block[..8].copy_from_slice(&(at as u64).to_be_bytes());
        Bytes::from(block)
    };
    let batch = |from: usize| {
        let put = |at| Op::PutNew { table: TABLE, key: key(at), value: block(at) };
        (from..from + 4).map(put).collect()
    };
    // Several are under way at once; each is one append.
    let mut batches = (0..40).step_by(4).map(|from| database.write(batch(from)));
    while let (Some(one), other) = (batches.next(), batches.next()) {
        one.await.expect("written");
        if let Some(other) = other {
            other.await.expect("written");
        }
    }
    assert_eq!(idb.files().await, format!("1:{},2:{}", 64 << 20, 16 << 20));
    for at in [0, 31, 32, 39] {
        assert!(database.get_many(TABLE, vec![key(at)]).await == Ok(vec![Some(block(at))]), "{at}");
    }
    // The first segment is emptied, the second is not.
    write(&database, (0..32).map(delete)).await;
    until_files(&idb, &format!("2:{}", 16 << 20)).await;
    database.close().await;
    idb.delete().await;
}

/// As when a cleaner removes files, or the disk has lost them.
#[wasm_bindgen_test]
async fn a_lost_segment_is_corrupt_blocks_and_nothing_else_suffers() {
    let idb = Idb::new("lost");
    let store = segment_store(&idb).await;
    let (lost, small) = (leaf(1, LEN), leaf(3, 10));
    let root = node([&lost, &small]);
    set_root(&store, [&lost, &small, &root], "tree", &root).await.expect("commit");
    store.close().await;
    idb.run(&script("await (await folder()).removeEntry('1');")).await;
    let store = segment_store(&idb).await;
    let whole = leaf(2, LEN);
    set_root(&store, [&whole], "other", &whole).await.expect("commit");
    assert_eq!(idb.files().await, format!("2:{LEN}"), "no number is used twice");
    let cids = [&lost, &whole, &small, &root].map(|block| *block.cid());
    let corrupt = StoreError::Corrupt { cid: *lost.cid() };
    assert_eq!(store.get_many(&cids).await.map(drop), Err(corrupt));
    assert!(store.get(whole.cid()).await == Ok(Some(whole.clone())));
    assert_eq!(store.evict_corrupt(lost.cid()).await, Ok(true));
    let found = store.get_many(&cids).await.expect("read");
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true, true]);
    // Whoever has it brings it again.
    let mut session = session_with(&store, [&lost]).await;
    session.flush().await.expect("flush");
    session.discard().await;
    assert!(store.get(lost.cid()).await == Ok(Some(lost.clone())));
    assert_eq!(close_and_count(store, &idb).await, 4);
    idb.delete().await;
}

#[wasm_bindgen_test]
async fn a_worker_that_fails_leaves_a_database_that_works() {
    let idb = Idb::new("fails");
    let database = idb.open_database().await;
    write(&database, [put_new(0)]).await;
    let fail =
        function("", "lastWorker.terminate(); lastWorker.dispatchEvent(new Event('error'));");
    fail.call0(&JsValue::NULL).expect("failed");
    assert_eq!(write(&database, [put_new(0), put_new(1)]).await, [false, true]);
    assert_holds(&database, 0..2).await;
    assert_eq!(idb.kinds().await, "Object,Uint8Array");
    database.close().await;
    segment_store(&idb).await.close().await;
    idb.delete().await;
}
