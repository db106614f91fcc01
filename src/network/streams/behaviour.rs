//! The part of the streams behaviour that all connections share.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure,
        NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use super::{
    IncomingStreams, OpenReply,
    handler::{Handler, In, Request},
    registry::{Registry, Shared},
};
use crate::boxmap::{BoxMap, BoxSet};
use crate::network::error::NetworkError;

/// Opens and accepts streams. Which connection to take is the caller's business.
#[derive(Debug, Default)]
pub struct Behaviour {
    registry: Registry,
    peers: BoxMap<PeerId, Connections>,
    /// Whose connections stay although nothing uses them; the caller bounds it.
    kept: BoxSet<PeerId>,
    queue: VecDeque<ToSwarm<Infallible, In>>,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Connections {
    shared: Shared,
    ids: Vec<ConnectionId>,
}

impl Behaviour {
    /// Opens a stream over this connection; the answer, or the error, goes to `reply`, which is
    /// dropped if the connection ends meanwhile.
    pub fn open(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        protocol: StreamProtocol,
        reply: OpenReply,
    ) {
        // If it has just gone, there is no handler, and this is dropped.
        let shared = self.peers.get(&peer).map(|known| known.shared.clone()).unwrap_or_default();
        let using = shared.using.count();
        self.notify(peer, connection, In::Open(Request { protocol, reply, using }));
    }

    /// Whether a stream is open with the peer, or being opened, other than those of which it was said
    /// that they are no reason to stay connected.
    pub fn in_use(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|known| known.shared.using.in_use())
    }

    /// Keeps the peer's connections, those that it has and those to come, although no stream is open,
    /// or no longer.
    pub fn keep(&mut self, peer: PeerId, keep: bool) {
        if keep {
            self.kept.insert(peer);
        } else {
            self.kept.remove(&peer);
        }
        let Some(known) = self.peers.get(&peer) else { return };
        known.shared.kept.store(keep, Ordering::Relaxed);
        for connection in known.ids.clone() {
            self.notify(peer, connection, In::Changed);
        }
    }

    /// Accepts the streams that others open for `protocol` from now on.
    pub fn accept(&mut self, protocol: StreamProtocol) -> Result<IncomingStreams, NetworkError> {
        let incoming = self.registry.accept(protocol)?;
        let connections: Vec<_> = self
            .peers
            .iter()
            .flat_map(|(peer, connections)| connections.ids.iter().map(|id| (*peer, *id)))
            .collect();
        for (peer, connection) in connections {
            self.notify(peer, connection, In::Changed);
        }
        Ok(incoming)
    }

    fn notify(&mut self, peer_id: PeerId, connection: ConnectionId, event: In) {
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler, event });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn handler(&mut self, peer: PeerId) -> Handler {
        let known = self.peers.entry(peer).or_default();
        known.shared.kept.store(self.kept.contains(&peer), Ordering::Relaxed);
        Handler::new(peer, self.registry.clone(), known.shared.clone())
    }

    fn forget_if_unconnected(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|connections| connections.ids.is_empty()) {
            self.peers.remove(&peer);
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let connections = self.peers.entry(event.peer_id).or_default();
                connections.ids.push(event.connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(connections) = self.peers.get_mut(&peer_id) {
                    connections.ids.retain(|id| *id != connection_id);
                }
                self.forget_if_unconnected(peer_id);
            }
            // Another behaviour may refuse a connection after this one has made its handler.
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), .. })
            | FromSwarm::ListenFailure(ListenFailure { peer_id: Some(peer), .. }) => {
                self.forget_if_unconnected(peer);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(event) = self.queue.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
