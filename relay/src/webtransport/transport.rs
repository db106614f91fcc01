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
use tabpeer::platform::one_way::OneWay;

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
            (peer, libp2p::core::muxing::StreamMuxerBox::new(OneWay(connection)))
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
            Some(listener) => listener.close(),
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

    async fn next(
        transport: &mut Transport,
    ) -> TransportEvent<<Transport as libp2p::Transport>::ListenerUpgrade, Error> {
        let event =
            std::future::poll_fn(|cx| libp2p::Transport::poll(Pin::new(&mut *transport), cx));
        tokio::time::timeout(std::time::Duration::from_secs(5), event).await.unwrap()
    }

    #[tokio::test]
    async fn a_listener_tells_its_addresses_and_closes() {
        let clock: Clock = std::sync::Arc::new(std::time::SystemTime::now);
        let mut transport = Transport::new(Keypair::generate_ed25519(), clock);
        let id = ListenerId::next();
        let wildcard = "/ip4/0.0.0.0/udp/0/quic-v1/webtransport".parse().unwrap();
        transport.listen_on(id, wildcard).unwrap();
        let TransportEvent::NewAddress { listen_addr, .. } = next(&mut transport).await else {
            panic!()
        };
        let parts: Vec<_> = listen_addr.iter().collect();
        assert!(matches!(parts[0], Protocol::Ip4(ip) if !ip.is_unspecified()), "{listen_addr}");
        assert!(matches!(parts[1], Protocol::Udp(port) if port != 0), "{listen_addr}");
        assert!(
            matches!(parts[4..], [Protocol::Certhash(_), Protocol::Certhash(_)]),
            "{listen_addr}"
        );

        assert!(transport.remove_listener(id));
        let mut expired = Vec::new();
        loop {
            match next(&mut transport).await {
                TransportEvent::AddressExpired { listen_addr, .. } => expired.push(listen_addr),
                TransportEvent::ListenerClosed { listener_id, reason: Ok(()) }
                    if listener_id == id =>
                {
                    break;
                }
                TransportEvent::NewAddress { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(expired.contains(&listen_addr));
        assert!(!transport.remove_listener(id), "it is gone");
        // The port is free again as soon as the listener and the endpoint's own task have ended.
        let address: Multiaddr = parts[..4].iter().cloned().collect();
        let again = async {
            while transport.listen_on(ListenerId::next(), address.clone()).is_err() {
                assert!(futures::poll!(Box::pin(next(&mut transport))).is_pending());
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), again).await.unwrap();
    }

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
