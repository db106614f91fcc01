//! More blobs than a browser holds. In a page of its own: until they are collected, no other test gets any.
#![cfg(target_family = "wasm")]

use bytes::Bytes;
use tabpeer::platform::{
    database::{Database as _, Op, Table},
    web::idb::IdbDatabase,
};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// The bytes of blobs stay in the browser's memory until they are collected, and there is an end to it.
#[wasm_bindgen_test]
async fn more_than_the_browser_holds_as_blobs_is_stored_too() {
    const VALUES: u32 = 160;
    let name = format!("much {}", js_sys::Date::now());
    let database = IdbDatabase::open(&name).await.expect("the database opens");
    let key = |at: u32| Bytes::copy_from_slice(&at.to_be_bytes());
    let mut value = vec![7; 1 << 20];
    for at in 0..VALUES {
        value[..4].copy_from_slice(&at.to_be_bytes());
        let put = Op::PutNew { table: Table::Blocks, key: key(at), value: value.clone().into() };
        assert_eq!(database.write(vec![put]).await, Ok(vec![true]), "{at}");
    }
    for at in [0, VALUES / 2, VALUES - 1] {
        let read = database.get_many(Table::Blocks, vec![key(at)]).await.expect("read");
        value[..4].copy_from_slice(&at.to_be_bytes());
        assert!(read == [Some(value.clone().into())], "{at}");
    }
    IdbDatabase::delete(&name).await.expect("deleted");
}
