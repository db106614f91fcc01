//! The client class behind `index.js`'s `P2PWebAppClient`.

use std::{collections::BTreeMap, sync::Arc};

use js_sys::{Function, JSON, Promise, Reflect};
use libp2p::PeerId;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::{
    arguments::{Options, bad, object, text},
    content,
    download::{RawDownload, chunk_request, tell},
    failure::{failure, promise, thrown},
    file::OpenFile,
    life,
};
use crate::{
    config,
    content::{block::Cid, directory::EntryKind},
    error::{Error, Result},
    exchange::{fetch::MAX_TRUST, webapp::WireError},
    peer::{Content, ListOptions, OpenOptions, Peer, ProgressSink, StoreOptions},
    platform::web::{self, events::Listeners, idb::IdbDatabases},
};

/// Opens the peer of this origin; see `connect` in `index.d.ts`.
#[wasm_bindgen]
pub fn open(options: JsValue) -> Promise {
    install_panic_hook();
    let parsed = Options::new(options)
        .and_then(|options| Ok((options.connect_signal()?, options.config(page_origin())?)));
    let (signal, config) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Promise::reject(&failure(&error)),
    };
    promise(signal, async move {
        let peer =
            Peer::open(config, Arc::new(IdbDatabases)).await.map_err(|error| failure(&error))?;
        Ok(Client::new(peer).into())
    })
}

/// `start` makes the Worker of `segments.js`; called by `index.js` before any client is opened.
#[wasm_bindgen(js_name = setSegmentsWorker)]
pub fn set_segments_worker(start: Function) {
    web::set_segments_worker(Some(start));
}

/// A new identity; see `generatePeerKey` in `index.d.ts`.
#[wasm_bindgen(js_name = generatePeerKey)]
pub fn generate_peer_key() -> Result<String, JsValue> {
    config::generate_key().map_err(|error| failure(&error))
}

#[wasm_bindgen]
pub struct Client {
    pub(super) peer: Peer,
    life: Listeners,
}

#[wasm_bindgen]
impl Client {
    #[wasm_bindgen(getter, js_name = peerID)]
    pub fn peer_id(&self) -> String {
        self.peer.peer_id().to_string()
    }

    #[wasm_bindgen(getter)]
    pub fn did(&self) -> Option<String> {
        self.peer.did()
    }

    #[wasm_bindgen(getter, js_name = peerKey)]
    pub fn peer_key(&self) -> Result<String, JsValue> {
        self.peer.peer_key().map_err(|error| failure(&error))
    }

    #[wasm_bindgen(getter)]
    pub fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    #[wasm_bindgen(getter)]
    pub fn connected(&self) -> bool {
        self.peer.connected()
    }

    #[wasm_bindgen(getter, js_name = rootCID)]
    pub fn root_cid(&self) -> String {
        self.peer.root().to_string()
    }

    #[wasm_bindgen(js_name = storeFile)]
    pub fn store_file(&self, path: JsValue, content: JsValue, options: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |options| {
            let path = text(&path, "path")?;
            let profile = options.profile()?;
            let progress = options.progress()?;
            let (source, total) = content::source(content)?;
            Ok(async move {
                let progress = progress.as_ref().map(|progress| progress as &dyn ProgressSink);
                let stored = peer
                    .store_file(&path, source, StoreOptions { profile, total, progress })
                    .await?;
                Ok(object(&[
                    ("fileCid", stored.file.to_string().into()),
                    ("rootCid", stored.root.to_string().into()),
                ]))
            })
        })
    }

    #[wasm_bindgen(js_name = createDirectory)]
    pub fn create_directory(&self, path: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let path = text(&path, "path")?;
            Ok(async move {
                let made = peer.create_directory(&path).await?;
                Ok(object(&[
                    ("fileCid", made.file.to_string().into()),
                    ("rootCid", made.root.to_string().into()),
                ]))
            })
        })
    }

    #[wasm_bindgen(js_name = removeFile)]
    pub fn remove_file(&self, path: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let path = text(&path, "path")?;
            Ok(async move {
                Ok(object(&[("rootCid", peer.remove_file(&path).await?.to_string().into())]))
            })
        })
    }

    #[wasm_bindgen(js_name = listFiles)]
    pub fn list_files(&self, peer_id: JsValue, options: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |options| {
            let from = optional_peer(&peer_id)?;
            let options = ListOptions { timeout: options.timeout()? };
            Ok(async move {
                let list = peer.list_files(from, options).await?;
                let too_large = |error: WireError| Error::TooLarge {
                    what: "the list".into(),
                    reason: error.to_string(),
                };
                let list = parse_json(&list.to_json().map_err(too_large)?)?;
                let field = |name: &str| Reflect::get(&list, &name.into()).unwrap_or_default();
                Ok(object(&[("rootCID", field("cid")), ("entries", field("entries"))]))
            })
        })
    }

    #[wasm_bindgen(js_name = getFile)]
    pub fn get_file(&self, cid: JsValue, fallback: JsValue, options: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |options| {
            let cid = config::parse_cid(&text(&cid, "cid")?)?;
            let (fallback, get) = (optional_peer(&fallback)?, options.get()?);
            Ok(async move {
                match peer.get_file(cid, fallback, get.clone()).await? {
                    Content::File(file) => {
                        let stored = content::collect(peer.read_file(&file), file.size).await;
                        let bytes = match stored {
                            // It is out of the way now, and is fetched once more.
                            Err(Error::CorruptBlock { .. }) => {
                                let reader =
                                    peer.open_file(cid, OpenOptions { fallback, get }).await?;
                                content::collect(reader.stream(None), file.size).await?
                            }
                            stored => stored?,
                        };
                        Ok(object(&[
                            ("type", "file".into()),
                            ("cid", cid.to_string().into()),
                            ("mimeType", file.mime_type.into()),
                            ("bytes", bytes.into()),
                        ]))
                    }
                    Content::Directory(entries) => directory(cid, &entries),
                }
            })
        })
    }

    /// What `getFile` is with `stream: true`: an [`OpenFile`], or a directory.
    #[wasm_bindgen(js_name = openFile)]
    pub fn open_file(&self, cid: JsValue, fallback: JsValue, options: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |options| {
            let cid = config::parse_cid(&text(&cid, "cid")?)?;
            let options = OpenOptions { fallback: optional_peer(&fallback)?, get: options.get()? };
            Ok(async move {
                match OpenFile::open(peer.clone(), cid, options.clone()).await {
                    Ok(file) => Ok(file.into()),
                    Err(Error::IsADirectory { .. }) => {
                        match peer.get_file(cid, options.fallback, options.get).await? {
                            Content::Directory(entries) => directory(cid, &entries),
                            Content::File(_) => Err(Error::IsADirectory { path: cid.to_string() }),
                        }
                    }
                    Err(error) => Err(error),
                }
            })
        })
    }

    /// What is at a path below a directory: `{cid, type}`.
    pub fn resolve(&self, root: JsValue, path: JsValue, options: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |options| {
            let root = config::parse_cid(&text(&root, "cid")?)?;
            let (path, get) = (text(&path, "path")?, options.get()?);
            Ok(async move {
                let options = OpenOptions { fallback: None, get };
                let entry = peer.resolve_path(root, &path, options).await?;
                let kind = match entry.kind {
                    EntryKind::Directory => "directory",
                    EntryKind::File => "file",
                    EntryKind::Symlink => "symlink",
                    EntryKind::Other => "other",
                };
                Ok(object(&[("cid", entry.cid.to_string().into()), ("type", kind.into())]))
            })
        })
    }

    #[wasm_bindgen(js_name = hasFile)]
    pub fn has_file(&self, cid: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let cid = config::parse_cid(&text(&cid, "cid")?)?;
            Ok(async move { Ok(peer.has_file(cid).await?.into()) })
        })
    }

    pub fn provide(&self, cid: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let cid = config::parse_cid(&text(&cid, "cid")?)?;
            Ok(async move {
                peer.provide(cid).await?;
                Ok(JsValue::UNDEFINED)
            })
        })
    }

    pub fn dial(&self, address: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let address = config::parse_address(&text(&address, "address")?)?;
            Ok(async move { Ok(peer.dial(address).await?.to_string().into()) })
        })
    }

    /// Resolves when the chunk is kept; `dispatch(name, detail)` hears of it meanwhile.
    #[wasm_bindgen(js_name = startChunkDownload)]
    pub fn start_chunk_download(
        &self,
        peer_id: JsValue,
        cid: JsValue,
        file_hash: JsValue,
        chunk_index: JsValue,
        options: JsValue,
        dispatch: Function,
    ) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |options| {
            let request = chunk_request([peer_id, cid, file_hash, chunk_index], options)?;
            Ok(async move {
                let (download, events) = peer.start_chunk_download(request)?;
                tell(events, dispatch);
                download.finished().await?;
                Ok(JsValue::UNDEFINED)
            })
        })
    }

    #[wasm_bindgen(js_name = downloadFile)]
    pub fn download_file(
        &self,
        cid: JsValue,
        options: JsValue,
        dispatch: Function,
    ) -> Result<RawDownload, JsValue> {
        Options::new(options)
            .and_then(|options| RawDownload::start(&self.peer, &cid, &options, dispatch))
            .map_err(|error| failure(&error))
    }

    #[wasm_bindgen(js_name = setTrust)]
    pub fn set_trust(&self, peer: JsValue, trust: JsValue) -> Result<(), JsValue> {
        let set = || {
            let peer = config::parse_peer_id(&text(&peer, "peerID")?)?;
            let trust = trust.as_f64().filter(|trust| (0.0..=MAX_TRUST).contains(trust));
            let trust = trust.ok_or_else(|| bad("trust", "not a number from 0 to 10"))?;
            self.peer.set_trust(peer, trust);
            Ok(())
        };
        set().map_err(|error: Error| failure(&error))
    }

    pub fn storage(&self) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            Ok(async move {
                let usage = peer.usage().await?;
                let mut fields = vec![
                    ("used", (usage.used as f64).into()),
                    ("persistent", usage.persistent.into()),
                ];
                fields.extend(usage.quota.map(|quota| ("quota", (quota as f64).into())));
                Ok(object(&fields))
            })
        })
    }

    pub fn close(&self) -> Promise {
        self.life.end();
        let peer = self.peer.clone();
        promise(None, async move {
            peer.close().await;
            Ok(JsValue::UNDEFINED)
        })
    }

    fn new(peer: Peer) -> Self {
        let life = life::watch(peer.network().clone());
        Self { peer, life }
    }

    /// Parses arguments with `prepare`, at once; runs what it returns as a Promise, abortable.
    pub(super) fn call<F, W>(&self, options: JsValue, prepare: F) -> Promise
    where
        F: FnOnce(&Options) -> Result<W>,
        W: Future<Output = Result<JsValue>> + 'static,
    {
        let prepared =
            Options::new(options).and_then(|options| Ok((options.signal()?, prepare(&options)?)));
        match prepared {
            Ok((signal, work)) => {
                promise(signal, async move { work.await.map_err(|error| failure(&error)) })
            }
            Err(error) => Promise::reject(&failure(&error)),
        }
    }
}

fn optional_peer(value: &JsValue) -> Result<Option<PeerId>> {
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    config::parse_peer_id(&text(value, "peerID")?).map(Some)
}

/// A listing.
fn directory(cid: Cid, entries: &BTreeMap<String, Cid>) -> Result<JsValue> {
    let entries = entries.iter().map(|(name, cid)| (name.as_str(), cid.to_string()));
    let json = serde_json::to_string(&entries.collect::<BTreeMap<_, _>>());
    let json = json.map_err(|error| Error::Storage { reason: error.to_string() })?;
    Ok(object(&[
        ("type", "directory".into()),
        ("cid", cid.to_string().into()),
        ("entries", parse_json(&json)?),
    ]))
}

/// Names of files become keys of an object: `JSON.parse` makes even `__proto__` a plain one.
fn parse_json(text: &str) -> Result<JsValue> {
    JSON::parse(text).map_err(|error| Error::Storage { reason: thrown(&error) })
}

/// The page's own origin, if it was loaded over HTTP.
fn page_origin() -> Option<String> {
    let location = Reflect::get(&js_sys::global(), &"location".into()).ok()?;
    let origin = Reflect::get(&location, &"origin".into()).ok()?.as_string()?;
    origin.starts_with("http").then_some(origin)
}

/// A panic would otherwise reach the console as a bare "unreachable executed".
fn install_panic_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            web_sys::console::error_1(&format!("tabpeer: {info}").into())
        }));
    });
}
