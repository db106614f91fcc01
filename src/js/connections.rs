//! Connections for JS: peers to keep, the status as one object, and its changes as events.

use js_sys::{Array, Function, Promise};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;
use web_sys::AbortSignal;

use super::{
    arguments::{Options, bad, object, text},
    client::Client,
};
use crate::{
    config,
    error::Result,
    network::{
        CircuitLimit, DhtState, PeerInfo, RelayState, RelayStatus, peer_keeper::MAX_KEPT_PEERS,
    },
    peer::{Change, FindOptions, Overview},
    platform::{
        self, Carrier,
        time::{Duration, Instant},
    },
};

#[wasm_bindgen]
impl Client {
    /// `addPeers` and `removePeers`.
    #[wasm_bindgen(js_name = keepPeers)]
    pub fn keep_peers(&self, peers: JsValue, keep: bool) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            let peers = peer_ids(peers)?;
            Ok(async move {
                peer.keep_peers(peers, keep).await?;
                Ok(JsValue::UNDEFINED)
            })
        })
    }

    /// Resolves with addresses.
    #[wasm_bindgen(js_name = findPeer)]
    pub fn find_peer(&self, peer_id: JsValue, options: JsValue) -> Promise {
        let peer = self.peer.clone();
        self.call(options, move |options| {
            let wanted = config::parse_peer_id(&text(&peer_id, "peerID")?)?;
            let options = FindOptions { timeout: options.timeout()? };
            Ok(async move {
                let addresses = peer.find_peer(wanted, options).await?;
                Ok(list(addresses.iter().map(|address| JsValue::from(address.to_string()))))
            })
        })
    }

    #[wasm_bindgen(js_name = dhtReady)]
    pub fn dht_ready(&self) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| Ok(async move { Ok(peer.dht_ready().await.into()) }))
    }

    pub fn status(&self) -> Promise {
        let peer = self.peer.clone();
        self.call(JsValue::UNDEFINED, move |_| {
            Ok(async move {
                let id = peer.peer_id().to_string();
                Ok(status(id, &peer.overview().await?))
            })
        })
    }

    /// Calls `dispatch(name, detail)` for each change from now on, last of all with `close`.
    pub fn watch(&self, dispatch: Function) {
        let mut changes = self.peer.changes();
        spawn_local(async move {
            while let Some(change) = changes.next().await {
                let (name, detail) = event(change);
                tell(&dispatch, name, &detail);
            }
            tell(&dispatch, "close", &JsValue::NULL);
        });
    }
}

impl Options {
    /// `connect`'s signal; and `onClose`, which `index.js` calls, is a function.
    pub(super) fn connect_signal(&self) -> Result<Option<AbortSignal>> {
        self.read("onClose", "not a function", |value| value.dyn_into::<Function>().ok())?;
        self.signal()
    }
}

/// One that throws is reported and ends nothing.
pub(super) fn tell(dispatch: &Function, name: &str, detail: &JsValue) {
    if let Err(error) = dispatch.call2(&JsValue::NULL, &name.into(), detail) {
        web_sys::console::error_2(&"tabpeer: a listener threw".into(), &error);
    }
}

fn event(change: Change) -> (&'static str, JsValue) {
    let relay = |relay: String, peer: Option<libp2p::PeerId>| {
        [("relay", relay.into()), ("peerID", optional(peer.map(|peer| peer.to_string())))]
    };
    match change {
        Change::Connected { info, protected } => ("peer:connect", peer(&info, protected)),
        Change::Disconnected(peer) => {
            ("peer:disconnect", object(&[("peerID", peer.to_string().into())]))
        }
        Change::RelayUp { relay: name, peer } => ("relay:up", object(&relay(name, peer))),
        Change::RelayDown { relay: name, peer, reason } => {
            let [name, peer] = relay(name, peer);
            ("relay:down", object(&[name, peer, ("reason", reason.into())]))
        }
        Change::Updated => ("update", JsValue::NULL),
    }
}

fn status(id: String, overview: &Overview) -> JsValue {
    let Overview { network, peers, storage } = overview;
    let now = Instant::now();
    let relays = network.relays.iter().map(|relay| {
        let known = relay.peer.and_then(|peer| peers.get(&peer));
        self::relay(relay, known.and_then(|info| info.latency), now)
    });
    let others = peers.values().filter(|info| !info.is_relay);
    let others = others.map(|info| peer(info, network.protected.contains(&info.id)));
    let protected = network.protected.iter().map(|peer| JsValue::from(peer.to_string()));
    let addresses = network.listen_addresses.iter().map(|at| JsValue::from(at.to_string()));
    let tabs = network.tabs.then(|| Carrier::Tab.name());
    let transports = platform::dialer().transports().into_iter().chain(tabs).map(JsValue::from);
    let reachable = if network.listen_addresses.is_empty() { "no" } else { "relayed" };
    let dht = match network.dht {
        DhtState::Bootstrapping => "bootstrapping",
        DhtState::Ready => "ready",
        DhtState::Unavailable => "unavailable",
    };
    object(&[
        ("peerID", id.into()),
        ("connected", network.online().into()),
        ("dht", dht.into()),
        ("reachable", reachable.into()),
        ("addresses", list(addresses)),
        ("transports", list(transports)),
        ("relays", list(relays)),
        ("peers", list(others)),
        ("protected", list(protected)),
        (
            "storage",
            object(&[
                ("used", (storage.used as f64).into()),
                ("quota", optional(storage.quota.map(|quota| quota as f64))),
                ("persistent", storage.persistent.into()),
            ]),
        ),
    ])
}

fn relay(relay: &RelayStatus, latency: Option<Duration>, now: Instant) -> JsValue {
    let (state, reason, wait) = match &relay.state {
        RelayState::Connecting => ("connecting", None, None),
        RelayState::Connected => ("connected", None, None),
        RelayState::Reserved => ("reserved", None, None),
        RelayState::Backoff { next_try, reason } => {
            ("waiting", Some(reason), Some(next_try.saturating_duration_since(now)))
        }
        RelayState::Failed { reason } => ("failed", Some(reason), None),
    };
    object(&[
        ("relay", relay.spec.as_str().into()),
        ("peerID", optional(relay.peer.map(|peer| peer.to_string()))),
        ("address", optional(relay.address.as_ref().map(ToString::to_string))),
        ("state", state.into()),
        ("reason", optional(reason.map(String::as_str))),
        ("retryIn", optional(wait.map(millis))),
        ("latency", optional(latency.map(millis))),
        ("limit", optional(relay.limit.filter(CircuitLimit::is_limited).map(limit))),
    ])
}

fn limit(limit: CircuitLimit) -> JsValue {
    object(&[
        ("bytes", optional(limit.bytes.map(|bytes| bytes as f64))),
        ("seconds", optional(limit.duration.map(|duration| duration.as_secs_f64()))),
    ])
}

fn peer(info: &PeerInfo, protected: bool) -> JsValue {
    object(&[
        ("peerID", info.id.to_string().into()),
        ("route", if info.is_circuit() { "relayed" } else { "direct" }.into()),
        ("relay", optional(info.relay.map(|relay| relay.to_string()))),
        ("transport", optional(info.carrier().map(|carrier| carrier.name()))),
        ("address", info.address.to_string().into()),
        ("limited", info.limited.into()),
        ("latency", optional(info.latency.map(millis))),
        ("agent", optional(info.agent.as_deref())),
        ("protocols", list(info.protocols.iter().map(|protocol| protocol.as_str().into()))),
        ("protected", protected.into()),
    ])
}

fn peer_ids(value: JsValue) -> Result<Vec<libp2p::PeerId>> {
    let peers: Array = value.dyn_into().map_err(|_| bad("peerIDs", "not an array"))?;
    if peers.length() as usize > MAX_KEPT_PEERS {
        return Err(bad("peerIDs", &format!("more than {MAX_KEPT_PEERS}")));
    }
    peers.iter().map(|peer| config::parse_peer_id(&text(&peer, "peerIDs")?)).collect()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A property that is there and undefined does no harm to a caller.
fn optional(value: Option<impl Into<JsValue>>) -> JsValue {
    value.map_or(JsValue::UNDEFINED, Into::into)
}

fn list(items: impl Iterator<Item = JsValue>) -> JsValue {
    let out = Array::new();
    for item in items {
        out.push(&item);
    }
    out.into()
}
