//! A browser's page or worker.

mod hash;
mod http;
pub mod idb;
mod lock;
mod storage;
mod transport;
mod websocket;

use wasm_bindgen::{JsCast, JsValue};

use crate::platform::time::Duration;

pub use hash::sha256;
pub(super) use http::http_open;
pub use lock::Lock;
pub use transport::{base_transport, dialer, swarm_config};

/// The time since 1970.
pub fn unix_time() -> Duration {
    Duration::from_secs_f64((js_sys::Date::now() / 1000.0).max(0.0))
}

/// What a thrown value says.
fn describe(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => format!("{}: {}", String::from(error.name()), String::from(error.message())),
        None => format!("{error:?}"),
    }
}
