//! Chunk downloads for JS: events handed to one function, a handle to pause and to cancel.

use js_sys::{Array, Function, Promise};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

use super::{
    arguments::{Options, bad, object, text},
    failure::{failure, promise},
};
use crate::{
    config,
    error::{Error, Result},
    exchange::chunks::{
        ChunkEvent, ChunkEvents, ChunkRequest, Download, DownloadEnd, DownloadRequest, Seeder,
        coordinator::MAX_SEEDERS,
    },
    peer::Peer,
};

/// What `startChunkDownload` takes, the function for the events last.
pub(super) fn chunk_request(
    [peer, cid, file_hash, chunk_index]: [JsValue; 4],
    options: &Options,
) -> Result<ChunkRequest> {
    let index = chunk_index
        .as_f64()
        .filter(|index| index.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(index));
    Ok(ChunkRequest {
        peer: config::parse_peer_id(&text(&peer, "peer")?)?,
        cid: config::parse_cid(&text(&cid, "cid")?)?,
        file_hash: text(&file_hash, "fileHash")?,
        chunk_index: index.ok_or_else(|| bad("chunkIndex", "not a whole number"))? as u32,
        http_url: options.string("httpUrl")?,
        path: options.string("path")?.unwrap_or_default(),
        range: options.range()?,
    })
}

/// A file's download; see `Download` in `index.d.ts`.
#[wasm_bindgen]
pub struct RawDownload {
    download: Download,
    peer: Peer,
    request: DownloadRequest,
}

#[wasm_bindgen]
impl RawDownload {
    /// Resolves with what `storeFile` does, if the file has a place in the tree.
    pub fn finished(&self) -> Promise {
        let (peer, download) = (self.peer.clone(), self.download.clone());
        let DownloadRequest { root, path, .. } = self.request.clone();
        promise(None, async move {
            let done = async {
                if download.finished().await? == DownloadEnd::Cancelled {
                    return Err(Error::Cancelled { what: format!("the download of {root}") });
                }
                let (file, tree) = match path.as_str() {
                    "" => (root, peer.root()),
                    path => {
                        let stored = peer.place(path, root).await?;
                        (stored.file, stored.root)
                    }
                };
                Ok(object(&[
                    ("fileCid", file.to_string().into()),
                    ("rootCid", tree.to_string().into()),
                ]))
            };
            done.await.map_err(|error| failure(&error))
        })
    }

    pub fn pause(&self) {
        self.download.pause();
    }

    pub fn resume(&self) {
        self.download.resume();
    }

    pub fn cancel(&self) {
        self.download.cancel();
    }
}

impl RawDownload {
    pub(super) fn start(
        peer: &Peer,
        cid: &JsValue,
        options: &Options,
        dispatch: Function,
    ) -> Result<Self> {
        let root = config::parse_cid(&text(cid, "cid")?)?;
        let request = DownloadRequest {
            root,
            peers: options.seeders()?,
            file_hash: options.string("fileHash")?.unwrap_or_else(|| root.to_string()),
            path: options.string("path")?.unwrap_or_default(),
        };
        if !request.path.is_empty() {
            crate::content::path::TreePath::parse(&request.path)?;
        }
        let (download, events) = peer.download_file(request.clone())?;
        tell(events, dispatch);
        Ok(Self { download, peer: peer.clone(), request })
    }
}

impl Options {
    fn seeders(&self) -> Result<Vec<Seeder>> {
        let list = self.read("peers", "not an array", |value| value.dyn_into::<Array>().ok())?;
        let list = list.ok_or_else(|| bad("peers", "missing"))?;
        if list.length() == 0 || list.length() as usize > MAX_SEEDERS {
            return Err(bad("peers", &format!("not 1 to {MAX_SEEDERS} peers")));
        }
        list.iter().map(seeder).collect()
    }
}

fn seeder(value: JsValue) -> Result<Seeder> {
    if value.is_string() {
        let peer = config::parse_peer_id(&text(&value, "peers")?)?;
        return Ok(Seeder { peer, http_url: None });
    }
    let fields = Options::new(value)?;
    let peer = fields.string("peer")?.ok_or_else(|| bad("peers", "a seeder without 'peer'"))?;
    Ok(Seeder { peer: config::parse_peer_id(&peer)?, http_url: fields.string("httpUrl")? })
}

/// Calls `dispatch(name, detail)` for each event. One that throws is reported and ends nothing.
pub(super) fn tell(mut events: ChunkEvents, dispatch: Function) {
    spawn_local(async move {
        while let Some(event) = events.next().await {
            let (name, detail) = (event.name(), detail(event));
            if let Err(error) = dispatch.call2(&JsValue::NULL, &name.into(), &detail) {
                web_sys::console::error_2(&"tabpeer: a listener threw".into(), &error);
            }
        }
    });
}

fn detail(event: ChunkEvent) -> JsValue {
    match event {
        ChunkEvent::Started { file_hash, chunk_index, cid, peer } => object(&[
            ("file_hash", (&*file_hash).into()),
            ("chunk_index", chunk_index.into()),
            ("cid", cid.to_string().into()),
            ("peer", peer.to_string().into()),
        ]),
        ChunkEvent::Progress { file_hash, chunk_index, bytes_received, total_bytes } => object(&[
            ("file_hash", (&*file_hash).into()),
            ("chunk_index", chunk_index.into()),
            ("bytes_received", (bytes_received as f64).into()),
            ("total_bytes", (total_bytes as f64).into()),
        ]),
        ChunkEvent::Complete { file_hash, chunk_index, path } => object(&[
            ("file_hash", (&*file_hash).into()),
            ("chunk_index", chunk_index.into()),
            ("path", (&*path).into()),
        ]),
        ChunkEvent::Failed { file_hash, chunk_index, error } => object(&[
            ("file_hash", (&*file_hash).into()),
            ("chunk_index", chunk_index.into()),
            ("error", error.into()),
        ]),
    }
}
