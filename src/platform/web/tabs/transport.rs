//! Connections between tabs for the swarm. Those that others open come without anything to listen on, so
//! that no address of a tab is among those that this peer tells of itself.

use std::{
    future::{Ready, ready},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::LocalBoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};
use send_wrapper::SendWrapper;

use super::{connection::Connection, hub::Hub};
use crate::platform::{
    tabs::{Tab, link::Broken},
    time::{self, Duration},
};

/// How long another tab may take to listen. One that is stopped should not keep others from trying the
/// other ways to its peer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct TabTransport {
    hub: SendWrapper<Rc<Hub>>,
    listener: ListenerId,
}

impl TabTransport {
    pub fn new(hub: Rc<Hub>) -> Self {
        Self { hub: SendWrapper::new(hub), listener: ListenerId::next() }
    }
}

impl Transport for TabTransport {
    type Output = Connection;
    type Error = Broken;
    type ListenerUpgrade = Ready<Result<Connection, Broken>>;
    type Dial = SendWrapper<LocalBoxFuture<'static, Result<Connection, Broken>>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Broken>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    /// Of tabs that were found, as the peer that they say they are; no others, whoever names them.
    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Broken>> {
        let known = parts(&address).filter(|(tab, peer)| self.hub.knows(*tab, *peer));
        let Some((tab, _)) = known.filter(|_| !options.role.is_listener()) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let connection = self.hub.dial(tab).map_err(TransportError::Other)?;
        let opening = async move {
            time::timeout(ANSWER_TIMEOUT, connection.opened())
                .await
                .map_err(|_| Broken::Silent)??;
            Ok(connection)
        };
        Ok(SendWrapper::new(opening.boxed_local()))
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Broken>> {
        self.hub.poll_incoming(cx).map(|incoming| TransportEvent::Incoming {
            listener_id: self.listener,
            upgrade: ready(Ok(incoming.connection)),
            local_addr: Protocol::Memory(incoming.to).into(),
            send_back_addr: Protocol::Memory(incoming.from).into(),
        })
    }
}

fn parts(address: &Multiaddr) -> Option<(Tab, PeerId)> {
    let mut parts = address.iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Protocol::Memory(tab)), Some(Protocol::P2p(peer)), None) => Some((tab, peer)),
        _ => None,
    }
}
