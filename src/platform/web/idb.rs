//! IndexedDB as a [`Database`]: four object stores with binary keys, every write one transaction, the
//! reads of one turn of the event loop another. Calls take effect in the order in which they were
//! made, whether or not their futures are polled.

mod error;
mod open;
mod transaction;
mod value;
mod write;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use futures::channel::oneshot;
use js_sys::{Array, Uint8Array};
use wasm_bindgen::{JsCast, prelude::*};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Event, IdbKeyRange, IdbRequest};

use self::{
    transaction::{Mode, Transaction, result},
    value::{Value, bytes},
    write::Write,
};
use super::storage;
use crate::platform::{
    BoxFuture,
    database::{Batch, Database, DatabaseError, DatabaseResult, Databases, Table, Usage},
};

pub use open::VERSION;

/// A connection to one database of this origin.
pub struct IdbDatabase {
    connection: Rc<Connection>,
}

impl IdbDatabase {
    /// Opens or creates the database `name` and asks the browser, once, to keep its data under
    /// storage pressure; a browser that will not is taken as it is.
    pub async fn open(name: &str) -> DatabaseResult<Self> {
        let database = open::open(name.to_owned()).await?;
        storage::ask_for_persistence();
        let connection = Connection::new(database);
        spawn_local(connection.clone().try_blobs());
        Ok(Self { connection })
    }

    /// Deletes the database `name` with everything in it.
    pub async fn delete(name: &str) -> DatabaseResult<()> {
        open::delete(name).await
    }
}

/// The databases of this origin.
#[derive(Debug)]
pub struct IdbDatabases;

impl Databases for IdbDatabases {
    fn open(&self, name: String) -> BoxFuture<DatabaseResult<Arc<dyn Database>>> {
        Box::pin(async move {
            let database: Arc<dyn Database> = Arc::new(IdbDatabase::open(&name).await?);
            Ok(database)
        })
    }
}

impl Database for IdbDatabase {
    fn get_many(
        &self,
        table: Table,
        keys: Vec<Bytes>,
    ) -> BoxFuture<DatabaseResult<Vec<Option<Bytes>>>> {
        let found = self.ask_each(table, keys, web_sys::IdbObjectStore::get, Value::found);
        Box::pin(async move {
            let mut values = Vec::new();
            for value in found.await? {
                values.push(match value {
                    Some(value) => Some(value.bytes().await?),
                    None => None,
                });
            }
            Ok(values)
        })
    }

    fn has_many(&self, table: Table, keys: Vec<Bytes>) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        self.ask_each(table, keys, web_sys::IdbObjectStore::get_key, |request| {
            Ok(result(request)?.is_some())
        })
    }

    fn keys(
        &self,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> BoxFuture<DatabaseResult<Vec<Bytes>>> {
        let connection = self.connection.clone();
        let started = self.connection.start([table], Mode::Read).and_then(|transaction| {
            let store = transaction.table(table)?;
            let range = match after {
                Some(after) => IdbKeyRange::lower_bound_with_open(&js_bytes(&after), true)
                    .map(JsValue::from)
                    .map_err(|thrown| error::from_js(&thrown))?,
                None => JsValue::UNDEFINED,
            };
            let request = store.get_all_keys_with_key_and_limit(&range, limit);
            Ok((transaction, request.map_err(|thrown| error::from_js(&thrown))?))
        });
        Box::pin(async move {
            let (mut transaction, request) = started?;
            transaction.answered(&request).await.map_err(|error| connection.explain(error))?;
            let keys = result(&request)?.unwrap_or_default();
            Array::from(&keys).iter().map(|key| bytes(&key)).collect()
        })
    }

    fn write(&self, batch: Batch) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        if batch.is_empty() {
            return Box::pin(async { Ok(Vec::new()) });
        }
        let connection = self.connection.clone();
        let begun = Write::begin(&connection, batch, connection.meets_existing.get());
        let (reply, answer) = oneshot::channel();
        // A task of its own: the microtask queue polls it, which `answered` needs, and a caller
        // that goes away in the middle does not leave the batch half issued.
        spawn_local(async move {
            let done = match begun {
                Ok(write) => write.finish().await,
                Err(error) => Err(error),
            };
            let done = done.map(|written| {
                if let Some(met) = written.met_existing {
                    connection.meets_existing.set(met);
                }
                written.new
            });
            let _ = reply.send(done.map_err(|error| connection.explain(error)));
        });
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(DatabaseError::Closed("the page ended".into())))
        })
    }

    fn usage(&self) -> BoxFuture<DatabaseResult<Usage>> {
        Box::pin(storage::usage())
    }

    fn close(&self) -> BoxFuture<()> {
        let connection = self.connection.clone();
        // Runs after every write that was started before it.
        let last = connection.start(Table::ALL, Mode::Write);
        connection.closed.borrow_mut().get_or_insert_with(|| "close() was called".into());
        Box::pin(async move {
            if let Ok(last) = last {
                let _ = last.complete().await;
            }
            connection.database.close();
        })
    }
}

impl IdbDatabase {
    /// One request a key in one transaction, all issued at once and awaited together.
    fn ask_each<T: 'static>(
        &self,
        table: Table,
        keys: Vec<Bytes>,
        ask: fn(&web_sys::IdbObjectStore, &JsValue) -> Result<IdbRequest, JsValue>,
        read: fn(&IdbRequest) -> DatabaseResult<T>,
    ) -> BoxFuture<DatabaseResult<Vec<T>>> {
        if keys.is_empty() {
            return Box::pin(async { Ok(Vec::new()) });
        }
        let connection = self.connection.clone();
        let started = self.connection.start_reading(table).and_then(|transaction| {
            let store = transaction.table(table)?;
            let requests = keys
                .iter()
                .map(|key| ask(&store, &js_bytes(key)).map_err(|thrown| error::from_js(&thrown)))
                .collect::<DatabaseResult<Vec<_>>>()?;
            Ok((transaction, requests))
        });
        Box::pin(async move {
            let (mut transaction, requests) = started?;
            if let Some(last) = requests.last() {
                let answered = transaction.answered(last).await;
                answered.map_err(|error| connection.explain(error))?;
            }
            requests.iter().map(read).collect()
        })
    }
}

type Listener = Closure<dyn FnMut(Event)>;

/// The connection and what became of it.
struct Connection {
    database: web_sys::IdbDatabase,
    /// Why there will be no more transactions.
    closed: RefCell<Option<String>>,
    /// The last batch of large values met keys that exist; the next one asks before it writes.
    meets_existing: Cell<bool>,
    /// The browser stores blobs.
    blobs: Cell<bool>,
    /// What this turn of the event loop reads from: a transaction costs more than a request.
    reading: RefCell<Vec<(Table, Transaction)>>,
    /// Kept as long as the browser may call them.
    listeners: RefCell<Vec<Listener>>,
}

impl Connection {
    fn new(database: web_sys::IdbDatabase) -> Rc<Self> {
        let connection = Rc::new(Self {
            database,
            closed: RefCell::default(),
            meets_existing: Cell::default(),
            blobs: Cell::default(),
            reading: RefCell::default(),
            listeners: RefCell::default(),
        });
        let listen = |reason: &'static str| {
            let connection = Rc::downgrade(&connection);
            Listener::new(move |_| {
                if let Some(connection) = connection.upgrade() {
                    connection.closed.borrow_mut().get_or_insert_with(|| reason.into());
                    connection.database.close();
                }
            })
        };
        // Whoever upgrades or deletes the database waits for this connection: do not hold it up.
        let versionchange = listen("another tab upgrades or deletes it");
        let close = listen("the browser closed it");
        connection.database.set_onversionchange(Some(versionchange.as_ref().unchecked_ref()));
        connection.database.set_onclose(Some(close.as_ref().unchecked_ref()));
        *connection.listeners.borrow_mut() = vec![versionchange, close];
        connection
    }

    /// Finds out whether the browser stores blobs (some do not in a private window), and leaves
    /// nothing behind.
    async fn try_blobs(self: Rc<Self>) {
        let Some(blob) = value::probe() else { return };
        let Ok(mut transaction) = self.start([Table::Refs], Mode::Write) else { return };
        let put = transaction.table(Table::Refs).map(|t| t.put_with_key(&blob, &js_bytes(b"?")));
        if let Ok(Ok(put)) = put {
            self.blobs.set(transaction.answered(&put).await.is_ok());
        }
        transaction.aborted().await;
    }

    fn start(
        &self,
        tables: impl IntoIterator<Item = Table>,
        mode: Mode,
    ) -> DatabaseResult<Transaction> {
        if mode == Mode::Write {
            // What is read from now on is to be seen as it is after this.
            self.reading.borrow_mut().clear();
        }
        match &*self.closed.borrow() {
            Some(reason) => Err(DatabaseError::Closed(reason.clone())),
            None => Transaction::start(&self.database, tables, mode),
        }
    }

    /// A transaction on `table`, shared with the other reads of this turn. It takes requests until the
    /// browser has run all microtasks; the one that forgets it runs before that.
    fn start_reading(self: &Rc<Self>, table: Table) -> DatabaseResult<Transaction> {
        let mut reading = self.reading.borrow_mut();
        if let Some((_, shared)) = reading.iter().find(|(of, _)| *of == table) {
            return Ok(shared.another());
        }
        let transaction = self.start([table], Mode::Read)?;
        if reading.is_empty() {
            let connection = self.clone();
            spawn_local(async move { connection.reading.borrow_mut().clear() });
        }
        reading.push((table, transaction.another()));
        Ok(transaction)
    }

    /// A transaction that broke because the connection was closed says so.
    fn explain(&self, error: DatabaseError) -> DatabaseError {
        match (&*self.closed.borrow(), error) {
            (Some(reason), DatabaseError::Failed(_)) => DatabaseError::Closed(reason.clone()),
            (_, error) => error,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.database.set_onversionchange(None);
        self.database.set_onclose(None);
        self.database.close();
    }
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Blocks => "blocks",
        Table::Refs => "refs",
        Table::Roots => "roots",
        Table::Meta => "meta",
    }
}

/// A key, as the browser takes it.
fn js_bytes(bytes: &[u8]) -> JsValue {
    Uint8Array::new_from_slice(bytes).into()
}
