//! Word of new content for JS: announcing, watching, and the events.

use js_sys::{Function, Promise};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

use super::{
    arguments::{object, text},
    client::Client,
    connections::tell,
};
use crate::{
    config,
    messaging::availability::{ContentAvailable, Heard},
    peer::ContentWatch,
};

#[wasm_bindgen]
impl Client {
    #[wasm_bindgen(js_name = announceContent)]
    pub fn announce_content(&self, topic: JsValue, cid: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let topic = text(&topic, "topic")?;
            let announced = peer.announce_content(&topic, config::parse_cid(&text(&cid, "cid")?)?);
            Ok(async move { Ok(announced.await?.into()) })
        })
    }

    /// Resolves with a [`RawWatch`].
    #[wasm_bindgen(js_name = watchContent)]
    pub fn watch_content(&self, topic: JsValue, options: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |_| {
            let topic = text(&topic, "topic")?;
            Ok(async move { Ok(RawWatch(peer.watch_content(&topic).await?).into()) })
        })
    }

    /// Calls `dispatch("content:available", detail)` for each notice from now on.
    #[wasm_bindgen(js_name = hearContent)]
    pub fn hear_content(&self, dispatch: Function) {
        let mut notices = self.peer.content_notices();
        spawn_local(async move {
            while let Some((available, missed)) = notices.next().await {
                tell(&dispatch, "content:available", &detail(available, missed));
            }
        });
    }
}

/// A topic that is watched.
#[wasm_bindgen]
pub struct RawWatch(ContentWatch);

#[wasm_bindgen]
impl RawWatch {
    pub fn close(&self) {
        self.0.close();
    }
}

fn detail(available: ContentAvailable, missed: u64) -> JsValue {
    let ContentAvailable { hash, source, heard } = available;
    let heard = match heard {
        Heard::Topic(topic) => ("topic", (&*topic).into()),
        Heard::Peer(peer) => ("via", peer.to_string().into()),
    };
    object(&[
        ("hash", hash.to_string().into()),
        ("source", source.to_string().into()),
        heard,
        ("missed", (missed as f64).into()),
    ])
}
