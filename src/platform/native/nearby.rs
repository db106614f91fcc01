//! Peers of the local network.

use libp2p::{Multiaddr, identity::Keypair};

use crate::platform::{
    nearby::{Neighbour, Search},
    transport::{PeerTransport, TransportSetupError},
};

/// Finds nobody.
#[derive(Debug)]
pub struct Finder;

impl Finder {
    pub fn start(
        _: &Keypair,
        _: Search,
    ) -> Result<(Self, Option<PeerTransport>), TransportSetupError> {
        Ok((Self, None))
    }

    pub async fn next(&mut self) -> Neighbour {
        std::future::pending().await
    }

    pub fn announce(&mut self) {}

    pub fn listening(&mut self, _: &Multiaddr, _: bool) {}

    pub fn finds_tabs(&self) -> bool {
        false
    }
}
