//! File contents over the border, each byte once: a `File` or stream is taken in pieces, a file that
//! goes out is written straight into the one array that the caller gets.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use js_sys::{Array, ArrayBuffer, JsString, Reflect, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, ReadableStream, ReadableStreamDefaultReader};

use super::{arguments::bad, failure::thrown};
use crate::{
    error::{Error, Result},
    peer::ByteStream,
};

/// Bytes taken from a `Blob` or buffer at a time.
const PIECE: u32 = 2 << 20;
/// Texts up to this many UTF-16 units are copied at once, longer ones in pieces.
const SHORT_TEXT: u32 = 64 << 10;
/// Longest string that a stream may give at once, in UTF-16 units.
const MAX_TEXT_CHUNK: u32 = 16 << 20;
/// Largest file given out as one array: what every browser can allocate.
const MAX_ARRAY: u64 = i32::MAX as u64;

/// What `storeFile` accepts, as a stream, and its size if that is known beforehand.
pub(super) fn source(content: JsValue) -> Result<(ByteStream, Option<u64>)> {
    if let Some(text) = content.dyn_ref::<JsString>() {
        if text.length() <= SHORT_TEXT {
            let text = String::from(text);
            let size = text.len() as u64;
            return Ok((Box::pin(stream::iter([Ok(Bytes::from(text))])), Some(size)));
        }
        let blob = Blob::new_with_str_sequence(&Array::of1(text));
        return source(blob.map_err(|error| unreadable(&error))?.into());
    }
    if let Some(blob) = content.dyn_ref::<Blob>() {
        return Ok((from_blob(blob.clone()), Some(blob.size() as u64)));
    }
    if content.is_instance_of::<ArrayBuffer>() || ArrayBuffer::is_view(&content) {
        let array = view(&content)?;
        let size = u64::from(array.length());
        return Ok((from_array(array), Some(size)));
    }
    match content.dyn_into::<ReadableStream>() {
        Ok(stream) => Ok((from_stream(&stream)?, None)),
        Err(_) => {
            Err(bad("content", "not a string, Uint8Array, ArrayBuffer, Blob or ReadableStream"))
        }
    }
}

/// The bytes of a buffer or of any view of one. (js-sys counts in 32 bits and throws through Rust's
/// frames when the buffer was transferred away, so the sizes are read and the array is made by hand.)
pub(super) fn view(content: &JsValue) -> Result<Uint8Array> {
    let get = |name: &str| Reflect::get(content, &name.into()).map_err(|error| unreadable(&error));
    let len = get("byteLength")?.as_f64().unwrap_or_default();
    if len > MAX_ARRAY as f64 {
        let what = format!("a buffer of {len} bytes");
        return Err(Error::TooLarge { what, reason: "give a Blob or a ReadableStream".into() });
    }
    let array = if content.is_instance_of::<ArrayBuffer>() {
        FallibleArray::over(content, 0.0, len)
    } else {
        let offset = get("byteOffset")?.as_f64().unwrap_or_default();
        FallibleArray::over(&get("buffer")?, offset, len)
    };
    array.map(|array| JsValue::from(array).unchecked_into()).map_err(|error| unreadable(&error))
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
    let reading = Reading { reader, ended: false, chunk: None };
    Ok(Box::pin(stream::try_unfold(reading, |mut reading| async move {
        let piece = reading.next().await?;
        Ok(piece.map(|bytes| (bytes, reading)))
    })))
}

/// Cancels the stream when it is dropped before its end (an abort, a failed write).
struct Reading {
    reader: ReadableStreamDefaultReader,
    ended: bool,
    /// The stream's last chunk, which may be of any size, and how much of it was taken.
    chunk: Option<(Uint8Array, u32)>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some((chunk, at)) = &mut self.chunk {
                let (start, len) = (*at, chunk.length());
                if start < len {
                    *at = len.min(start.saturating_add(PIECE));
                    return Ok(Some(chunk.subarray(start, *at).to_vec().into()));
                }
            }
            match self.next_chunk().await? {
                Some(chunk) => self.chunk = Some((chunk, 0)),
                None => return Ok(None),
            }
        }
    }

    async fn next_chunk(&mut self) -> Result<Option<Uint8Array>> {
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
        match value.dyn_ref::<JsString>() {
            Some(text) if text.length() <= MAX_TEXT_CHUNK => {
                Ok(Some(Uint8Array::new_from_slice(String::from(text).as_bytes())))
            }
            Some(_) => Err(bad("content", "the stream gave a string of more than 16 Mi units")),
            None if ArrayBuffer::is_view(&value) => view(&value).map(Some),
            None => {
                Err(bad("content", "the stream gave something other than Uint8Array or string"))
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.ended {
            let cancelled = self.reader.cancel();
            // A stream whose `cancel` fails is none of the caller's concern any more.
            spawn_local(async move { drop(JsFuture::from(cancelled).await) });
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
    #[wasm_bindgen(constructor, catch, js_class = "Uint8Array")]
    fn over(buffer: &JsValue, offset: f64, length: f64) -> Result<FallibleArray, JsValue>;
}

fn allocate(length: u32) -> Result<Uint8Array, JsValue> {
    FallibleArray::new(length).map(|array| JsValue::from(array).unchecked_into())
}
