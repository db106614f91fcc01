//! Opening, migrating and deleting the IndexedDB database. This is rare and small, so it goes
//! through the crate `idb`; the transactions next door do not.

use std::{cell::RefCell, rc::Rc};

use futures::{
    StreamExt,
    channel::{mpsc, oneshot},
};
use idb::{DatabaseEvent, Factory, ObjectStoreParams, Request, event::VersionChangeEvent};
use wasm_bindgen_futures::spawn_local;

use super::{error, table_name};
use crate::platform::database::{DatabaseError, DatabaseResult, Table};

type Migration = fn(&idb::Database) -> Result<(), idb::Error>;

/// Step n takes a database of version n to version n + 1. Steps are added, never changed.
const MIGRATIONS: [Migration; 1] = [create_tables];
/// The schema version that this build reads and writes.
pub const VERSION: u32 = MIGRATIONS.len() as u32;
/// An open request ends in at most these events: blocked, then success or error.
const MAX_OPEN_EVENTS: usize = 2;

enum Event {
    Blocked,
    Done,
}

/// Opens `name` at [`VERSION`]. Goes on if the caller goes away, so that a connection which opens
/// late is closed again and never stands in another tab's way.
pub async fn open(name: String) -> DatabaseResult<web_sys::IdbDatabase> {
    let factory = Factory::new().map_err(error::from_idb)?;
    let (reply, answer) = oneshot::channel();
    spawn_local(async move {
        let mut reply = Some(reply);
        let opened = request(&factory, &name, Some(VERSION), || {
            let blocked = "another tab holds this database open in an older version".into();
            if let Some(reply) = reply.take() {
                let _ = reply.send(Err(DatabaseError::Closed(blocked)));
            }
        })
        .await;
        let opened = match opened {
            Err(Refusal::Version) => Err(too_new(&factory, &name).await),
            Err(Refusal::Other(error)) => Err(error),
            Ok(database) => Ok(database),
        };
        let opened = match reply {
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
    let mut request = Factory::new().and_then(|f| f.delete(name)).map_err(error::from_idb)?;
    let (mut done, mut events) = mpsc::channel(MAX_OPEN_EVENTS);
    let mut failed = done.clone();
    request.on_success(move |_| drop(done.try_send(())));
    request.on_error(move |_| drop(failed.try_send(())));
    events.next().await;
    match request.error() {
        Ok(None) => Ok(()),
        Ok(Some(exception)) => Err(error::from_exception(&exception)),
        Err(error) => Err(error::from_idb(error)),
    }
}

enum Refusal {
    Version,
    Other(DatabaseError),
}

async fn request(
    factory: &Factory,
    name: &str,
    version: Option<u32>,
    mut blocked: impl FnMut(),
) -> Result<web_sys::IdbDatabase, Refusal> {
    let other = |error| Refusal::Other(error::from_idb(error));
    let mut request = factory.open(name, version).map_err(other)?;
    let (events, mut inbox) = mpsc::channel(MAX_OPEN_EVENTS);
    let sender = |event: fn() -> Event| {
        let mut events = events.clone();
        move || drop(events.try_send(event()))
    };
    let (success, failure) = (sender(|| Event::Done), sender(|| Event::Done));
    let (mut success, mut failure, mut on_blocked) = (success, failure, sender(|| Event::Blocked));
    request.on_success(move |_| success());
    request.on_error(move |_| failure());
    request.on_blocked(move |_| on_blocked());
    let migration_error = Rc::new(RefCell::new(None));
    let report = migration_error.clone();
    request.on_upgrade_needed(move |event| {
        if let Err(error) = migrate(&event) {
            *report.borrow_mut() = Some(error);
        }
    });
    while let Some(Event::Blocked) = inbox.next().await {
        blocked();
    }
    if let Some(error) = migration_error.take() {
        return Err(other(error));
    }
    match request.error() {
        Ok(Some(exception)) if exception.name() == "VersionError" => Err(Refusal::Version),
        Ok(Some(exception)) => Err(Refusal::Other(error::from_exception(&exception))),
        Ok(None) => request.database().map(Into::into).map_err(other),
        Err(error) => Err(other(error)),
    }
}

/// Runs inside the version change transaction, which aborts as a whole if a step fails.
fn migrate(event: &VersionChangeEvent) -> Result<(), idb::Error> {
    let database = event.database()?;
    let from = event.old_version()? as usize;
    let steps = MIGRATIONS.iter().skip(from);
    let result = steps.into_iter().try_for_each(|step| step(&database));
    if result.is_err()
        && let Ok(Some(transaction)) =
            idb::event::Event::target(event).map(|request| request.transaction())
    {
        let _ = transaction.abort();
    }
    result
}

fn create_tables(database: &idb::Database) -> Result<(), idb::Error> {
    Table::ALL.into_iter().try_for_each(|table| {
        database.create_object_store(table_name(table), ObjectStoreParams::new()).map(drop)
    })
}

/// Only opening it tells which version the database has.
async fn too_new(factory: &Factory, name: &str) -> DatabaseError {
    match request(factory, name, None, || ()).await {
        Ok(database) => {
            let found = database.version() as u32;
            database.close();
            DatabaseError::TooNew { found, known: VERSION }
        }
        Err(Refusal::Other(error)) => error,
        Err(Refusal::Version) => DatabaseError::TooNew { found: VERSION + 1, known: VERSION },
    }
}
