//! HTTP GET by the browser's `fetch`, in a page or a worker.

use bytes::{Bytes, BytesMut};
use js_sys::{Reflect, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, ReadableStreamDefaultReader, RequestCache, RequestCredentials, RequestInit,
    Response,
};

use super::describe;
use crate::platform::{
    http::HttpError,
    time::{self, Duration},
};

#[wasm_bindgen]
extern "C" {
    /// The global function: `window.fetch` does not exist in a worker.
    #[wasm_bindgen(catch, js_name = fetch)]
    fn global_fetch(url: &str, init: &RequestInit) -> Result<js_sys::Promise, JsValue>;
}

/// Fetches `url`, at most `limit` bytes of it, within `timeout`.
pub async fn http_get(url: String, limit: usize, timeout: Duration) -> Result<Bytes, HttpError> {
    let request = SendWrapper::new(get(url, limit));
    match time::timeout(timeout, request).await {
        Ok(result) => result,
        Err(_) => Err(HttpError::Failed(format!("no answer within {timeout:?}"))),
    }
}

async fn get(url: String, limit: usize) -> Result<Bytes, HttpError> {
    let abort = AbortOnDrop(AbortController::new().map_err(failed)?);
    let init = RequestInit::new();
    init.set_signal(Some(&abort.0.signal()));
    init.set_cache(RequestCache::NoStore);
    init.set_credentials(RequestCredentials::Omit);
    let promise = global_fetch(&url, &init).map_err(failed)?;
    let response: Response = JsFuture::from(promise)
        .await
        .map_err(failed)?
        .dyn_into()
        .map_err(|_| HttpError::Failed("fetch gave no response".to_owned()))?;
    if !response.ok() {
        return Err(HttpError::Status(response.status()));
    }
    let Some(body) = response.body() else { return Ok(Bytes::new()) };
    let reader: ReadableStreamDefaultReader = body
        .get_reader()
        .dyn_into()
        .map_err(|_| HttpError::Failed("the answer cannot be read".to_owned()))?;
    let mut text = BytesMut::new();
    loop {
        let next = JsFuture::from(reader.read()).await.map_err(failed)?;
        let done = Reflect::get(&next, &"done".into()).map_err(failed)?.is_truthy();
        if done {
            return Ok(text.freeze());
        }
        let chunk: Uint8Array = Reflect::get(&next, &"value".into())
            .map_err(failed)?
            .dyn_into()
            .map_err(|_| HttpError::Failed("the answer is not made of bytes".to_owned()))?;
        if text.len() + chunk.length() as usize > limit {
            return Err(HttpError::TooLarge(limit));
        }
        text.extend_from_slice(&chunk.to_vec());
    }
}

/// Ends a request that nobody waits for.
struct AbortOnDrop(AbortController);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: JsValue) -> HttpError {
    HttpError::Failed(describe(&error))
}
