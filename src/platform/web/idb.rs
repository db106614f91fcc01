//! IndexedDB as a [`Database`]: four object stores with binary keys, every write one transaction, the
//! reads of one turn of the event loop another. The bytes of large blocks lie in
//! [`segments`](super::segments) where the browser has them. Calls take effect in the order in which
//! they were made, whether or not their futures are polled.

mod connection;
mod error;
mod open;
mod order;
mod present;
mod read;
mod tidy;
mod transaction;
mod value;
mod write;

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use futures::channel::oneshot;
use js_sys::Uint8Array;
use wasm_bindgen::JsValue;

use self::connection::Connection;
use super::{segments, storage};
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
        Ok(Self { connection: Connection::new(database, segments::folder(name)) })
    }

    /// Whether large blocks go to segments; waits until that is known.
    pub async fn has_segments(&self) -> bool {
        self.connection.opening_segments().await;
        self.connection.segments().is_some()
    }

    /// Deletes the database `name` with everything in it.
    pub async fn delete(name: &str) -> DatabaseResult<()> {
        open::delete(name).await?;
        segments::remove_folder(&segments::folder(name)).await;
        Ok(())
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
        self.connection.uses(table);
        let waits = self.connection.order.writes_any(table, &keys);
        self.connection.in_order(waits, move |connection| read::values(connection, table, keys))
    }

    fn has_many(&self, table: Table, keys: Vec<Bytes>) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        self.connection.uses(table);
        let waits = self.connection.order.writes_any(table, &keys);
        self.connection.in_order(waits, move |connection| connection.has_each(table, &keys))
    }

    fn keys(
        &self,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> BoxFuture<DatabaseResult<Vec<Bytes>>> {
        let waits = self.connection.order.writes_to(table);
        self.connection.in_order(waits, move |connection| connection.keys(table, after, limit))
    }

    fn write(&self, batch: Batch) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        if batch.is_empty() {
            return Box::pin(async { Ok(Vec::new()) });
        }
        batch.iter().for_each(|op| self.connection.uses(op.table()));
        let (reply, answer) = oneshot::channel();
        match self.connection.refusal() {
            Some(closed) => drop(reply.send(Err(closed))),
            None => write::start(&self.connection, batch, reply),
        }
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(page_ended())) })
    }

    fn expect_use(&self, table: Table) {
        self.connection.uses(table);
        if table == Table::Blocks {
            present::learn(&self.connection);
        }
    }

    fn usage(&self) -> BoxFuture<DatabaseResult<Usage>> {
        Box::pin(storage::usage())
    }

    fn close(&self) -> BoxFuture<()> {
        self.connection.close()
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

fn page_ended() -> DatabaseError {
    DatabaseError::Closed("the page ended".into())
}
