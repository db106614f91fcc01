//! The life of a tab: looked at again, frozen and resumed, back from the cache of pages, the network
//! gone or another. Each time the network is told to look after its connections.

use js_sys::Reflect;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{Event, EventTarget};

use crate::network::Network;

/// Where each event is heard (a path from the global object) and what it is. A worker has no document.
/// That a laptop woke has no event; the network notices that by itself.
const EVENTS: [(&[&str], &str); 6] = [
    (&[], "online"),
    // What stands may be dead now, or on this machine and well.
    (&[], "offline"),
    // Back from the cache of pages.
    (&[], "pageshow"),
    (&["document"], "visibilitychange"),
    // No longer frozen.
    (&["document"], "resume"),
    // From Wi-Fi to the mobile network, without being offline in between.
    (&["navigator", "connection"], "change"),
];

/// Listens until it is ended or dropped.
pub(super) struct Life {
    listener: Closure<dyn FnMut(Event)>,
    targets: Vec<(EventTarget, &'static str)>,
}

impl Life {
    pub(super) fn watch(network: Network) -> Self {
        let mut kind = connection_type();
        let listener = Closure::new(move |event: Event| {
            let matters = match event.type_().as_str() {
                "visibilitychange" => !hidden(),
                // It also tells of every new estimate of the bandwidth.
                "change" => std::mem::replace(&mut kind, connection_type()) != kind,
                _ => true,
            };
            if matters {
                network.nudge();
            }
        });
        let mut targets = Vec::new();
        for (path, event) in EVENTS {
            if let Ok(target) = look_up(path).dyn_into::<EventTarget>() {
                let callback = listener.as_ref().unchecked_ref();
                if target.add_event_listener_with_callback(event, callback).is_ok() {
                    targets.push((target, event));
                }
            }
        }
        Self { listener, targets }
    }

    pub(super) fn end(&self) {
        for (target, event) in &self.targets {
            let callback = self.listener.as_ref().unchecked_ref();
            let _ = target.remove_event_listener_with_callback(event, callback);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is at the path; undefined if any of it is missing.
fn look_up(path: &[&str]) -> JsValue {
    path.iter().fold(js_sys::global().into(), |value, name| {
        Reflect::get(&value, &(*name).into()).unwrap_or_default()
    })
}

fn hidden() -> bool {
    look_up(&["document", "hidden"]).is_truthy()
}

/// By what this device is connected, where the browser says it.
fn connection_type() -> Option<String> {
    look_up(&["navigator", "connection", "type"]).as_string()
}
