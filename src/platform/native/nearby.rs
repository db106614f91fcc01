//! Peers of the local network, by libp2p's mDNS.
//!
//! Its behaviour is driven here and not by the swarm, which needs nothing of it but what is found. It
//! keeps any number of what it hears of, so it is begun anew when that is too much. Its tasks end only
//! when they hear of somebody, so it is told at the end that there is nothing to tell of any more.

use std::{collections::VecDeque, future::poll_fn, task::Poll};

use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    identity::Keypair,
    mdns::{self, Event},
    swarm::{
        NetworkBehaviour as _, ToSwarm,
        behaviour::{ExpiredListenAddr, FromSwarm, NewListenAddr},
    },
};

use crate::platform::{
    Dialer,
    carrier::is_loopback,
    nearby::{Neighbour, Search},
    transport::{PeerTransport, TransportSetupError},
};

/// Addresses that are known at once.
const MAX_DISCOVERED: usize = 256;

/// Finds peers and lets itself be found, until it is dropped.
pub struct Finder(Option<Mdns>);

struct Mdns {
    peer: PeerId,
    behaviour: mdns::tokio::Behaviour,
    /// Where this peer accepts connections.
    listening: Vec<Multiaddr>,
    /// What was told; no more than the behaviour knows.
    told: Vec<(PeerId, Multiaddr)>,
    ready: VecDeque<Neighbour>,
}

impl Finder {
    pub fn start(
        keypair: &Keypair,
        search: Search,
    ) -> Result<(Self, Option<PeerTransport>), TransportSetupError> {
        let mdns = match search.mdns {
            true => Some(Mdns::new(keypair.public().to_peer_id())?),
            false => None,
        };
        Ok((Self(mdns), None))
    }

    pub async fn next(&mut self) -> Neighbour {
        match &mut self.0 {
            Some(mdns) => mdns.next().await,
            None => std::future::pending().await,
        }
    }

    /// It asks by itself, again and again.
    pub fn announce(&mut self) {}

    pub fn listening(&mut self, address: &Multiaddr, yes: bool) {
        if let Some(mdns) = self.0.as_mut().filter(|_| of_use(address)) {
            mdns.listening(address, yes);
        }
    }

    pub fn finds_tabs(&self) -> bool {
        false
    }
}

impl Mdns {
    fn new(peer: PeerId) -> Result<Self, TransportSetupError> {
        let behaviour = behaviour(peer).map_err(|e| TransportSetupError(format!("mDNS: {e}")))?;
        let (listening, told, ready) = Default::default();
        Ok(Self { peer, behaviour, listening, told, ready })
    }

    async fn next(&mut self) -> Neighbour {
        poll_fn(|cx| {
            loop {
                if let Some(neighbour) = self.ready.pop_front() {
                    return Poll::Ready(neighbour);
                }
                match self.behaviour.poll(cx) {
                    Poll::Ready(ToSwarm::GenerateEvent(event)) => self.heard(event),
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn heard(&mut self, event: Event) {
        match event {
            Event::Discovered(found) => {
                for (peer, address) in found {
                    if peer != self.peer && of_use(&address) {
                        self.told.push((peer, address.clone()));
                        self.ready.push_back(Neighbour::Found { peer, address });
                    }
                }
            }
            Event::Expired(gone) => {
                for (peer, address) in gone {
                    self.told.retain(|(told, at)| *told != peer || *at != address);
                    self.ready.push_back(Neighbour::Gone { peer, address });
                }
            }
        }
        if self.behaviour.discovered_nodes().len() > MAX_DISCOVERED {
            self.begin_anew();
        }
    }

    fn begin_anew(&mut self) {
        // What fails now fails because this machine has nothing left for it; then what is known stays.
        let Ok(behaviour) = behaviour(self.peer) else { return };
        let listening = std::mem::take(&mut self.listening);
        for address in &listening {
            self.listening(address, false);
        }
        self.behaviour = behaviour;
        for address in &listening {
            self.listening(address, true);
        }
        self.ready.clear();
        let gone = self.told.drain(..).map(|(peer, address)| Neighbour::Gone { peer, address });
        self.ready.extend(gone);
    }

    fn listening(&mut self, addr: &Multiaddr, yes: bool) {
        self.listening.retain(|known| known != addr);
        let listener_id = ListenerId::next();
        self.behaviour.on_swarm_event(if yes {
            self.listening.push(addr.clone());
            FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr })
        } else {
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr })
        });
    }
}

impl Drop for Mdns {
    fn drop(&mut self) {
        for address in std::mem::take(&mut self.listening) {
            self.listening(&address, false);
        }
    }
}

fn behaviour(peer: PeerId) -> std::io::Result<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config::default(), peer)
}

/// Others of this network can dial it, and this peer can.
fn of_use(address: &Multiaddr) -> bool {
    Dialer::Native.rank_direct(address).is_some() && !is_loopback(address)
}
