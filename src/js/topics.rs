//! Topics for JS: a subscription is an object with `next()`, which `index.js` turns into callbacks and
//! async iterators.

use std::sync::Arc;

use js_sys::{Array, ArrayBuffer, JSON, Promise, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use web_sys::Blob;

use super::{
    arguments::{bad, object, text},
    client::Client,
    content::view,
    failure::{failure, promise, thrown},
};
use crate::{
    error::{Error, Result},
    messaging::{
        direct::Value,
        topics::{MAX_MESSAGE, Queue, Subscription, TopicEvent},
    },
};

#[wasm_bindgen]
impl Client {
    /// Resolves with a [`RawTopic`].
    pub fn subscribe(&self, topic: JsValue, options: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |_| {
            let topic = text(&topic, "topic")?;
            Ok(async move {
                let subscription = peer.subscribe(&topic).await?;
                Ok(RawTopic { queue: subscription.queue(), _subscription: subscription }.into())
            })
        })
    }

    pub fn publish(&self, topic: JsValue, data: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let published = peer.publish(&text(&topic, "topic")?, outgoing(data)?);
            Ok(async move { Ok(published.await?.into()) })
        })
    }

    #[wasm_bindgen(js_name = listPeers)]
    pub fn list_peers(&self, topic: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let topic = text(&topic, "topic")?;
            Ok(async move {
                let peers = peer.list_peers(&topic).await?;
                Ok(peers
                    .iter()
                    .map(|peer| JsValue::from(peer.to_string()))
                    .collect::<Array>()
                    .into())
            })
        })
    }
}

/// A subscription.
#[wasm_bindgen]
pub struct RawTopic {
    queue: Arc<Queue>,
    _subscription: Subscription,
}

#[wasm_bindgen]
impl RawTopic {
    /// The next event: `{from, data}`, `{peer, joined}` or `{lagged}`; `undefined` when it is closed.
    pub fn next(&self) -> Promise {
        let queue = self.queue.clone();
        promise(None, async move {
            let Some(event) = queue.next().await else { return Ok(JsValue::UNDEFINED) };
            incoming(event).map_err(|error| failure(&error))
        })
    }

    pub fn close(&self) {
        self.queue.close();
    }
}

fn incoming(event: TopicEvent) -> Result<JsValue> {
    Ok(match event {
        TopicEvent::Message { from, value } => {
            let data = match value {
                // It was checked to be JSON; what fails is the browser's memory.
                Value::Json(text) => {
                    JSON::parse(&text).map_err(|error| Error::Storage { reason: thrown(&error) })?
                }
                Value::Bytes(bytes) => Uint8Array::from(&bytes[..]).into(),
            };
            object(&[("from", from.to_string().into()), ("data", data)])
        }
        TopicEvent::Peer(change) => {
            object(&[("peer", change.peer.to_string().into()), ("joined", change.joined.into())])
        }
        TopicEvent::Lagged(count) => object(&[("lagged", (count as f64).into())]),
    })
}

/// Bytes as they are, all else as JSON; what is too large is not taken over into this memory.
fn outgoing(data: JsValue) -> Result<Value> {
    if data.is_instance_of::<ArrayBuffer>() || ArrayBuffer::is_view(&data) {
        let bytes = view(&data).map_err(|error| bad("data", &error.to_string()))?;
        check(bytes.length())?;
        return Ok(Value::Bytes(bytes.to_vec().into()));
    }
    // It would become `{}`, and nobody means that.
    if data.is_instance_of::<Blob>() {
        return Err(bad("data", "a Blob: publish its bytes, or store it and publish its CID"));
    }
    let json = JSON::stringify(&data).map_err(|error| bad("data", &thrown(&error)))?;
    if !json.is_string() {
        return Err(bad("data", "no JSON value"));
    }
    check(json.length())?;
    Ok(Value::Json(json.into()))
}

fn check(len: u32) -> Result<()> {
    if len as usize <= MAX_MESSAGE {
        return Ok(());
    }
    let reason = format!("{len} bytes, at most {MAX_MESSAGE}");
    Err(Error::TooLarge { what: "the message".into(), reason })
}
