//! The life of a tab: looked at again, frozen and resumed, back from the cache of pages, the network
//! gone or another. Each time the network is told to look after its connections.

use crate::{
    network::Network,
    platform::web::events::{At, Listeners, look_up},
};

/// A worker has no document. That a laptop woke has no event; the network notices that by itself.
const EVENTS: [At; 6] = [
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

/// Listens until it is ended.
pub(super) fn watch(network: Network) -> Listeners {
    let mut kind = connection_type();
    Listeners::new(&EVENTS, move |event| {
        let matters = match event {
            "visibilitychange" => !hidden(),
            // It also tells of every new estimate of the bandwidth.
            "change" => std::mem::replace(&mut kind, connection_type()) != kind,
            _ => true,
        };
        if matters {
            network.nudge();
        }
    })
}

fn hidden() -> bool {
    look_up(&["document", "hidden"]).is_truthy()
}

/// By what this device is connected, where the browser says it.
fn connection_type() -> Option<String> {
    look_up(&["navigator", "connection", "type"]).as_string()
}
