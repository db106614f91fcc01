//! A file that is read while it arrives: the class behind `index.js`'s `FileStream`.

use std::{cell::RefCell, rc::Rc};

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
        Ok(Pieces { stream: Rc::new(Mutex::new(Some(stream))), abort })
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
    stream: Rc<Mutex<Option<Abortable<ByteStream>>>>,
    abort: AbortHandle,
}

#[wasm_bindgen]
impl Pieces {
    /// The next piece, `undefined` after the last one.
    pub fn next(&self) -> Promise {
        let stream = self.stream.clone();
        promise(None, async move {
            let mut stream = stream.lock().await;
            let next = match stream.as_mut() {
                Some(stream) => stream.next().await,
                None => None,
            };
            match next {
                Some(Ok(bytes)) => Ok(Uint8Array::from(&bytes[..]).into()),
                Some(Err(error)) => {
                    *stream = None;
                    Err(failure(&error))
                }
                None => {
                    *stream = None;
                    Ok(JsValue::UNDEFINED)
                }
            }
        })
    }

    /// Ends the transfer, also under a `next` that waits.
    pub fn cancel(&self) {
        self.abort.abort();
        let stream = self.stream.clone();
        wasm_bindgen_futures::spawn_local(async move { drop(stream.lock().await.take()) });
    }
}
