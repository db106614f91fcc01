//! Direct messages for JS: values going out and coming in, and the page's callbacks, each awaited
//! before the next message of the same peer is handed on.

use std::sync::Arc;

use bytes::Bytes;
use js_sys::{ArrayBuffer, Function, JSON, Promise, Uint8Array};
use libp2p::PeerId;
use tokio::sync::Semaphore;
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::Blob;

use super::{
    arguments::{bad, text},
    client::Client,
    content::view,
    failure::thrown,
};
use crate::{
    config,
    error::{Error, Result},
    messaging::direct::{Incoming, MAX_VALUE, Value},
    peer::{Peer, SendOptions},
};

/// Callbacks of one protocol that have not come to an end, each for another peer; while there are so
/// many, no message is taken.
const MAX_HANDLING: usize = 1024;

#[wasm_bindgen]
impl Client {
    pub fn start(&self, protocol: JsValue, on_data: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let protocol = text(&protocol, "protocol")?;
            let on_data = on_data.dyn_into().map_err(|_| bad("onData", "not a function"))?;
            Ok(async move {
                let incoming = peer.start(&protocol).await?;
                spawn_local(hand_on(peer, incoming, on_data));
                Ok(JsValue::UNDEFINED)
            })
        })
    }

    pub fn stop(&self, protocol: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let protocol = text(&protocol, "protocol")?;
            Ok(async move {
                peer.stop(&protocol).await;
                Ok(JsValue::UNDEFINED)
            })
        })
    }

    /// What it holds of the page's memory is bounded from this call on, not only once it runs.
    pub fn send(
        &self,
        peer_id: JsValue,
        protocol: JsValue,
        data: JsValue,
        options: JsValue,
    ) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |options| {
            let to = config::parse_peer_id(&text(&peer_id, "peerID")?)?;
            let protocol = text(&protocol, "protocol")?;
            let options = SendOptions { timeout: options.timeout()? };
            let sending = peer.send(to, &protocol, outgoing(data)?, options);
            Ok(async move {
                sending.await?;
                // Until now it stays, whatever becomes of the client.
                drop(peer);
                Ok(JsValue::UNDEFINED)
            })
        })
    }
}

/// Calls `on_data(peerID, data)` for each message until the protocol is stopped. As long as it is
/// started the peer stays, whether or not the page still holds on to the client.
async fn hand_on(_peer: Peer, mut incoming: Incoming, on_data: Function) {
    let handling = Arc::new(Semaphore::new(MAX_HANDLING));
    while let Ok(place) = handling.clone().acquire_owned().await {
        let Some(mut message) = incoming.next().await else { return };
        // What stays until the callback ends is the peer's turn, not its bytes.
        let value = std::mem::replace(&mut message.value, Value::Bytes(Bytes::new()));
        match call(&on_data, message.from, &value) {
            Ok(ends) if ends.is_object() => spawn_local(async move {
                if let Err(error) = JsFuture::from(Promise::resolve(&ends)).await {
                    report(&error);
                }
                drop((message, place));
            }),
            Ok(_) => {}
            Err(error) => report(&error),
        }
    }
}

fn call(on_data: &Function, from: PeerId, value: &Value) -> Result<JsValue, JsValue> {
    let data = match value {
        Value::Json(text) => JSON::parse(text)?,
        Value::Bytes(bytes) => Uint8Array::from(&bytes[..]).into(),
    };
    on_data.call2(&JsValue::UNDEFINED, &from.to_string().into(), &data)
}

fn report(error: &JsValue) {
    web_sys::console::error_2(&"tabpeer: onData threw".into(), error);
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
        return Err(bad("data", "a Blob: send its bytes, or store it and send its CID"));
    }
    let json = JSON::stringify(&data).map_err(|error| bad("data", &thrown(&error)))?;
    if !json.is_string() {
        return Err(bad("data", "no JSON value"));
    }
    check(json.length())?;
    Ok(Value::Json(json.into()))
}

fn check(len: u32) -> Result<()> {
    if len as usize <= MAX_VALUE {
        return Ok(());
    }
    let reason = format!("{len} bytes, at most {MAX_VALUE}");
    Err(Error::TooLarge { what: "the message".into(), reason })
}
