//! One connection to a database: the transactions it starts, in which order, and whether it has segments.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    channel::oneshot,
    future::{LocalBoxFuture, Shared},
};
use js_sys::Array;
use wasm_bindgen::{JsCast, prelude::*};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Event, IdbKeyRange, IdbObjectStore, IdbRequest};

use super::{
    error, js_bytes,
    order::Order,
    page_ended,
    present::Present,
    tidy::Ledger,
    transaction::{Mode, Transaction, result},
    value::bytes,
};
use crate::platform::{
    BoxFuture,
    database::{DatabaseError, DatabaseResult, Table},
    time::{Duration, timeout},
    web::segments::Segments,
};

/// How long the first large values wait for a worker that is starting. It takes about 50 ms, unless
/// another tab has the segments.
const SOON: Duration = Duration::from_secs(1);

type Listener = Closure<dyn FnMut(Event)>;

/// The connection and what became of it.
pub struct Connection {
    database: web_sys::IdbDatabase,
    /// Of the segments.
    pub folder: String,
    /// `None` until they are ready, for good where there are none, and when this is closed.
    segments: RefCell<Option<Rc<Segments>>>,
    /// Ends when it is known whether there are any.
    opening: RefCell<Option<Shared<LocalBoxFuture<'static, ()>>>>,
    /// The first large values wait for that a little while.
    patience: Cell<bool>,
    pub present: Present,
    pub ledger: Ledger,
    pub order: Order,
    /// Why nothing is asked any more.
    closed: RefCell<Option<String>>,
    /// What this turn of the event loop reads from: a transaction costs more than a request.
    reading: RefCell<Vec<(Table, Transaction)>>,
    /// Kept as long as the browser may call them.
    listeners: RefCell<Vec<Listener>>,
}

impl Connection {
    pub fn new(database: web_sys::IdbDatabase, folder: String) -> Rc<Self> {
        let connection = Rc::new(Self {
            database,
            folder,
            segments: RefCell::default(),
            opening: RefCell::default(),
            patience: Cell::new(true),
            present: Present::default(),
            ledger: Ledger::default(),
            order: Order::default(),
            closed: RefCell::default(),
            reading: RefCell::default(),
            listeners: RefCell::default(),
        });
        let listen = |reason: &'static str| {
            let connection = Rc::downgrade(&connection);
            Listener::new(move |_| {
                if let Some(connection) = connection.upgrade() {
                    connection.closed.borrow_mut().get_or_insert_with(|| reason.into());
                    connection.database.close();
                    connection.segments.take();
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

    pub fn segments(&self) -> Option<Rc<Segments>> {
        self.segments.borrow().clone()
    }

    /// Whether there are segments, or it is not known yet and worth waiting for.
    pub fn may_have_segments(&self) -> bool {
        self.segments().is_some()
            || self.patience.get()
                && self.opening.borrow().as_ref().is_some_and(|opening| opening.peek().is_none())
    }

    /// The segments, if there are any [`SOON`].
    pub async fn soon_segments(self: &Rc<Self>) -> Option<Rc<Segments>> {
        if self.segments().is_none() && self.patience.get() {
            let known = timeout(SOON, self.opening_segments()).await.is_ok();
            self.patience.set(known);
        }
        self.segments()
    }

    /// A worker is started by whoever first has to do with blocks; some only look for an identity.
    pub fn uses(self: &Rc<Self>, table: Table) {
        if table == Table::Blocks && self.opening.borrow().is_none() && self.refusal().is_none() {
            drop(self.opening_segments());
        }
    }

    pub fn opening_segments(self: &Rc<Self>) -> Shared<LocalBoxFuture<'static, ()>> {
        let mut opening = self.opening.borrow_mut();
        let open = || {
            let opening = open_segments(Rc::downgrade(self)).boxed_local().shared();
            spawn_local(opening.clone());
            opening
        };
        opening.get_or_insert_with(open).clone()
    }

    /// Why a call cannot be taken.
    pub fn refusal(&self) -> Option<DatabaseError> {
        self.closed.borrow().clone().map(DatabaseError::Closed)
    }

    /// Runs `start`, which starts its transaction before it returns: now, or after what waits.
    pub fn in_order<T: 'static>(
        self: &Rc<Self>,
        waits: bool,
        start: impl FnOnce(&Rc<Self>) -> BoxFuture<DatabaseResult<T>> + 'static,
    ) -> BoxFuture<DatabaseResult<T>> {
        if let Some(closed) = self.refusal() {
            return Box::pin(async { Err(closed) });
        }
        if !waits {
            return start(self);
        }
        let (reply, started) = oneshot::channel();
        let connection = self.clone();
        let turn = self.order.hold(&[]);
        self.order.release(turn, move || drop(reply.send(start(&connection))));
        Box::pin(async move {
            match started.await {
                Ok(started) => started.await,
                Err(_) => Err(page_ended()),
            }
        })
    }

    pub fn has_each(
        self: &Rc<Self>,
        table: Table,
        keys: &[Bytes],
    ) -> BoxFuture<DatabaseResult<Vec<bool>>> {
        let answered = self.ask_each(table, keys, IdbObjectStore::get_key);
        Box::pin(async move {
            let has = |request: &Option<_>| match request {
                Some(request) => Ok(result(request)?.is_some()),
                None => Ok(false),
            };
            answered.await?.iter().map(has).collect()
        })
    }

    /// One request a key in one transaction, all issued at once and awaited together; none for a block that
    /// certainly is not there.
    pub fn ask_each(
        self: &Rc<Self>,
        table: Table,
        keys: &[Bytes],
        ask: fn(&IdbObjectStore, &JsValue) -> Result<IdbRequest, JsValue>,
    ) -> BoxFuture<DatabaseResult<Vec<Option<IdbRequest>>>> {
        let may_be_there = |key: &Bytes| table != Table::Blocks || self.present.may_have(key);
        let asked: Vec<bool> = keys.iter().map(may_be_there).collect();
        if !asked.contains(&true) {
            return Box::pin(async move { Ok(vec![None; asked.len()]) });
        }
        let connection = self.clone();
        let started = self.start_reading(table).and_then(|transaction| {
            let store = transaction.table(table)?;
            let request = |(key, asked): (&Bytes, bool)| {
                let request = asked.then(|| ask(&store, &js_bytes(key))).transpose();
                request.map_err(|thrown| error::from_js(&thrown))
            };
            let requests =
                keys.iter().zip(asked).map(request).collect::<DatabaseResult<Vec<_>>>()?;
            Ok((transaction, requests))
        });
        Box::pin(async move {
            let (mut transaction, requests) = started?;
            if let Some(last) = requests.iter().flatten().next_back() {
                let answered = transaction.answered(last).await;
                answered.map_err(|error| connection.explain(error))?;
            }
            Ok(requests)
        })
    }

    /// Up to `limit` keys after `after`.
    pub fn keys(
        self: &Rc<Self>,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> BoxFuture<DatabaseResult<Vec<Bytes>>> {
        let connection = self.clone();
        let asked = self.ask_keys(table, after, limit);
        Box::pin(async move {
            let (mut transaction, request) = asked?;
            transaction.answered(&request).await.map_err(|error| connection.explain(error))?;
            let keys = result(&request)?.unwrap_or_default();
            Array::from(&keys).iter().map(|key| bytes(&key)).collect()
        })
    }

    fn ask_keys(
        &self,
        table: Table,
        after: Option<Bytes>,
        limit: u32,
    ) -> DatabaseResult<(Transaction, IdbRequest)> {
        let transaction = self.start([table], Mode::Read)?;
        let store = transaction.table(table)?;
        let range = match after {
            Some(after) => IdbKeyRange::lower_bound_with_open(&js_bytes(&after), true)
                .map(JsValue::from)
                .map_err(|thrown| error::from_js(&thrown))?,
            None => JsValue::UNDEFINED,
        };
        let request = store.get_all_keys_with_key_and_limit(&range, limit);
        Ok((transaction, request.map_err(|thrown| error::from_js(&thrown))?))
    }

    pub fn start(
        &self,
        tables: impl IntoIterator<Item = Table>,
        mode: Mode,
    ) -> DatabaseResult<Transaction> {
        if mode != Mode::Read {
            // What is read from now on is to be seen as it is after this.
            self.reading.borrow_mut().clear();
        }
        Transaction::start(&self.database, tables, mode).map_err(|error| self.explain(error))
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

    /// Nothing can be asked any more. Ends when what was asked before is done.
    pub fn close(self: &Rc<Self>) -> BoxFuture<()> {
        let (reply, last) = oneshot::channel();
        let connection = self.clone();
        // Runs after every write that was started before it.
        let start = move || drop(reply.send(connection.start(Table::ALL, Mode::Write)));
        let turn = self.order.hold(&[]);
        self.order.release(turn, start);
        self.closed.borrow_mut().get_or_insert_with(|| "close() was called".into());
        let connection = self.clone();
        Box::pin(async move {
            if let Ok(Ok(last)) = last.await {
                let _ = last.complete().await;
            }
            connection.database.close();
            let segments = connection.segments.take();
            if let Some(segments) = segments {
                segments.close().await;
            }
        })
    }

    /// A transaction that broke because the connection was closed says so.
    pub fn explain(&self, error: DatabaseError) -> DatabaseError {
        match (&*self.closed.borrow(), error) {
            (Some(reason), DatabaseError::Failed(_) | DatabaseError::Closed(_)) => {
                DatabaseError::Closed(reason.clone())
            }
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

/// Where it fails, and while it takes long, large values go into the database. It may wait as long as
/// another tab has the segments.
async fn open_segments(connection: Weak<Connection>) {
    let Some(folder) = connection.upgrade().map(|connection| connection.folder.clone()) else {
        return;
    };
    let locked = Segments::lock(&folder).await;
    let Some(connection) = connection.upgrade().filter(|it| it.refusal().is_none()) else { return };
    let opened = async {
        let segments = locked?;
        let there = segments.open(connection.highest_named().await?).await?;
        Ok::<_, DatabaseError>((segments, there))
    };
    match opened.await {
        // It may have been closed meanwhile.
        Ok((segments, there)) if connection.refusal().is_none() => {
            *connection.segments.borrow_mut() = Some(Rc::new(segments));
            if let Err(error) = connection.sweep(there).await {
                tracing::warn!(%error, "segments were not looked through");
            }
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "no segments here"),
    }
}
