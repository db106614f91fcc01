//! The [`libp2p::Transport`] of WebTransport: it listens and never dials (a browser cannot be dialled this way, and
//! another relay is reached by QUIC).

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::SelectAll;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::{PeerId, Transport as _};

use super::listener::Listener;
use super::{Clock, Connection, Error};

/// Listens on `/ip4|ip6/ADDRESS/udp/PORT/quic-v1/webtransport`.
pub struct Transport {
    identity: Keypair,
    clock: Clock,
    listeners: SelectAll<Listener>,
    waker: Option<Waker>,
}

impl Transport {
    pub fn new(identity: Keypair, clock: Clock) -> Self {
        Self { identity, clock, listeners: SelectAll::new(), waker: None }
    }

    /// As the swarm wants it.
    pub fn boxed_muxer(
        self,
    ) -> libp2p::core::transport::Boxed<(PeerId, libp2p::core::muxing::StreamMuxerBox)> {
        self.map(|(peer, connection), _| {
            (peer, libp2p::core::muxing::StreamMuxerBox::new(connection))
        })
        .boxed()
    }
}

impl libp2p::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = BoxFuture<'static, Result<Self::Output, Error>>;
    type Dial = BoxFuture<'static, Result<Self::Output, Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Error>> {
        let Some(socket) = socket_address(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        self.listeners.push(Listener::bind(id, socket, self.identity.clone(), self.clock.clone())?);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        match self.listeners.iter_mut().find(|listener| listener.id() == id) {
            Some(listener) => {
                listener.close();
                true
            }
            None => false,
        }
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        match self.listeners.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            // No listener is left or yet there: a new one has to wake this task.
            Poll::Ready(None) | Poll::Pending => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// `/ip4|ip6/ADDRESS/udp/PORT/quic-v1/webtransport`, and nothing after it: the listener chooses its own hashes.
fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    let rest = (parts.next()?, parts.next()?, parts.next());
    matches!(rest, (Protocol::QuicV1, Protocol::WebTransport, None))
        .then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_addresses_are_taken() {
        let parse = |text: &str| socket_address(&text.parse().unwrap());
        assert_eq!(
            parse("/ip4/127.0.0.1/udp/4003/quic-v1/webtransport"),
            Some(([127, 0, 0, 1], 4003).into())
        );
        assert!(parse("/ip6/::1/udp/0/quic-v1/webtransport").is_some());
        for other in [
            "/ip4/127.0.0.1/udp/4003/quic-v1",
            "/ip4/127.0.0.1/tcp/4003/ws",
            "/dns4/example.com/udp/4003/quic-v1/webtransport",
            "/ip4/127.0.0.1/udp/4003/quic-v1/webtransport/p2p-circuit",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
