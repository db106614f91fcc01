//! Exclusive locks across the tabs and workers of an origin, by Web Locks.

use futures::{
    channel::oneshot,
    future::{self, Either},
};
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, prelude::*};
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortSignal;

use super::storage::navigator_part;
use crate::platform::{LockError, time::Duration};

#[wasm_bindgen]
extern "C" {
    /// web-sys has it among the unstable APIs only.
    type LockManager;
    #[wasm_bindgen(method, catch)]
    fn request(
        this: &LockManager,
        name: &str,
        options: &Object,
        granted: &Function,
    ) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn query(this: &LockManager) -> Result<Promise, JsValue>;
}

/// Held until dropped; the browser releases it when the page goes away.
#[derive(Debug)]
pub struct Lock {
    release: Function,
}

impl Lock {
    /// The lock `name`, or `None` if a tab, a worker or this page still holds it after `wait`.
    pub async fn acquire(name: &str, wait: Duration) -> Result<Option<Self>, LockError> {
        let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        request(name, "exclusive", &AbortSignal::timeout_with_u32(wait)).await
    }
}

/// Resolves with true when nobody holds the lock `name` any more, with false when `signal` ends the wait.
/// Any number may wait for the same; none of them holds it afterwards.
pub(super) async fn vacant(name: &str, signal: &AbortSignal) -> Result<bool, LockError> {
    Ok(request(name, "shared", signal).await?.is_some())
}

/// The names of the locks that are held in this origin, `limit` at most.
pub(super) async fn held(limit: u32) -> Option<Vec<String>> {
    let answer = JsFuture::from(manager()?.query().ok()?).await.ok()?;
    let held: Array = Reflect::get(&answer, &"held".into()).ok()?.dyn_into().ok()?;
    let locks = (0..held.length().min(limit)).map(|at| held.get(at));
    Some(locks.filter_map(|lock| Reflect::get(&lock, &"name".into()).ok()?.as_string()).collect())
}

fn manager() -> Option<LockManager> {
    navigator_part("locks").map(JsCast::unchecked_into)
}

async fn request(name: &str, mode: &str, signal: &AbortSignal) -> Result<Option<Lock>, LockError> {
    let failed = |reason: String| LockError { name: name.to_owned(), reason };
    let manager =
        manager().ok_or_else(|| failed("Web Locks are not available in this context".into()))?;
    let options = Object::new();
    let thrown = |value: JsValue| failed(describe(&value));
    Reflect::set(&options, &"signal".into(), signal).map_err(thrown)?;
    Reflect::set(&options, &"mode".into(), &mode.into()).map_err(thrown)?;
    let (reply, answer) = oneshot::channel();
    let granted = Closure::once(move |lock: JsValue| {
        let mut release = None;
        // The browser holds the lock until this promise is resolved.
        let held = Promise::new(&mut |resolve, _| release = Some(resolve));
        let lock = release.filter(|_| !lock.is_null()).map(|release| Lock { release });
        match lock {
            Some(lock) => {
                // If nobody waits any more, the lock comes back, is dropped and thus released.
                let _ = reply.send(Some(lock));
                held
            }
            None => {
                let _ = reply.send(None);
                Promise::resolve(&JsValue::UNDEFINED)
            }
        }
    });
    let callback: &Function = granted.as_ref().unchecked_ref();
    let request = manager.request(name, &options, callback).map_err(thrown)?;
    match future::select(answer, JsFuture::from(request)).await {
        Either::Left((Ok(lock), _)) => Ok(lock),
        Either::Right((Err(_), _)) if signal.aborted() => Ok(None),
        Either::Right((Err(value), _)) => Err(thrown(value)),
        // A request that is over without a refusal was answered before.
        Either::Right((Ok(_), mut answer)) => Ok(answer.try_recv().ok().flatten().flatten()),
        Either::Left((Err(_), _)) => Err(failed("the page ended".into())),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.release.call0(&JsValue::UNDEFINED);
    }
}

fn describe(value: &JsValue) -> String {
    match value.dyn_ref::<web_sys::DomException>() {
        Some(exception) => format!("{}: {}", exception.name(), exception.message()),
        None => format!("{value:?}"),
    }
}
