//! The browser's storage manager: how much there is, and whether it will stay.

use js_sys::{Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::StorageManager;

use crate::platform::database::{DatabaseResult, Usage};

/// Asks the browser not to evict this origin's data, in the background: some browsers ask the user
/// and a refusal changes nothing here.
pub fn ask_for_persistence() {
    if let Some(manager) = manager() {
        spawn_local(async move {
            let persistent = settled(manager.persist()).await.is_some_and(|yes| yes.is_truthy());
            tracing::debug!(persistent, "asked the browser for persistent storage");
        });
    }
}

/// What the browser tells; zeros and `None` where it tells nothing.
pub async fn usage() -> DatabaseResult<Usage> {
    let Some(manager) = manager() else { return Ok(Usage::default()) };
    let (estimate, persisted) = (manager.estimate(), manager.persisted());
    let persistent = settled(persisted).await.is_some_and(|yes| yes.is_truthy());
    let estimate = settled(estimate).await.unwrap_or_default();
    let field = |name: &str| {
        let value = Reflect::get(&estimate, &name.into()).ok()?.as_f64()?;
        Some(value as u64)
    };
    Ok(Usage { used: field("usage").unwrap_or_default(), quota: field("quota"), persistent })
}

/// `navigator.storage`, in a page or a worker; absent in an insecure context.
pub fn manager() -> Option<StorageManager> {
    navigator_part("storage").map(JsCast::unchecked_into)
}

/// A part of `navigator` that this browser and context have.
pub fn navigator_part(name: &str) -> Option<JsValue> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
    Reflect::get(&navigator, &name.into()).ok().filter(JsValue::is_object)
}

async fn settled(promise: Result<Promise, JsValue>) -> Option<JsValue> {
    JsFuture::from(promise.ok()?).await.ok()
}
