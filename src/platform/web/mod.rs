//! A browser's page or worker.

mod dial_only;
pub mod events;
mod hash;
mod http;
pub mod idb;
mod lock;
mod segments;
mod storage;
mod tabs;
mod transport;
mod websocket;
mod webtransport;

use js_sys::Reflect;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortController, Crypto};

use crate::platform::time::Duration;

pub use hash::sha256;
pub(super) use http::http_open;
pub use lock::Lock;
pub use segments::set_worker as set_segments_worker;
pub use tabs::Finder;
pub use transport::{base_transport, dialer, swarm_config};

/// The time since 1970.
pub fn unix_time() -> Duration {
    Duration::from_secs_f64((js_sys::Date::now() / 1000.0).max(0.0))
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    crypto()?.get_random_values_with_u8_array(&mut bytes).ok()?;
    Some(bytes)
}

/// WebCrypto, in a page or a worker.
fn crypto() -> Option<Crypto> {
    Reflect::get(&js_sys::global(), &"crypto".into()).ok()?.dyn_into().ok()
}

/// Ends what nobody waits for.
struct AbortOnDrop(AbortController);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a thrown value says.
fn describe(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => format!("{}: {}", String::from(error.name()), String::from(error.message())),
        None => format!("{error:?}"),
    }
}
