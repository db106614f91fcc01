//! Peers that are found without being named ([`crate::platform::nearby`]): dials them as the keeper
//! decides, and keeps them connected, which costs little and spares them a relay.

use libp2p::{
    PeerId,
    identity::Keypair,
    swarm::dial_opts::{DialOpts, PeerCondition},
};

use super::{
    event_loop::{EventLoop, Purpose},
    nearby_keeper::NearbyKeeper,
};
use crate::platform::{
    Finder,
    nearby::{Neighbour, Search},
    transport::{PeerTransport, TransportSetupError},
};

pub(super) struct Nearby {
    pub(super) finder: Finder,
    pub(super) keeper: NearbyKeeper,
}

impl Nearby {
    /// What finds peers, and a transport that reaches them, if they need one of their own.
    pub(super) fn start(
        keypair: &Keypair,
        search: Search,
    ) -> Result<(Self, Option<PeerTransport>), TransportSetupError> {
        let (finder, transport) = Finder::start(keypair, search)?;
        let keeper = NearbyKeeper::new(PeerId::from_public_key(&keypair.public()));
        Ok((Self { finder, keeper }, transport))
    }
}

impl EventLoop {
    pub(super) fn on_neighbour(&mut self, neighbour: Neighbour) {
        match neighbour {
            Neighbour::Found { peer, address } => {
                // Those of the local network can be dialled by anybody; of a tab this notes nothing.
                self.book.add(peer, address.clone());
                let connected = self.connections.direct(peer).is_some();
                if self.nearby.keeper.found(peer, address, connected, self.now()) {
                    self.swarm.behaviour_mut().streams.keep(peer, true);
                }
            }
            Neighbour::Gone { peer, address } => {
                if self.nearby.keeper.gone(peer, &address) {
                    let protected = self.keeping.contains(peer);
                    self.swarm.behaviour_mut().streams.keep(peer, protected);
                }
            }
        }
    }

    /// Who is due.
    pub(super) fn dial_nearby(&mut self) {
        let now = self.now();
        if self.nearby.keeper.next_wake().is_none_or(|wake| wake > now) {
            return;
        }
        for peer in self.nearby.keeper.due(now) {
            if self.connections.direct(peer).is_some() {
                self.nearby.keeper.connected(peer, now);
                continue;
            }
            // A circuit is no reason not to.
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::NotDialing)
                .addresses(self.nearby.keeper.addresses(peer))
                .build();
            let id = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => drop(self.dials.insert(id, Purpose::Nearby(peer))),
                Err(_) => self.nearby.keeper.failed(peer, now),
            }
        }
    }

    pub(super) fn on_neighbour_connected(&mut self, peer: PeerId) {
        if self.connections.direct(peer).is_some() {
            self.nearby.keeper.connected(peer, self.now());
        }
    }

    pub(super) fn on_neighbour_disconnected(&mut self, peer: PeerId) {
        if self.connections.direct(peer).is_none() {
            self.nearby.keeper.disconnected(peer, self.now());
        }
    }
}
