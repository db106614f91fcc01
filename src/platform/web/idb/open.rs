//! Opening, migrating and deleting the IndexedDB database.

use std::{cell::RefCell, rc::Rc};

use futures::channel::oneshot;
use js_sys::{Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{IdbDatabase, IdbFactory, IdbOpenDbRequest, IdbTransaction, IdbVersionChangeEvent};

use super::{
    error, table_name,
    transaction::result,
    value::{KEY, SEGMENT},
};
use crate::platform::database::{DatabaseError, DatabaseResult, Table};

type Migration = fn(&IdbDatabase, &IdbTransaction) -> Result<(), JsValue>;

/// Step n takes a database of version n to version n + 1. Steps are added, never changed.
const MIGRATIONS: [Migration; 2] = [create_tables, index_segments];
/// The schema version that this build reads and writes.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

/// Opens `name` at [`VERSION`]. Goes on if the caller goes away, so that a connection which opens
/// late is closed again and never stands in another tab's way.
pub async fn open(name: String) -> DatabaseResult<IdbDatabase> {
    let factory = factory()?;
    let (reply, answer) = oneshot::channel();
    spawn_local(async move {
        let reply = Rc::new(RefCell::new(Some(reply)));
        let blocked = reply.clone();
        let opened = request(factory.open_with_u32(&name, VERSION), move || {
            let blocked_by = "another tab holds this database open in an older version".into();
            if let Some(reply) = blocked.take() {
                let _ = reply.send(Err(DatabaseError::Closed(blocked_by)));
            }
        })
        .await;
        let opened = match opened {
            Err(Refusal::Version) => Err(too_new(&factory, &name).await),
            Err(Refusal::Other(error)) => Err(error),
            Ok(database) => Ok(database),
        };
        let opened = match reply.take() {
            Some(reply) => reply.send(opened).err(),
            None => Some(opened),
        };
        if let Some(Ok(unwanted)) = opened {
            unwanted.close();
        }
    });
    answer.await.unwrap_or_else(|_| Err(DatabaseError::Closed("opening was given up".into())))
}

/// Deletes the database with all it holds; open connections of this library close themselves.
pub async fn delete(name: &str) -> DatabaseResult<()> {
    let request = factory()?.delete_database(name).map_err(|thrown| error::from_js(&thrown))?;
    finished(&request).await;
    result(&request).map(drop)
}

fn factory() -> DatabaseResult<IdbFactory> {
    let factory = Reflect::get(&js_sys::global(), &"indexedDB".into()).unwrap_or_default();
    let missing = |_| DatabaseError::Failed("IndexedDB is not available in this context".into());
    factory.dyn_into().map_err(missing)
}

enum Refusal {
    Version,
    Other(DatabaseError),
}

async fn request(
    opening: Result<IdbOpenDbRequest, JsValue>,
    on_blocked: impl Fn() + 'static,
) -> Result<IdbDatabase, Refusal> {
    let other = |thrown: JsValue| Refusal::Other(error::from_js(&thrown));
    let request = opening.map_err(other)?;
    let on_blocked = Closure::<dyn Fn()>::new(on_blocked);
    request.set_onblocked(Some(on_blocked.as_ref().unchecked_ref()));
    let migration = Rc::new(RefCell::new(Ok(())));
    let (report, upgraded) = (migration.clone(), request.clone());
    let on_upgrade = Closure::<dyn Fn(IdbVersionChangeEvent)>::new(move |event| {
        *report.borrow_mut() = migrate(&upgraded, &event);
    });
    request.set_onupgradeneeded(Some(on_upgrade.as_ref().unchecked_ref()));
    finished(&request).await;
    request.set_onblocked(None);
    request.set_onupgradeneeded(None);
    migration.replace(Ok(())).map_err(other)?;
    match request.error() {
        Ok(Some(exception)) if exception.name() == "VersionError" => Err(Refusal::Version),
        Ok(Some(exception)) => Err(Refusal::Other(error::from_exception(&exception))),
        Ok(None) => request.result().map(JsCast::unchecked_into).map_err(other),
        Err(thrown) => Err(other(thrown)),
    }
}

/// Waits for success or failure.
async fn finished(request: &IdbOpenDbRequest) {
    let finished = Promise::new(&mut |resolve, _| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&resolve));
    });
    let _ = JsFuture::from(finished).await;
}

/// Runs inside the version change transaction, which aborts as a whole if a step fails.
fn migrate(request: &IdbOpenDbRequest, event: &IdbVersionChangeEvent) -> Result<(), JsValue> {
    let database: IdbDatabase = request.result()?.unchecked_into();
    let Some(transaction) = request.transaction() else { return Ok(()) };
    let from = event.old_version() as usize;
    let result = MIGRATIONS.iter().skip(from).try_for_each(|step| step(&database, &transaction));
    if result.is_err() {
        let _ = transaction.abort();
    }
    result
}

fn create_tables(database: &IdbDatabase, _: &IdbTransaction) -> Result<(), JsValue> {
    Table::ALL
        .into_iter()
        .try_for_each(|table| database.create_object_store(table_name(table)).map(drop))
}

/// Large blocks are in segments from here on, and the rows that say where are found by their fields.
fn index_segments(_: &IdbDatabase, transaction: &IdbTransaction) -> Result<(), JsValue> {
    let blocks = transaction.object_store(table_name(Table::Blocks))?;
    [SEGMENT, KEY]
        .into_iter()
        .try_for_each(|field| blocks.create_index_with_str(field, field).map(drop))
}

/// Only opening it tells which version the database has.
async fn too_new(factory: &IdbFactory, name: &str) -> DatabaseError {
    match request(factory.open(name), || ()).await {
        Ok(database) => {
            let found = database.version() as u32;
            database.close();
            DatabaseError::TooNew { found, known: VERSION }
        }
        Err(Refusal::Other(error)) => error,
        Err(Refusal::Version) => DatabaseError::TooNew { found: VERSION + 1, known: VERSION },
    }
}
