//! HTTP GET by the browser's `fetch`, in a page or a worker.

use bytes::Bytes;
use futures::stream;
use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, Headers, ReadableStreamDefaultReader, RequestCache, RequestCredentials,
    RequestInit, Response,
};

use super::{AbortOnDrop, describe};
use crate::platform::{
    BoxStream,
    http::{HttpError, HttpResponse, Redirects, same_origin},
};

#[wasm_bindgen]
extern "C" {
    /// The global function: `window.fetch` does not exist in a worker.
    #[wasm_bindgen(catch, js_name = fetch)]
    fn global_fetch(url: &str, init: &RequestInit) -> Result<js_sys::Promise, JsValue>;
}

/// The answer, its body neither bounded nor timed; dropping either ends the request.
pub(in crate::platform) async fn http_open(
    url: String,
    headers: Vec<(String, String)>,
    redirects: Redirects,
) -> Result<HttpResponse, HttpError> {
    let abort = AbortOnDrop(AbortController::new().map_err(failed)?);
    let init = RequestInit::new();
    init.set_signal(Some(&abort.0.signal()));
    init.set_cache(RequestCache::NoStore);
    init.set_credentials(RequestCredentials::Omit);
    let sent = Headers::new().map_err(failed)?;
    for (name, value) in &headers {
        sent.set(name, value).map_err(failed)?;
    }
    init.set_headers(&sent);
    let promise = global_fetch(&url, &init).map_err(failed)?;
    let response: Response = JsFuture::from(promise)
        .await
        .map_err(failed)?
        .dyn_into()
        .map_err(|_| HttpError::Failed("fetch gave no response".to_owned()))?;
    let to = response.url();
    if redirects == Redirects::SameOrigin && response.redirected() && !same_origin(&url, &to) {
        return Err(HttpError::Redirected { to });
    }
    let mut headers = Vec::new();
    for entry in js_sys::try_iter(&response.headers()).map_err(failed)?.into_iter().flatten() {
        let entry: Array = entry.map_err(failed)?.unchecked_into();
        if let (Some(name), Some(value)) = (entry.get(0).as_string(), entry.get(1).as_string()) {
            headers.push((name, value));
        }
    }
    let body: BoxStream<_> = match response.body() {
        None => Box::pin(stream::empty()),
        Some(body) => {
            let reader: ReadableStreamDefaultReader = body
                .get_reader()
                .dyn_into()
                .map_err(|_| HttpError::Failed("the answer cannot be read".to_owned()))?;
            Box::pin(stream::unfold(Some((reader, abort)), |state| async move {
                let (reader, abort) = state?;
                match read(&reader).await {
                    Ok(piece) => Some((Ok(piece?), Some((reader, abort)))),
                    Err(error) => Some((Err(error), None)),
                }
            }))
        }
    };
    Ok(HttpResponse { status: response.status(), headers, body })
}

/// The next piece; `None` at the end.
async fn read(reader: &ReadableStreamDefaultReader) -> Result<Option<Bytes>, HttpError> {
    let next = JsFuture::from(reader.read()).await.map_err(failed)?;
    if Reflect::get(&next, &"done".into()).map_err(failed)?.is_truthy() {
        return Ok(None);
    }
    let chunk: Uint8Array = Reflect::get(&next, &"value".into())
        .map_err(failed)?
        .dyn_into()
        .map_err(|_| HttpError::Failed("the answer is not made of bytes".to_owned()))?;
    Ok(Some(chunk.to_vec().into()))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: JsValue) -> HttpError {
    HttpError::Failed(describe(&error))
}
