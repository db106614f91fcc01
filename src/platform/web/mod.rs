//! A browser's page or worker.

mod http;
mod transport;
mod websocket;

use bytes::Bytes;
use wasm_bindgen::{JsCast, JsValue};

use crate::{
    content::block::{self, Digest},
    platform::time::Duration,
};

pub use http::http_get;
pub use transport::{base_transport, dialer, swarm_config};

pub async fn sha256(data: Bytes) -> Digest {
    block::sha256(&data)
}

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
