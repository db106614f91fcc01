//! SHA-256 through WebCrypto, which hashes several times faster than wasm and off this thread.

use bytes::Bytes;
use js_sys::Uint8Array;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::SubtleCrypto;

use crate::content::block::{self, Digest};

/// Below this, the way to WebCrypto and back takes longer than hashing here.
const WEBCRYPTO_FROM: usize = 16 << 10;

thread_local! {
    /// Missing in an insecure context (http on a host other than localhost).
    static SUBTLE: Option<SubtleCrypto> = super::crypto()
        .map(|crypto| crypto.subtle())
        .filter(|subtle| subtle.is_object());
}

pub async fn sha256(data: Bytes) -> Digest {
    if data.len() >= WEBCRYPTO_FROM
        && let Some(digest) = webcrypto(&data).await
    {
        return digest;
    }
    block::sha256(&data)
}

async fn webcrypto(data: &[u8]) -> Option<Digest> {
    let promise = SUBTLE.with(|subtle| {
        // Passed as a view of this module's memory: the browser takes its own copy of it before it
        // returns, and this would be a second one.
        subtle.as_ref()?.digest_with_str_and_u8_array("SHA-256", data).ok()
    })?;
    let buffer: JsValue = JsFuture::from(promise).await.ok()?;
    let array = Uint8Array::new(&buffer);
    let mut digest = Digest::default();
    (array.length() as usize == digest.len()).then(|| {
        array.copy_to(&mut digest);
        digest
    })
}
