//! Events of the page, the document, the navigator.

use js_sys::Reflect;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{Event, EventTarget};

/// Where an event is heard (a path from the global object) and its type.
pub type At = (&'static [&'static str], &'static str);

/// Listens until it is ended or dropped.
pub struct Listeners {
    listener: Closure<dyn FnMut(Event)>,
    targets: Vec<(EventTarget, &'static str)>,
}

impl Listeners {
    /// Calls `heard` with the type of each event. What does not exist here is left out.
    pub fn new(events: &[At], mut heard: impl FnMut(&str) + 'static) -> Self {
        let listener = Closure::new(move |event: Event| heard(&event.type_()));
        let mut targets = Vec::new();
        for (path, event) in events {
            if let Ok(target) = look_up(path).dyn_into::<EventTarget>() {
                let callback = listener.as_ref().unchecked_ref();
                if target.add_event_listener_with_callback(event, callback).is_ok() {
                    targets.push((target, *event));
                }
            }
        }
        Self { listener, targets }
    }

    pub fn end(&self) {
        for (target, event) in &self.targets {
            let callback = self.listener.as_ref().unchecked_ref();
            let _ = target.remove_event_listener_with_callback(event, callback);
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is at the path; undefined if any of it is missing.
pub fn look_up(path: &[&str]) -> JsValue {
    path.iter().fold(js_sys::global().into(), |value, name| {
        Reflect::get(&value, &(*name).into()).unwrap_or_default()
    })
}
