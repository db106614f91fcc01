//! What a browser can dial: WebTransport and WebSocket.

use js_sys::Reflect;
use libp2p::{Transport, core::muxing::StreamMuxerBox, identity::Keypair, swarm};
use wasm_bindgen::JsValue;

use super::{dial_only::DialOnly, websocket::WebSockets, webtransport::WebTransports};
use crate::platform::{
    Carrier, Dialer,
    one_way::OneWay,
    transport::{Only, PeerTransport, TransportSetupError, secure},
};

/// What this page or worker may dial, asked of its global scope, since a worker has no window.
pub fn dialer() -> Dialer {
    let global = js_sys::global();
    let of = |object: &JsValue, name: &str| Reflect::get(object, &name.into()).ok();
    let location = of(&global, "location").unwrap_or(JsValue::UNDEFINED);
    let protocol = of(&location, "protocol").and_then(|protocol| protocol.as_string());
    Dialer::Browser {
        https: protocol.as_deref() == Some("https:"),
        webtransport: of(&global, "WebTransport").is_some_and(|value| value.is_function()),
    }
}

pub fn swarm_config() -> swarm::Config {
    swarm::Config::with_wasm_executor()
}

pub fn base_transport(keypair: &Keypair) -> Result<PeerTransport, TransportSetupError> {
    let webtransport = DialOnly(WebTransports::new(keypair)?)
        .map(|(peer, session), _| (peer, StreamMuxerBox::new(OneWay(session))))
        .boxed();
    let webtransport = Only::new(&[Carrier::WebTransport], webtransport);
    let websocket = secure(DialOnly(WebSockets), keypair)?;
    let websocket = Only::new(&[Carrier::WebSocket, Carrier::SecureWebSocket], websocket);
    Ok(webtransport.or_transport(websocket).map(|either, _| either.into_inner()).boxed())
}
