//! What carries [`crate::platform::tabs`]: BroadcastChannels and Web Locks, in a page or a worker.
//!
//! Not a SharedWorker, which would have to be a script of its own that every app serves and which
//! Chromium on Android does not have; nor a MessagePort, which a BroadcastChannel cannot hand over.

mod channel;
mod connection;
mod hub;
mod transport;

use std::{future::poll_fn, rc::Rc};

use libp2p::{Multiaddr, PeerId, identity::Keypair};

use self::{hub::Hub, transport::TabTransport};
use super::events::{At, Listeners};
use crate::platform::{
    nearby::{Neighbour, Search},
    transport::{PeerTransport, TransportSetupError, secure},
};

/// When a page is put aside, and when it is back. The first have to be acted upon before they are over.
const ASIDE: [At; 2] = [(&[], "pagehide"), (&["document"], "freeze")];
const BACK: [At; 2] = [(&[], "pageshow"), (&["document"], "resume")];

/// Finds tabs, and lets itself be found, until it is dropped.
pub struct Finder(Option<Presence>);

struct Presence {
    hub: Rc<Hub>,
    _listeners: [Listeners; 2],
}

impl Finder {
    /// Finds nobody if it is not to, or the browser has no channels.
    pub fn start(
        keypair: &Keypair,
        search: Search,
    ) -> Result<(Self, Option<PeerTransport>), TransportSetupError> {
        if !search.tabs || !channel::exist() {
            return Ok((Self(None), None));
        }
        let hub = Hub::new(PeerId::from_public_key(&keypair.public()));
        hub.come();
        let [gone, back] = [hub.clone(), hub.clone()];
        let _listeners = [
            Listeners::new(&ASIDE, move |_| gone.go()),
            Listeners::new(&BACK, move |_| back.come()),
        ];
        let transport = secure(TabTransport::new(hub.clone()), keypair)?;
        Ok((Self(Some(Presence { hub, _listeners })), Some(transport)))
    }

    pub async fn next(&mut self) -> Neighbour {
        match &self.0 {
            Some(presence) => poll_fn(|cx| presence.hub.poll_found(cx)).await,
            None => std::future::pending().await,
        }
    }

    pub fn announce(&mut self) {
        if let Some(presence) = &self.0 {
            presence.hub.announce();
        }
    }

    pub fn listening(&mut self, _: &Multiaddr, _: bool) {}

    pub fn finds_tabs(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.hub.go();
    }
}
