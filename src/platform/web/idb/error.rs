//! From what IndexedDB throws to [`DatabaseError`]: names and messages are copied, no JS value goes on.

use wasm_bindgen::{JsCast, JsValue};
use web_sys::DomException;

use crate::platform::database::DatabaseError;

/// What `value`, thrown or given as the reason of an abort, means for the database.
pub fn from_js(value: &JsValue) -> DatabaseError {
    match value.dyn_ref::<DomException>() {
        Some(exception) => from_exception(exception),
        None => DatabaseError::Failed(format!("{value:?}")),
    }
}

pub fn from_exception(exception: &DomException) -> DatabaseError {
    let (name, message) = (exception.name(), exception.message());
    match name.as_str() {
        "QuotaExceededError" => DatabaseError::QuotaExceeded,
        "InvalidStateError" => DatabaseError::Closed(message),
        _ => DatabaseError::Failed(format!("{name}: {message}")),
    }
}
