//! How values lie in the database. Small ones are `Uint8Array`s. Large ones are `Blob`s where the
//! browser takes them: it copies an array twice and tries to compress it before it makes a blob of
//! it anyway, and reads it back the same way. Both kinds are read, whatever is written.
//!
//! The browser keeps large values of either kind in files of their own, which can be gone when the
//! record is not (a disk that failed, a cleaner). Such a value is [`Value::Lost`].

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use js_sys::{Array, ArrayBuffer, Function, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, prelude::*};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, DomException, IdbRequest};

use super::{error, transaction::result};
use crate::platform::database::{DatabaseError, DatabaseResult};

/// From this size on, a value is a blob: below it, browsers keep values in the database itself.
const BLOB_FROM: usize = 64 << 10;
/// Bytes of blobs that the browser may hold for us. A blob's bytes stay in its memory until the
/// garbage collector finds the object, long after they were written, and when the memory for blobs
/// is full (500 MB at the least on a desktop) writes fail. So above this, values are arrays.
const MAX_UNCOLLECTED: usize = 128 << 20;
/// What reading fails with when a value's file is gone or cannot be read.
const LOST: [&str; 3] = ["DataError", "NotFoundError", "NotReadableError"];

#[wasm_bindgen]
extern "C" {
    /// `Array.of(bytes)`, where `bytes` is a view of this module's memory.
    #[wasm_bindgen(js_namespace = Array, js_name = of)]
    fn array_of(bytes: &[u8]) -> Array;

    type FinalizationRegistry;
    #[wasm_bindgen(constructor, catch)]
    fn new(collected: &Function) -> Result<FinalizationRegistry, JsValue>;
    #[wasm_bindgen(method)]
    fn register(this: &FinalizationRegistry, target: &Blob, held: f64);
}

thread_local! {
    static UNCOLLECTED: Cell<usize> = const { Cell::new(0) };
    /// Tells which blobs were collected; `None` in a browser that cannot, which gets no blobs.
    static COLLECTED: Option<FinalizationRegistry> = {
        let collected = Closure::<dyn Fn(f64)>::new(|size: f64| {
            UNCOLLECTED.set(UNCOLLECTED.get().saturating_sub(size as usize));
        });
        FinalizationRegistry::new(collected.into_js_value().unchecked_ref()).ok()
    };
    /// The array that the last value was copied to. The browser has cloned it when a write is
    /// issued, so the next value of the same length goes there again: fresh memory costs several
    /// times what the copying does, and most blocks of a file have one length.
    static VALUE: RefCell<Uint8Array> = RefCell::new(Uint8Array::new_with_length(0));
}

/// Calls `issue` with the bytes as a value of their own. (The browser clones an array together with
/// the whole buffer behind it, so it must not be a view of this module's memory.)
pub fn with_value<T>(bytes: &[u8], blobs: bool, issue: impl FnOnce(&JsValue) -> T) -> T {
    if blobs
        && bytes.len() >= BLOB_FROM
        && let Some(blob) = blob(bytes)
    {
        return issue(&blob);
    }
    VALUE.with_borrow_mut(|array| {
        if array.length() as usize == bytes.len() {
            array.copy_from(bytes);
        } else {
            *array = Uint8Array::new_from_slice(bytes);
        }
        issue(array)
    })
}

/// What a browser must be able to store before it is given any [`Blob`].
pub fn probe() -> Option<Blob> {
    blob(b"?")
}

fn blob(bytes: &[u8]) -> Option<Blob> {
    let uncollected = UNCOLLECTED.get() + bytes.len();
    if uncollected > MAX_UNCOLLECTED {
        return None;
    }
    COLLECTED.with(|collected| {
        let blob = Blob::new_with_u8_array_sequence(&array_of(bytes)).ok()?;
        collected.as_ref()?.register(&blob, bytes.len() as f64);
        UNCOLLECTED.set(uncollected);
        // The view is empty if this module's memory has grown since it was made.
        (blob.size() == bytes.len() as f64).then_some(blob)
    })
}

/// A value that was read, on its way into Rust memory.
pub enum Value {
    Here(Bytes),
    Coming(JsFuture),
    Lost,
}

impl Value {
    /// What a finished request found. A blob is being read when this returns.
    pub fn found(request: &IdbRequest) -> DatabaseResult<Option<Self>> {
        if let Ok(Some(exception)) = request.error()
            && is_lost(&exception)
        {
            return Ok(Some(Self::Lost));
        }
        let Some(value) = result(request)? else { return Ok(None) };
        Ok(Some(match value.dyn_ref::<Blob>() {
            Some(blob) => Self::Coming(JsFuture::from(blob.array_buffer())),
            None => Self::Here(bytes(&value)?),
        }))
    }

    /// What is lost is empty.
    pub async fn bytes(self) -> DatabaseResult<Bytes> {
        match self {
            Self::Here(bytes) => Ok(bytes),
            Self::Coming(buffer) => match buffer.await {
                Ok(buffer) => bytes(&buffer),
                Err(thrown) if thrown.dyn_ref().is_some_and(is_lost) => Ok(Bytes::new()),
                Err(thrown) => Err(error::from_js(&thrown)),
            },
            Self::Lost => Ok(Bytes::new()),
        }
    }
}

fn is_lost(exception: &DomException) -> bool {
    LOST.contains(&exception.name().as_str())
}

/// Copies an array or a binary key of the database into Rust memory.
pub fn bytes(value: &JsValue) -> DatabaseResult<Bytes> {
    let array = match value.dyn_ref::<Uint8Array>() {
        Some(array) => array.clone(),
        None if value.is_instance_of::<ArrayBuffer>() => Uint8Array::new(value),
        None => return Err(DatabaseError::Failed("a row that does not hold bytes".into())),
    };
    Ok(array.to_vec().into())
}
