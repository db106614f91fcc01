//! The store's conformance suite over IndexedDB in a real browser, what only IndexedDB can do, and
//! printed figures of its speed.
#![cfg(target_family = "wasm")]
#![allow(clippy::arc_with_non_send_sync, reason = "a browser has one thread")]

mod store_conformance;

use std::{cell::Cell, sync::Arc};

use bytes::Bytes;
use store_conformance::*;
use tabpeer::{
    content::block::{self, Block},
    platform::{
        Lock,
        database::{Database, DatabaseError, Op, Table},
        sha256,
        web::idb::{IdbDatabase, VERSION},
    },
};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// A database of a name that nothing else in this origin has.
struct Idb {
    name: String,
}

impl Idb {
    fn new(case: &str) -> Self {
        thread_local!(static NEXT: Cell<u32> = const { Cell::new(0) });
        let number = NEXT.replace(NEXT.get() + 1);
        Self { name: format!("{case} {} {number}", js_sys::Date::now()) }
    }

    async fn delete(self) {
        IdbDatabase::delete(&self.name).await.expect("deleted");
    }
}

impl Place for Idb {
    async fn open(&self) -> Arc<dyn Database> {
        Arc::new(IdbDatabase::open(&self.name).await.expect("the database opens"))
    }
}

macro_rules! run_in_idb {
    ($($case:ident)*) => {$(
        #[wasm_bindgen_test]
        async fn $case() {
            let idb = Idb::new(stringify!($case));
            store_conformance::$case(&idb).await;
            idb.delete().await;
        }
    )*};
}
for_each_case!(run_in_idb);

#[wasm_bindgen_test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let idb = Idb::new("newer");
    let factory = idb::Factory::new().expect("IndexedDB");
    let mut request = factory.open(&idb.name, Some(VERSION + 6)).expect("open");
    let (opened, done) = futures::channel::oneshot::channel();
    idb::Request::on_success(&mut request, |_| opened.send(()).unwrap_or_default());
    done.await.expect("opened");
    request.database().expect("database").close();
    let refused = IdbDatabase::open(&idb.name).await.map(drop);
    assert_eq!(refused, Err(DatabaseError::TooNew { found: VERSION + 6, known: VERSION }));
    idb.delete().await;
}

#[wasm_bindgen_test]
async fn a_connection_makes_way_for_an_upgrade_or_deletion() {
    let idb = Idb::new("way");
    let name = idb.name.clone();
    let database = idb.open().await;
    let put = || Op::Put { table: Table::Meta, key: "k".into(), value: "v".into() };
    database.write(vec![put()]).await.expect("written");
    idb.delete().await;
    let late = database.write(vec![put()]).await;
    assert!(
        matches!(&late, Err(DatabaseError::Closed(reason)) if reason.contains("another tab")),
        "{late:?}"
    );
    let database = IdbDatabase::open(&name).await.expect("a new one");
    let rows = database.get_many(Table::Meta, vec!["k".into()]).await;
    assert_eq!(rows, Ok(vec![None]), "deleted indeed");
    IdbDatabase::delete(&name).await.expect("deleted");
}

#[wasm_bindgen_test]
async fn usage_tells_a_quota() {
    let idb = Idb::new("usage");
    let usage = idb.open().await.usage().await.expect("usage");
    assert!(usage.quota.is_some_and(|quota| quota > 0), "{usage:?}");
    idb.delete().await;
}

#[wasm_bindgen_test]
async fn hashes_agree_above_and_below_webcrypto() {
    for len in [0, 1, (16 << 10) - 1, 16 << 10, 1 << 20] {
        let data: Bytes = (0..len).map(|at| at as u8).collect();
        assert_eq!(sha256(data.clone()).await, block::sha256(&data), "{len}");
    }
    let data = Bytes::from(vec![7; 1 << 20]);
    let many = futures::future::join_all((0..8).map(|_| sha256(data.clone()))).await;
    assert!(many.iter().all(|digest| *digest == block::sha256(&data)));
}

#[wasm_bindgen_test]
async fn a_lock_has_one_holder() {
    let name = Idb::new("lock").name;
    let held = Lock::try_acquire(&name).await.expect("available").expect("free");
    assert!(Lock::try_acquire(&name).await.expect("available").is_none());
    assert!(Lock::try_acquire("another").await.expect("available").is_some());
    drop(held);
    // The browser takes note of the release in its own time.
    while Lock::try_acquire(&name).await.expect("available").is_none() {}
}

const MIB: usize = 1 << 20;

#[wasm_bindgen_test]
async fn figures() {
    let make = |count: usize, len: usize| -> Vec<Block> {
        (0..count).map(|at| leaf(at as u64, len)).collect()
    };
    for (count, len, group) in [(100, MIB, 64), (400, MIB / 4, 64), (1000, 10 << 10, 1000)] {
        let blocks = make(count, len);
        let root = node(&blocks);
        for _ in 0..3 {
            let plain = plain_puts(&blocks, group).await;
            let idb = Idb::new("figures");
            let store = open_store(&idb).await;
            let begun = now();
            let mut session = store.session();
            for block in &blocks {
                session.put(block.clone()).await.expect("put");
            }
            session.put(root.clone()).await.expect("put");
            let changes = vec![change("tree", None, Some(&root))];
            store.commit(vec![session], changes).await.expect("commit");
            let stored = now() - begun;
            let begun = now();
            for group in blocks.chunks(16) {
                let cids: Vec<_> = group.iter().map(|block| *block.cid()).collect();
                let read = store.get_many(&cids).await.expect("read");
                assert!(read.iter().flatten().count() == group.len());
            }
            let read = now() - begun;
            let rate = |ms: f64| (count * len) as f64 / 1e3 / ms;
            console_log!(
                "{count} blocks of {len}: plain {:.0} MB/s, store {:.0} MB/s ({:.2} of plain, {:.0} blocks/s), read {:.0} MB/s",
                rate(plain),
                rate(stored),
                plain / stored,
                count as f64 * 1e3 / stored,
                rate(read)
            );
            store.close().await;
            idb.delete().await;
        }
    }
    let data = Bytes::from(vec![7; 100 * MIB]);
    let begun = now();
    futures::future::join_all((0..100).map(|at| sha256(data.slice(at * MIB..(at + 1) * MIB))))
        .await;
    console_log!("sha256 of 100 MiB: {:.0} MB/s", 100.0 * MIB as f64 / 1e3 / (now() - begun));
}

#[wasm_bindgen_test]
async fn figures_of_small_commits() {
    const COUNT: u64 = 100;
    let idb = Idb::new("commits");
    let store = open_store(&idb).await;
    let begun = now();
    let mut old: Option<Block> = None;
    for seed in 0..COUNT {
        let file = leaf(seed, 10 << 10);
        let root = node([&file]);
        let session = session_with(&store, [&file, &root]).await;
        let changes = vec![change("tree", old.as_ref(), Some(&root))];
        store.commit(vec![session], changes).await.expect("commit");
        old = Some(root);
    }
    console_log!("{:.0} commits/s of one small file", COUNT as f64 * 1e3 / (now() - begun));
    store.close().await;
    idb.delete().await;
}

/// The browser's own limit: what `add` with nothing else takes, in milliseconds. The bytes are in
/// JS already.
async fn plain_puts(blocks: &[Block], group: usize) -> f64 {
    use wasm_bindgen::{JsCast, JsValue};
    let idb = Idb::new("plain");
    drop(idb.open().await);
    let factory = idb::Factory::new().expect("IndexedDB");
    let mut request = factory.open(&idb.name, Some(VERSION)).expect("open");
    let (opened, done) = futures::channel::oneshot::channel();
    idb::Request::on_success(&mut request, |_| opened.send(()).unwrap_or_default());
    done.await.expect("opened");
    let database: web_sys::IdbDatabase = request.database().expect("database").into();
    let rows: Vec<(JsValue, JsValue)> = blocks
        .iter()
        .map(|block| {
            let bytes = |bytes: &[u8]| js_sys::Uint8Array::new_from_slice(bytes).into();
            (bytes(&key(block)), bytes(block.data()))
        })
        .collect();
    let begun = now();
    for group in rows.chunks(group) {
        let transaction = database
            .transaction_with_str_and_mode("blocks", web_sys::IdbTransactionMode::Readwrite)
            .expect("transaction");
        let table = transaction.object_store("blocks").expect("table");
        for (key, value) in group {
            table.put_with_key(value, key).expect("put");
        }
        let complete = js_sys::Promise::new(&mut |resolve, reject| {
            transaction.set_oncomplete(Some(resolve.unchecked_ref()));
            transaction.set_onabort(Some(reject.unchecked_ref()));
        });
        wasm_bindgen_futures::JsFuture::from(complete).await.expect("complete");
    }
    let took = now() - begun;
    database.close();
    idb.delete().await;
    took
}

fn now() -> f64 {
    let performance = js_sys::Reflect::get(&js_sys::global(), &"performance".into());
    let performance: web_sys::Performance =
        wasm_bindgen::JsCast::unchecked_into(performance.expect("performance"));
    performance.now()
}
