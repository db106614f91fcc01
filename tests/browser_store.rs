//! The store's conformance suite over IndexedDB in a real browser, and what only IndexedDB can do.
#![cfg(target_family = "wasm")]
#![allow(clippy::arc_with_non_send_sync, reason = "a browser has one thread")]

mod store_conformance;

use std::{cell::Cell, sync::Arc, time::Duration};

use bytes::Bytes;
use js_sys::{Function, Promise};
use store_conformance::*;

use tabpeer::{
    content::block,
    platform::{
        Lock,
        database::{Database, DatabaseError, Op, Table},
        sha256,
        web::idb::{IdbDatabase, VERSION},
    },
    store::{Store, StoreError},
};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// How long a lock that is held is asked for.
const WAIT: Duration = Duration::from_millis(50);
/// The browser takes note of a release in its own time.
const RELEASE_WAIT: Duration = Duration::from_secs(30);

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

/// The connection has found out what the browser takes.
async fn tried(database: &dyn Database) {
    // Behind the write with which it does.
    for _ in 0..2 {
        database.has_many(Table::Refs, vec!["k".into()]).await.expect("asked");
    }
}

/// What the browser says a value of `len` bytes is, stored by a connection of its own.
async fn kind_of_a_stored_value(case: &str, len: usize) -> String {
    let idb = Idb::new(case);
    let database = idb.open().await;
    tried(&*database).await;
    let value: Bytes = (0..len).map(|at| (at % 251) as u8).collect();
    let put = Op::PutNew { table: Table::Blocks, key: "k".into(), value: value.clone() };
    assert_eq!(database.write(vec![put]).await, Ok(vec![true]));
    let read = database.get_many(Table::Blocks, vec!["k".into()]).await.expect("read");
    assert!(read == [Some(value)], "{case}: not what was written");
    assert_eq!(database.keys(Table::Refs, None, 9).await, Ok(Vec::new()), "nothing left behind");
    let kind = run_js(
        "name",
        "return new Promise((resolve, reject) => {
            const open = indexedDB.open(name);
            open.onerror = () => reject(open.error);
            open.onsuccess = () => {
                const all = open.result.transaction('blocks').objectStore('blocks').getAll();
                all.onerror = () => reject(all.error);
                all.onsuccess = () => {
                    open.result.close();
                    resolve(all.result.map((value) => value.constructor.name).join());
                };
            };
        })",
    );
    let kind = kind.call1(&JsValue::NULL, &idb.name.as_str().into()).expect("called");
    let kind = JsFuture::from(Promise::from(kind)).await.expect("looked up");
    idb.delete().await;
    kind.as_string().expect("names")
}

fn run_js(argument: &str, body: &str) -> Function {
    Function::new_with_args(argument, body)
}

#[wasm_bindgen_test]
async fn large_blocks_are_stored_as_blobs() {
    assert_eq!(kind_of_a_stored_value("small", (64 << 10) - 1).await, "Uint8Array");
    assert_eq!(kind_of_a_stored_value("large", 64 << 10).await, "Blob");
}

#[wasm_bindgen_test]
async fn a_browser_that_refuses_blobs_gets_arrays() {
    let refuse = run_js(
        "",
        "const { put, add } = IDBObjectStore.prototype;
        const unlessBlob = (write) => function (value, key) {
            if (value instanceof Blob) throw new DOMException('no blobs here', 'DataCloneError');
            return write.call(this, value, key);
        };
        Object.assign(IDBObjectStore.prototype, { put: unlessBlob(put), add: unlessBlob(add) });
        return () => Object.assign(IDBObjectStore.prototype, { put, add });",
    );
    let allow = Function::from(refuse.call0(&JsValue::NULL).expect("patched"));
    let kind = kind_of_a_stored_value("refused", 1 << 20).await;
    allow.call0(&JsValue::NULL).expect("as before");
    assert_eq!(kind, "Uint8Array");
}

/// As when the browser has lost the file that holds it; `tests/e2e/lost-values.test.mjs` removes files.
#[wasm_bindgen_test]
async fn a_blob_that_cannot_be_read_is_a_corrupt_block_and_nothing_else_suffers() {
    let idb = Idb::new("lost");
    let database = idb.open().await;
    tried(&*database).await;
    let store = Store::open(database).await.expect("opens");
    let (lost, whole, small) = (leaf(1, 100_000), leaf(2, 200_000), leaf(3, 10));
    let root = node([&lost, &whole, &small]);
    let all = [&lost, &whole, &small, &root];
    set_root(&store, all, "tree", &root).await.expect("commit");
    for name in ["NotReadableError", "NotFoundError"] {
        let lose = run_js(
            "size, name",
            "const { arrayBuffer } = Blob.prototype;
            Blob.prototype.arrayBuffer = function () {
                return this.size === size ? Promise.reject(new DOMException('gone', name)) : arrayBuffer.call(this);
            };
            return () => { Blob.prototype.arrayBuffer = arrayBuffer; };",
        );
        let back = lose.call2(&JsValue::NULL, &100_000.into(), &name.into()).expect("patched");
        let corrupt = StoreError::Corrupt { cid: *lost.cid() };
        let cids = all.map(|block| *block.cid());
        assert_eq!(store.get_many(&cids).await, Err(corrupt));
        assert_eq!(store.get(whole.cid()).await, Ok(Some(whole.clone())), "{name}");
        assert_eq!(store.evict_corrupt(lost.cid()).await, Ok(true));
        let found = store.get_many(&cids).await.expect("read");
        assert_eq!(
            found.iter().map(Option::is_some).collect::<Vec<_>>(),
            [false, true, true, true]
        );
        Function::from(back).call0(&JsValue::NULL).expect("as before");
        // Whoever has it brings it again.
        let mut session = session_with(&store, [&lost]).await;
        session.flush().await.expect("flush");
        session.discard().await;
        assert_eq!(store.get(lost.cid()).await, Ok(Some(lost.clone())));
    }
    assert_eq!(close_and_count(store, &idb).await, 4);
    idb.delete().await;
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
    let held = Lock::acquire(&name, WAIT).await.expect("available").expect("free");
    assert!(Lock::acquire(&name, WAIT).await.expect("available").is_none());
    assert!(Lock::acquire("another", WAIT).await.expect("available").is_some());
    drop(held);
    assert!(Lock::acquire(&name, RELEASE_WAIT).await.expect("available").is_some());
}
