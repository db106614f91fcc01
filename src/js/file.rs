//! A file that is read while it arrives: the class behind `index.js`'s `FileStream`.

use std::{cell::RefCell, rc::Rc};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    future::AbortHandle,
    lock::Mutex,
    stream::{Abortable, abortable},
};
use js_sys::{Promise, Uint8Array};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::{
    arguments::Options,
    failure::{failure, promise},
};
use crate::{
    content::block::Cid,
    error::{Error, Result},
    peer::{ByteStream, FileInfo, FileReader, OpenOptions, Peer},
};

/// An open file; each call of `read` starts a stream of its own.
#[wasm_bindgen]
pub struct OpenFile {
    peer: Peer,
    options: OpenOptions,
    info: FileInfo,
    /// For the first stream; others open the file again, which finds the beginning in the store.
    opened: RefCell<Option<FileReader>>,
}

#[wasm_bindgen]
impl OpenFile {
    #[wasm_bindgen(getter, js_name = type)]
    pub fn kind(&self) -> String {
        "file".into()
    }

    #[wasm_bindgen(getter)]
    pub fn cid(&self) -> String {
        self.info.cid.to_string()
    }

    #[wasm_bindgen(getter, js_name = mimeType)]
    pub fn mime_type(&self) -> String {
        self.info.mime_type.clone()
    }

    #[wasm_bindgen(getter)]
    pub fn size(&self) -> f64 {
        self.info.size as f64
    }

    /// Starts to read `{start, end}`, or all of it.
    pub fn read(&self, range: JsValue) -> Result<Pieces, JsValue> {
        let range = Options::new(range).and_then(|options| options.range());
        let range = range.map_err(|error| failure(&error))?;
        let (peer, cid, options) = (self.peer.clone(), self.info.cid, self.options.clone());
        let opened = self.opened.take();
        let stream = async move {
            let reader = match opened {
                Some(reader) => reader,
                None => peer.open_file(cid, options).await?,
            };
            Ok::<_, Error>(reader.stream(range))
        };
        let stream: ByteStream = Box::pin(send_wrapper::SendWrapper::new(
            futures::stream::once(stream).flat_map(flatten),
        ));
        let (stream, abort) = abortable(stream);
        let source = Source { stream: Some(stream), rest: Bytes::new() };
        Ok(Pieces { source: Rc::new(Mutex::new(source)), abort })
    }
}

impl OpenFile {
    pub(super) async fn open(peer: Peer, cid: Cid, options: OpenOptions) -> Result<Self> {
        let reader = peer.open_file(cid, options.clone()).await?;
        let info = reader.info.clone();
        Ok(Self { peer, options, info, opened: RefCell::new(Some(reader)) })
    }
}

fn flatten(opened: Result<ByteStream>) -> ByteStream {
    match opened {
        Ok(stream) => stream,
        Err(error) => Box::pin(futures::stream::iter([Err(error)])),
    }
}

/// The bytes of one read, piece by piece.
#[wasm_bindgen]
pub struct Pieces {
    source: Rc<Mutex<Source>>,
    abort: AbortHandle,
}

struct Source {
    stream: Option<Abortable<ByteStream>>,
    /// What a reader's own array had no room for.
    rest: Bytes,
}

impl Source {
    /// The next bytes; none after the last.
    async fn next(&mut self) -> Result<Bytes, JsValue> {
        let mut bytes = std::mem::take(&mut self.rest);
        while bytes.is_empty()
            && let Some(stream) = &mut self.stream
        {
            match stream.next().await {
                Some(Ok(next)) => bytes = next,
                end => {
                    self.stream = None;
                    end.transpose().map_err(|error| failure(&error))?;
                }
            }
        }
        Ok(bytes)
    }
}

#[wasm_bindgen]
impl Pieces {
    /// The next piece, `undefined` after the last one.
    pub fn next(&self) -> Promise {
        let source = self.source.clone();
        promise(None, async move {
            let bytes = source.lock().await.next().await?;
            Ok(match bytes.is_empty() {
                true => JsValue::UNDEFINED,
                false => Uint8Array::from(&bytes[..]).into(),
            })
        })
    }

    /// Fills `array` from its start; resolves with how many bytes were written, 0 after the last.
    pub fn fill(&self, array: Uint8Array) -> Promise {
        let source = self.source.clone();
        promise(None, async move {
            let mut source = source.lock().await;
            let mut bytes = source.next().await?;
            let part = bytes.split_to(bytes.len().min(array.length() as usize));
            array.subarray(0, part.len() as u32).copy_from(&part);
            source.rest = bytes;
            Ok((part.len() as u32).into())
        })
    }

    /// Ends the transfer, also under a `next` or `fill` that waits.
    pub fn cancel(&self) {
        self.abort.abort();
        let source = self.source.clone();
        wasm_bindgen_futures::spawn_local(async move {
            *source.lock().await = Source { stream: None, rest: Bytes::new() };
        });
    }
}
