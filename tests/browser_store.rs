//! The store's conformance suite over IndexedDB in a real browser, and what only IndexedDB can do.
#![cfg(target_family = "wasm")]

mod browser;
mod store_conformance;

use std::time::Duration;

use browser::{Idb, script};
use bytes::Bytes;
use store_conformance::*;

use tabpeer::{
    content::block,
    platform::{
        Lock,
        database::{Database as _, DatabaseError, Op, Table},
        sha256,
        web::idb::{IdbDatabase, VERSION},
    },
};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// How long a lock that is held is asked for.
const WAIT: Duration = Duration::from_millis(50);
/// The browser takes note of a release in its own time.
const RELEASE_WAIT: Duration = Duration::from_secs(30);

macro_rules! cases {
    ($new:path, $($case:ident)*) => {$(
        #[wasm_bindgen_test]
        async fn $case() {
            let idb = $new(stringify!($case));
            store_conformance::$case(&idb).await;
            idb.delete().await;
        }
    )*};
}
macro_rules! run_in_idb {
    ($($case:ident)*) => {
        mod with_segments {
            use super::*;
            cases!(Idb::new, $($case)*);
        }
        mod without_segments {
            use super::*;
            cases!(Idb::without_segments, $($case)*);
        }
    };
}
for_each_case!(run_in_idb);

#[wasm_bindgen_test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let idb = Idb::new("newer");
    idb.run(&script(&format!(
        "const open = indexedDB.open(name, {});
        await new Promise((done, failed) => {{ open.onsuccess = done; open.onerror = failed; }});
        open.result.close();",
        VERSION + 6
    )))
    .await;
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
    let held = Lock::acquire(&name, WAIT).await.expect("available").expect("free");
    assert!(Lock::acquire(&name, WAIT).await.expect("available").is_none());
    assert!(Lock::acquire("another", WAIT).await.expect("available").is_some());
    drop(held);
    assert!(Lock::acquire(&name, RELEASE_WAIT).await.expect("available").is_some());
}
