//! A BroadcastChannel of bytes.

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{BroadcastChannel, MessageEvent};

use crate::platform::web::events::look_up;

/// Open until dropped.
pub(super) struct Channel {
    channel: BroadcastChannel,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
}

/// Whether this browser has them.
pub(super) fn exist() -> bool {
    look_up(&["BroadcastChannel"]).is_function()
}

impl Channel {
    /// Calls `heard` with what others post. What is no ArrayBuffer or has more than `longest` bytes is
    /// not looked at.
    pub fn open(
        name: &str,
        longest: usize,
        mut heard: impl FnMut(Vec<u8>) + 'static,
    ) -> Option<Self> {
        let channel = BroadcastChannel::new(name).ok()?;
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
            if let Ok(buffer) = message.data().dyn_into::<ArrayBuffer>()
                && buffer.byte_length() as usize <= longest
            {
                heard(Uint8Array::new(&buffer).to_vec());
            }
        });
        channel.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        Some(Self { channel, _on_message: on_message })
    }

    /// Whether the browser took it.
    pub fn post(&self, bytes: &[u8]) -> bool {
        self.channel.post_message(&Uint8Array::from(bytes).buffer()).is_ok()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.channel.set_onmessage(None);
        self.channel.close();
    }
}
