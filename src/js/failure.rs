//! Failures going out: a real `Error` named `PeerError` with a code, or the abort's own reason.

use std::future::Future;

use futures::future::{Either, LocalBoxFuture, select};
use js_sys::{Error as JsError, Promise, Reflect};
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::AbortSignal;

use crate::error::Error;

/// Runs `work` as a Promise. An abort drops it, which cancels it, and rejects with the signal's reason.
pub(super) fn promise(
    signal: Option<AbortSignal>,
    work: impl Future<Output = Result<JsValue, JsValue>> + 'static,
) -> Promise {
    run(signal, Box::pin(work))
}

/// One copy of this in the package is enough.
fn run(
    signal: Option<AbortSignal>,
    work: LocalBoxFuture<'static, Result<JsValue, JsValue>>,
) -> Promise {
    future_to_promise(async move {
        let Some(signal) = signal else { return work.await };
        if signal.aborted() {
            return Err(signal.reason());
        }
        let aborted = aborted(&signal);
        match select(work, Box::pin(aborted)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(signal.reason()),
        }
    })
}

/// The JS form of an error.
pub(super) fn failure(error: &Error) -> JsValue {
    let out = JsError::new(&error.to_string());
    out.set_name("PeerError");
    // Setting a property of a fresh Error cannot fail.
    let _ = Reflect::set(&out, &"code".into(), &error.code().into());
    out.into()
}

/// What JS threw, as a sentence.
pub(super) fn thrown(value: &JsValue) -> String {
    match value.dyn_ref::<JsError>() {
        Some(error) => format!("{}: {}", error.name(), error.message()),
        None => value.as_string().unwrap_or_else(|| format!("{value:?}")),
    }
}

async fn aborted(signal: &AbortSignal) {
    let mut listener = None;
    let event = Promise::new(&mut |resolve, _| {
        let closure = Closure::once(move || drop(resolve.call0(&JsValue::NULL)));
        let _ = signal.add_event_listener_with_callback("abort", closure.as_ref().unchecked_ref());
        listener = Some(closure);
    });
    let _guard = Listening { signal, closure: listener };
    let _ = JsFuture::from(event).await;
}

/// Takes the listener away again when the work is over, however it ended.
struct Listening<'a> {
    signal: &'a AbortSignal,
    closure: Option<Closure<dyn FnMut()>>,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if let Some(closure) = &self.closure {
            let _ = self
                .signal
                .remove_event_listener_with_callback("abort", closure.as_ref().unchecked_ref());
        }
    }
}
