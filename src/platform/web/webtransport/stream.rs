//! One stream of a session. The browser reads into a buffer that goes back and forth between it and this
//! module, and gets what is written in pieces as large as they come.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use js_sys::{ArrayBuffer, Object, Promise, Reflect, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, JsValue, prelude::*};
use web_sys::{ReadableStream, WritableStream, WritableStreamDefaultWriter};

use super::{Awaited, describe, detach, poll_promise};

/// Bytes of the buffer that is read into at first: many streams carry little. It grows when it is full.
const FIRST_READ: u32 = 4 << 10;
const MAX_READ: u32 = 128 << 10;
/// Writes are gathered up to this size.
const MAX_GATHERED: usize = 64 << 10;

#[wasm_bindgen]
extern "C" {
    /// `WebTransportBidirectionalStream`.
    pub(super) type Bidirectional;
    #[wasm_bindgen(method, getter)]
    fn readable(this: &Bidirectional) -> ReadableStream;
    #[wasm_bindgen(method, getter)]
    fn writable(this: &Bidirectional) -> WritableStream;

    /// What a reader's promise resolves to.
    pub(super) type ReadResult;
    #[wasm_bindgen(method, getter)]
    pub(super) fn done(this: &ReadResult) -> bool;
    #[wasm_bindgen(method, getter)]
    pub(super) fn value(this: &ReadResult) -> JsValue;

    #[wasm_bindgen(js_name = ReadableStream)]
    type Source;
    #[wasm_bindgen(method, catch, js_name = getReader)]
    fn get_reader(this: &Source, options: &JsValue) -> Result<Reader, JsValue>;

    /// A reader of either kind. Only one that takes a buffer looks at it.
    #[derive(Debug)]
    type Reader;
    #[wasm_bindgen(method)]
    fn read(this: &Reader, buffer: &Uint8Array) -> Promise;
    #[wasm_bindgen(method)]
    fn cancel(this: &Reader) -> Promise;
}

/// One stream. Dropping it ends both directions.
#[derive(Debug)]
pub struct Stream(SendWrapper<Inner>);

#[derive(Debug)]
struct Inner {
    reader: Reader,
    /// The reader takes a buffer.
    byob: bool,
    /// The buffer, when the browser does not have it.
    buffer: ArrayBuffer,
    reading: Awaited,
    /// What was read and where the rest of it begins.
    read: Option<(Uint8Array, u32)>,
    /// Nothing more is to be read: the end has come, or reading has failed.
    ended: bool,
    failed: bool,
    writer: WritableStreamDefaultWriter,
    /// Written and not yet handed to the browser.
    gathered: Vec<u8>,
    /// Handed to the browser, and it has not said yet that it took it.
    handed: bool,
    waiting: Awaited,
    closing: Awaited,
    closed: bool,
}

impl Stream {
    pub(super) fn new(stream: &Bidirectional) -> Result<Self, JsValue> {
        let writer = stream.writable().get_writer()?;
        let options = Object::new();
        Reflect::set(&options, &"mode".into(), &"byob".into())?;
        let source: Source = stream.readable().unchecked_into();
        let (reader, byob) = match source.get_reader(&options) {
            Ok(reader) => (reader, true),
            Err(_) => (source.get_reader(&JsValue::UNDEFINED)?, false),
        };
        Ok(Self(SendWrapper::new(Inner {
            reader,
            byob,
            buffer: ArrayBuffer::new(if byob { FIRST_READ } else { 0 }),
            reading: None,
            read: None,
            ended: false,
            failed: false,
            writer,
            gathered: Vec::new(),
            handed: false,
            waiting: None,
            closing: None,
            closed: false,
        })))
    }
}

impl Inner {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        while !out.is_empty() && !self.ended {
            if let Some((array, from)) = &mut self.read {
                let to = array.length().min(from.saturating_add(out.len() as u32));
                let len = (to - *from) as usize;
                array.subarray(*from, to).copy_to(&mut out[..len]);
                *from = to;
                if to == array.length() {
                    self.take_back();
                }
                if len > 0 {
                    return Poll::Ready(Ok(len));
                }
                continue;
            }
            let (reader, buffer) = (&self.reader, &self.buffer);
            let start = || reader.read(&Uint8Array::new(buffer));
            let read = ready!(poll_promise(&mut self.reading, start, cx));
            // The buffer is gone with it.
            (self.failed, self.ended) = (read.is_err(), read.is_err());
            let read = read.map_err(broken)?;
            let read = read.unchecked_ref::<ReadResult>();
            self.ended = read.done();
            if !self.ended {
                self.read = Some((read.value().unchecked_into(), 0));
            }
        }
        Poll::Ready(if self.failed { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(0) })
    }

    /// All was read from what came: its buffer is read into next.
    fn take_back(&mut self) {
        let Some((array, _)) = self.read.take() else { return };
        if !self.byob {
            return;
        }
        self.buffer = array.buffer().unchecked_into();
        let size = self.buffer.byte_length();
        if array.length() == size && size < MAX_READ {
            self.buffer = ArrayBuffer::new((4 * size).min(MAX_READ));
        }
    }

    /// Hands over what was gathered, once the browser has room for it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_room(cx))?;
        self.send();
        Poll::Ready(Ok(()))
    }

    fn send(&mut self) {
        // Of its own: the browser keeps the array until it has sent it.
        let array = Uint8Array::new_from_slice(&self.gathered);
        detach(&self.writer.write_with_chunk(&array));
        self.gathered.clear();
        self.handed = true;
    }

    /// Waits until the browser has taken what was written. That it has not, because the other side wants no
    /// more, is worth knowing: it can be sent by another stream.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if self.handed {
            ready!(self.poll_room(cx))?;
            self.handed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Neither, if the stream was broken off: then there is a reason to wait for.
        let room = self.writer.desired_size().ok().flatten().is_some_and(|size| size > 0.0);
        if room && self.waiting.is_none() {
            return Poll::Ready(Ok(()));
        }
        let writer = &self.writer;
        let ready = ready!(poll_promise(&mut self.waiting, || writer.ready(), cx));
        Poll::Ready(ready.map(drop).map_err(broken))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        if self.closing.is_none() {
            ready!(self.poll_send(cx))?;
        }
        let writer = &self.writer;
        // It fails if the other side wants no more, which is an end as well.
        let _ = ready!(poll_promise(&mut self.closing, || writer.close(), cx));
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.closed && self.closing.is_none() {
            if !self.gathered.is_empty() {
                self.send();
            }
            // Not aborted: Chromium has lost whole sessions by that.
            detach(&self.writer.close());
        }
        if !self.ended {
            detach(&self.reader.cancel());
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, out)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0;
        if inner.closed || inner.closing.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if inner.gathered.len() >= MAX_GATHERED {
            ready!(inner.poll_send(cx))?;
        }
        let taken = bytes.len().min(MAX_GATHERED - inner.gathered.len());
        inner.gathered.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_close(cx)
    }
}

fn broken(thrown: JsValue) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, describe(&thrown))
}
