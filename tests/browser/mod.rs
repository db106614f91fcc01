//! Databases for tests in a browser, and what only scripts can do to them.

#![allow(clippy::arc_with_non_send_sync, reason = "a browser has one thread")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::{cell::Cell, rc::Rc, sync::Arc};

use js_sys::{Function, Promise};
use tabpeer::platform::{
    database::{Database, Table},
    web::{idb::IdbDatabase, set_segments_worker},
};
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;

use super::Place;

/// A database of a name that nothing else in this origin has.
pub struct Idb {
    pub name: String,
    /// Whether a worker may be had.
    segments: bool,
    opened: Cell<bool>,
}

impl Idb {
    pub fn new(case: &str) -> Self {
        thread_local!(static NEXT: Cell<u32> = const { Cell::new(0) });
        let number = NEXT.replace(NEXT.get() + 1);
        let name = format!("{case} {} {number}", js_sys::Date::now());
        Self { name, segments: true, opened: Cell::default() }
    }

    /// As where workers or their files are missing.
    pub fn without_segments(case: &str) -> Self {
        Self { segments: false, ..Self::new(case) }
    }

    /// The same database, without segments.
    pub fn no_more_segments(&self) -> Self {
        Self { name: self.name.clone(), segments: false, opened: Cell::default() }
    }

    pub async fn open_database(&self) -> IdbDatabase {
        self.choose_worker();
        let database = IdbDatabase::open(&self.name).await.expect("the database opens");
        assert_eq!(database.has_segments().await, self.segments);
        database
    }

    /// The one of the package, from its source: these pages have no package.
    fn choose_worker(&self) {
        let start = function(
            "source",
            "const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
            return () => (globalThis.lastWorker = new Worker(url, { type: 'module' }));",
        );
        let source = include_str!("../../src/js/segments.js").into();
        let start = start.call1(&JsValue::NULL, &source).expect("a function").unchecked_into();
        set_segments_worker(self.segments.then_some(start));
    }

    pub async fn delete(self) {
        IdbDatabase::delete(&self.name).await.expect("deleted");
    }

    /// What the browser says the values in the table of blocks are, as their constructors.
    pub async fn kinds(&self) -> String {
        let kinds = script(
            "const open = indexedDB.open(name);
            await new Promise((done, failed) => { open.onsuccess = done; open.onerror = failed; });
            const all = open.result.transaction('blocks').objectStore('blocks').getAll();
            await new Promise((done, failed) => { all.onsuccess = done; all.onerror = failed; });
            open.result.close();
            return all.result.map((value) => value.constructor.name).join();",
        );
        self.run(&kinds).await.as_string().expect("names")
    }

    /// The segments with their sizes, as `number:bytes`, by number.
    pub async fn files(&self) -> String {
        let files = script(
            "const files = [];
            for await (const [name, handle] of (await folder()).entries()) {
                // One that goes away meanwhile is gone.
                const file = await handle.getFile().catch(() => undefined);
                if (file) files.push([Number(name), file.size]);
            }
            return files.sort(([one], [other]) => one - other).map((file) => file.join(':')).join();",
        );
        self.run(&files).await.as_string().expect("files")
    }

    /// Runs an async `body` with `name` and `folder()`, where the segments are.
    pub async fn run(&self, body: &Function) -> JsValue {
        let called = body.call1(&JsValue::NULL, &self.name.as_str().into()).expect("called");
        JsFuture::from(Promise::from(called)).await.expect("it ran")
    }
}

impl Place for Idb {
    /// The first to open it has the segments for itself; another may have to wait until that one is gone.
    async fn open(&self) -> Arc<dyn Database> {
        let database = if !self.segments || !self.opened.replace(true) {
            self.open_database().await
        } else {
            self.choose_worker();
            IdbDatabase::open(&self.name).await.expect("the database opens")
        };
        // As a peer does. What is not there is known a moment later.
        database.expect_use(Table::Blocks);
        Arc::new(database)
    }
}

/// For [`Idb::run`].
pub fn script(body: &str) -> Function {
    let body = format!(
        "const folder = async () => {{
            const all = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabpeer');
            return all.getDirectoryHandle(`db-${{encodeURIComponent(name)}}`);
        }};
        {body}"
    );
    let made = script_constructor().call2(&JsValue::NULL, &"name".into(), &body.into());
    made.expect("it parses").unchecked_into()
}

/// Counts the transactions that this page starts from now on.
pub fn count_transactions() -> Rc<Cell<u32>> {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let counter = Closure::<dyn FnMut()>::new(move || counted.set(counted.get() + 1));
    let install = function(
        "counter",
        "const { transaction } = IDBDatabase.prototype;
        IDBDatabase.prototype.transaction = function (...options) {
            counter();
            return transaction.apply(this, options);
        };",
    );
    install.call1(&JsValue::NULL, &counter.into_js_value()).expect("installed");
    count
}

/// A function of `argument`.
pub fn function(argument: &str, body: &str) -> Function {
    Function::new_with_args(argument, body)
}

fn script_constructor() -> Function {
    let constructor =
        Function::new_no_args("return Object.getPrototypeOf(async () => 0).constructor");
    constructor.call0(&JsValue::NULL).expect("there is one").unchecked_into()
}
