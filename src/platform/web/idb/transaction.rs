//! One IndexedDB transaction, straight on web-sys: crates make closures, channels and a future for each
//! request; here the requests of a transaction are issued together,
//! and only the last one and the transaction itself are listened to, which is enough because
//! requests of one transaction finish in order. The listeners are the `resolve` and `reject` of a
//! promise, so the garbage collector owns them and nothing has to outlive anything.

use js_sys::{Array, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue, prelude::*};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Event, IdbObjectStore, IdbRequest, IdbTransaction};

use super::{error, table_name};
use crate::platform::database::{DatabaseError, DatabaseResult, Table};

#[wasm_bindgen]
extern "C" {
    /// `IDBDatabase`, for the one call whose options web-sys still calls unstable.
    type Connection;
    #[wasm_bindgen(method, catch)]
    fn transaction(
        this: &Connection,
        stores: &Array,
        mode: &str,
        options: &Object,
    ) -> Result<IdbTransaction, JsValue>;
}

thread_local! {
    /// An `add` of a key that exists is an answer here, not a reason to abort the transaction.
    static TOLERATE_EXISTING: Closure<dyn Fn(Event)> = Closure::new(|event: Event| {
        let request = event.target().and_then(|target| target.dyn_into::<IdbRequest>().ok());
        if request.is_some_and(|request| existed(&request)) {
            event.prevent_default();
            event.stop_propagation();
        }
    });
    /// A value that cannot be read fails its own request, not the reads beside it.
    static TOLERATE_ALL: Closure<dyn Fn(Event)> = Closure::new(|event: Event| {
        event.prevent_default();
        event.stop_propagation();
    });
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Read,
    /// Given to the operating system before it is reported complete, as browsers do by default:
    /// survives the browser, not a power cut. Flushing to the disk cost a seventh of the time of
    /// storing a large file, and the log's order keeps the rows that are left after a power cut consistent.
    Write,
    /// On the disk before it is reported complete, as far as the browser can tell.
    WriteThrough,
}

pub struct Transaction {
    inner: IdbTransaction,
    /// Resolves when the transaction is complete, rejects when it is aborted.
    ended: Promise,
    end: JsFuture,
}

impl Transaction {
    /// Starts now, before the future of the caller is first polled: transactions run in the order
    /// in which they were started.
    pub fn start(
        database: &web_sys::IdbDatabase,
        tables: impl IntoIterator<Item = Table>,
        mode: Mode,
    ) -> DatabaseResult<Self> {
        let names: Array =
            tables.into_iter().map(|table| JsValue::from_str(table_name(table))).collect();
        let options = Object::new();
        let (mode, durability, on_error) = match mode {
            Mode::Read => ("readonly", "default", &TOLERATE_ALL),
            Mode::Write => ("readwrite", "relaxed", &TOLERATE_EXISTING),
            Mode::WriteThrough => ("readwrite", "strict", &TOLERATE_EXISTING),
        };
        Reflect::set(&options, &"durability".into(), &durability.into())
            .map_err(|thrown| error::from_js(&thrown))?;
        let inner = database
            .unchecked_ref::<Connection>()
            .transaction(&names, mode, &options)
            .map_err(|thrown| error::from_js(&thrown))?;
        let ended = Promise::new(&mut |resolve, reject| {
            inner.set_oncomplete(Some(&resolve));
            inner.set_onabort(Some(&reject));
        });
        on_error.with(|handler| {
            inner.set_onerror(Some(handler.as_ref().unchecked_ref()));
        });
        Ok(Self { inner, end: JsFuture::from(ended.clone()), ended })
    }

    /// The same transaction, for another caller.
    pub fn another(&self) -> Self {
        let (inner, ended) = (self.inner.clone(), self.ended.clone());
        Self { inner, end: JsFuture::from(ended.clone()), ended }
    }

    pub fn table(&self, table: Table) -> DatabaseResult<IdbObjectStore> {
        self.inner.object_store(table_name(table)).map_err(|thrown| error::from_js(&thrown))
    }

    /// Waits for `last`, the request issued last, and with it for all before it: each has its result or
    /// its error, though the browser may abort a transaction afterwards in which one has failed. It is
    /// still open to more requests when this returns, if the task that waits is polled by the
    /// microtask queue alone.
    pub async fn answered(&mut self, last: &IdbRequest) -> DatabaseResult<()> {
        let answer = Promise::new(&mut |resolve, _| {
            last.set_onsuccess(Some(&resolve));
            last.set_onerror(Some(&resolve));
        });
        let mut answer = JsFuture::from(answer);
        match futures::future::select(&mut answer, &mut self.end).await {
            futures::future::Either::Right((Err(_), _)) => Err(self.reason()),
            _ => Ok(()),
        }
    }

    /// Waits until the transaction is complete: its writes are durable as [`Mode`] says.
    pub async fn complete(self) -> DatabaseResult<()> {
        let Self { inner, end, .. } = self;
        end.await.map(drop).map_err(|_| abort_reason(&inner))
    }

    pub fn abort(&self) {
        let _ = self.inner.abort();
    }

    /// Aborts and waits until nothing of it is left.
    pub async fn aborted(self) {
        self.abort();
        let _ = self.end.await;
    }

    fn reason(&self) -> DatabaseError {
        abort_reason(&self.inner)
    }
}

/// Whether a finished `add` failed because its key was there.
pub fn existed(request: &IdbRequest) -> bool {
    matches!(request.error(), Ok(Some(exception)) if exception.name() == "ConstraintError")
}

/// The result of a finished request; `None` for undefined.
pub fn result(request: &IdbRequest) -> DatabaseResult<Option<JsValue>> {
    if let Ok(Some(exception)) = request.error() {
        return Err(error::from_exception(&exception));
    }
    let value = request.result().map_err(|thrown| error::from_js(&thrown))?;
    Ok((!value.is_undefined()).then_some(value))
}

fn abort_reason(transaction: &IdbTransaction) -> DatabaseError {
    match transaction.error() {
        Some(exception) => error::from_exception(&exception),
        None => DatabaseError::Failed("the browser aborted a transaction".into()),
    }
}
