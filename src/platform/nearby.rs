//! Peers that are found without being named: tabs of the same origin in a browser, peers of the local
//! network natively. What looks for them is each side's `Finder`:
//!
//! * `Finder::start(keypair, Search)` gives it, and a transport if the peers are reached by one of its own;
//! * `next()` resolves with the next [`Neighbour`], or never;
//! * `announce()` says that now is a good time to be found again;
//! * `listening(address, yes)` tells it where this peer accepts connections;
//! * `finds_tabs()`.

use libp2p::{Multiaddr, PeerId};

/// What to look for, where it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// In a browser: other tabs and workers of the same origin.
    pub tabs: bool,
    /// Natively: peers of the local network, by mDNS. They are told that this peer is there, and where.
    pub mdns: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self { tabs: true, mdns: false }
    }
}

/// What was found, or is no longer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neighbour {
    Found { peer: PeerId, address: Multiaddr },
    Gone { peer: PeerId, address: Multiaddr },
}
