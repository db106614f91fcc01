//! File contents over the border, each byte once: a `File` or stream is taken in pieces, a file that
//! goes out is written straight into the one array that the caller gets.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use js_sys::{ArrayBuffer, Reflect, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, ReadableStream, ReadableStreamDefaultReader};

use super::{arguments::bad, failure::thrown};
use crate::{
    error::{Error, Result},
    peer::ByteStream,
};

/// Bytes taken from a `Blob` or buffer at a time.
const PIECE: u32 = 2 << 20;
/// Largest file given out as one array: what every browser can allocate.
const MAX_ARRAY: u64 = i32::MAX as u64;

/// What `storeFile` accepts, as a stream, and its size if that is known beforehand.
pub(super) fn source(content: JsValue) -> Result<(ByteStream, Option<u64>)> {
    if let Some(text) = content.as_string() {
        let size = text.len() as u64;
        return Ok((Box::pin(stream::iter([Ok(Bytes::from(text))])), Some(size)));
    }
    if let Some(blob) = content.dyn_ref::<Blob>() {
        return Ok((from_blob(blob.clone()), Some(blob.size() as u64)));
    }
    if let Some(buffer) = content.dyn_ref::<ArrayBuffer>() {
        return Ok((from_array(Uint8Array::new(buffer)), Some(u64::from(buffer.byte_length()))));
    }
    if ArrayBuffer::is_view(&content) {
        let view: js_sys::DataView = content.unchecked_into(); // every view has these three properties
        let (offset, len) = (view.byte_offset() as u32, view.byte_length() as u32);
        let array = Uint8Array::new_with_byte_offset_and_length(&view.buffer(), offset, len);
        return Ok((from_array(array), Some(u64::from(len))));
    }
    match content.dyn_into::<ReadableStream>() {
        Ok(stream) => Ok((from_stream(&stream)?, None)),
        Err(_) => {
            Err(bad("content", "not a string, Uint8Array, ArrayBuffer, Blob or ReadableStream"))
        }
    }
}

/// Collects a stream of `size` bytes into an array of JS.
pub(super) async fn collect(mut bytes: ByteStream, size: u64) -> Result<Uint8Array> {
    let too_large =
        |reason: String| Error::TooLarge { what: format!("a file of {size} bytes"), reason };
    if size > MAX_ARRAY {
        return Err(too_large(format!("at most {MAX_ARRAY} bytes fit an array")));
    }
    let array = allocate(size as u32).map_err(|error| too_large(thrown(&error)))?;
    let mut at = 0u32;
    while let Some(piece) = bytes.next().await {
        let piece = piece?;
        let end = at + piece.len() as u32;
        array.subarray(at, end).copy_from(&piece);
        at = end;
    }
    Ok(array)
}

fn from_array(array: Uint8Array) -> ByteStream {
    let len = array.length();
    let starts = (0..len).step_by(PIECE as usize);
    Box::pin(stream::iter(starts.map(move |at| {
        // A transferred (detached) array has become empty: say so instead of storing zeros.
        if array.length() < len {
            return Err(bad("content", "its buffer was transferred away"));
        }
        Ok(Bytes::from(array.subarray(at, len.min(at.saturating_add(PIECE))).to_vec()))
    })))
}

/// The next slice is being read while the one before it is worked on.
fn from_blob(blob: Blob) -> ByteStream {
    let size = blob.size();
    let count = (size / f64::from(PIECE)).ceil() as u64;
    let slices = (0..count).map(move |i| {
        let start = i as f64 * f64::from(PIECE);
        let slice = blob.slice_with_f64_and_f64(start, (start + f64::from(PIECE)).min(size));
        let read = slice.map(|slice| JsFuture::from(slice.array_buffer()));
        async move {
            let buffer = read
                .map_err(|error| unreadable(&error))?
                .await
                .map_err(|error| unreadable(&error))?;
            Ok(Bytes::from(Uint8Array::new(&buffer).to_vec()))
        }
    });
    Box::pin(stream::iter(slices).buffered(2))
}

fn from_stream(stream: &ReadableStream) -> Result<ByteStream> {
    if stream.locked() {
        return Err(bad("content", "the stream is locked to another reader"));
    }
    let reader: ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
    let reading = Reading { reader, ended: false };
    Ok(Box::pin(stream::try_unfold(reading, |mut reading| async move {
        let piece = reading.next().await?;
        Ok(piece.map(|bytes| (bytes, reading)))
    })))
}

/// Cancels the stream when it is dropped before its end (an abort, a failed write).
struct Reading {
    reader: ReadableStreamDefaultReader,
    ended: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let read = JsFuture::from(self.reader.read()).await;
        self.ended = read.is_err();
        let step = read.map_err(|error| unreadable(&error))?;
        let get =
            |name: &str| Reflect::get(&step, &name.into()).map_err(|error| unreadable(&error));
        if get("done")?.is_truthy() {
            self.ended = true;
            return Ok(None);
        }
        let value = get("value")?;
        if let Some(text) = value.as_string() {
            return Ok(Some(text.into()));
        }
        match value.dyn_into::<Uint8Array>() {
            Ok(array) => Ok(Some(array.to_vec().into())),
            Err(_) => {
                Err(bad("content", "the stream gave something other than Uint8Array or string"))
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.reader.cancel();
        }
    }
}

fn unreadable(error: &JsValue) -> Error {
    Error::BadArgument {
        what: "content",
        reason: format!("it could not be read: {}", thrown(error)),
    }
}

#[wasm_bindgen]
extern "C" {
    /// `new Uint8Array(length)`, with a failed allocation as an error instead of an exception that
    /// would tear through Rust's frames.
    #[wasm_bindgen(js_name = Uint8Array, typescript_type = "Uint8Array")]
    type FallibleArray;
    #[wasm_bindgen(constructor, catch, js_class = "Uint8Array")]
    fn new(length: u32) -> Result<FallibleArray, JsValue>;
}

fn allocate(length: u32) -> Result<Uint8Array, JsValue> {
    FallibleArray::new(length).map(|array| JsValue::from(array).unchecked_into())
}
