//! One UDP socket on which WebTransport sessions arrive.
//!
//! It announces one address per interface (the wildcard address is expanded, and interfaces that come and go are
//! followed), each with the hashes of the certificates of the moment; when a window ends it changes the certificate and
//! announces anew.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use if_watch::IfEvent;
use if_watch::tokio::IfWatcher;
use libp2p::PeerId;
use libp2p::core::transport::{ListenerId, TransportEvent};
use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use socket2::{Domain, Socket, Type};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use wtransport::quinn;
use wtransport::tls::{Certificate, CertificateChain, PrivateKey};

use super::certificates::{CertificateError, Certificates};
use super::{Clock, Connection, Error, MAX_PENDING_HANDSHAKES, handshake, quic_parameters};

/// The clock is looked at no less often than this, because a host that was suspended or whose clock was set does not
/// let a long sleep end in time.
const MAX_ROTATION_SLEEP: Duration = Duration::from_secs(600);

type Upgrade = BoxFuture<'static, Result<(PeerId, Connection), Error>>;
type Event = TransportEvent<Upgrade, Error>;

/// A stream of the transport's events that ends when the listener is closed.
pub struct Listener {
    id: ListenerId,
    identity: Keypair,
    clock: Clock,
    certificates: Certificates,
    endpoint: quinn::Endpoint,
    local: SocketAddr,
    accepting: BoxFuture<'static, Option<quinn::Incoming>>,
    /// Only when listening on the wildcard address.
    interfaces: Option<IfWatcher>,
    addresses: BTreeSet<IpAddr>,
    rotation: Pin<Box<Sleep>>,
    handshakes: Arc<Semaphore>,
    /// Never more than two per address.
    events: VecDeque<Event>,
    closed: bool,
    waker: Option<Waker>,
}

impl Listener {
    pub fn bind(
        id: ListenerId,
        address: SocketAddr,
        identity: Keypair,
        clock: Clock,
    ) -> Result<Self, Error> {
        let certificates = Certificates::at(&identity, clock())?;
        let endpoint = quinn::Endpoint::new(
            quinn::EndpointConfig::default(),
            Some(server_config(&certificates)?),
            bind_socket(address)?,
            Arc::new(quinn::TokioRuntime),
        )?;
        let local = endpoint.local_addr()?;
        let mut listener = Self {
            id,
            identity,
            rotation: Box::pin(tokio::time::sleep(until_rotation(&certificates, &clock))),
            clock,
            certificates,
            accepting: accept(&endpoint),
            endpoint,
            local,
            interfaces: None,
            addresses: BTreeSet::new(),
            handshakes: Arc::new(Semaphore::new(MAX_PENDING_HANDSHAKES)),
            events: VecDeque::new(),
            closed: false,
            waker: None,
        };
        if local.ip().is_unspecified() {
            listener.interfaces = Some(IfWatcher::new()?);
        } else {
            listener.announce(local.ip());
        }
        Ok(listener)
    }

    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// Ends every connection of this socket and lets the stream end after one last event.
    pub fn close(&mut self) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.endpoint.close(quinn::VarInt::from_u32(0), b"");
        for ip in std::mem::take(&mut self.addresses) {
            let listen_addr = self.address_of(ip);
            self.events
                .push_back(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
        }
        self.events
            .push_back(TransportEvent::ListenerClosed { listener_id: self.id, reason: Ok(()) });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn announce(&mut self, ip: IpAddr) {
        if self.addresses.insert(ip) {
            let listen_addr = self.address_of(ip);
            self.events.push_back(TransportEvent::NewAddress { listener_id: self.id, listen_addr });
        }
    }

    fn withdraw(&mut self, ip: IpAddr) {
        if self.addresses.remove(&ip) {
            let listen_addr = self.address_of(ip);
            self.events
                .push_back(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
        }
    }

    fn address_of(&self, ip: IpAddr) -> Multiaddr {
        let [current, next] = self.certificates.announced;
        base_address(SocketAddr::new(ip, self.local.port()))
            .with(Protocol::Certhash(current))
            .with(Protocol::Certhash(next))
    }

    fn poll_interfaces(&mut self, cx: &mut Context<'_>) {
        while let Some(Poll::Ready(event)) =
            self.interfaces.as_mut().map(|watcher| watcher.poll_if_event(cx))
        {
            match event {
                Ok(IfEvent::Up(net)) if net.addr().is_ipv4() == self.local.is_ipv4() => {
                    self.announce(net.addr())
                }
                Ok(IfEvent::Down(net)) => self.withdraw(net.addr()),
                Ok(IfEvent::Up(_)) => {}
                Err(error) => {
                    // Polling a broken watcher again would spin; the addresses known so far stay.
                    self.interfaces = None;
                    self.events.push_back(TransportEvent::ListenerError {
                        listener_id: self.id,
                        error: Error::Io(error),
                    });
                }
            }
        }
    }

    fn poll_rotation(&mut self, cx: &mut Context<'_>) {
        while self.rotation.poll_unpin(cx).is_ready() {
            if (self.clock)() >= self.certificates.until
                && let Err(error) = self.rotate()
            {
                self.events
                    .push_back(TransportEvent::ListenerError { listener_id: self.id, error });
                self.rotation = Box::pin(tokio::time::sleep(MAX_ROTATION_SLEEP));
                continue;
            }
            self.rotation =
                Box::pin(tokio::time::sleep(until_rotation(&self.certificates, &self.clock)));
        }
    }

    /// New sessions get the new certificate; those that exist are not disturbed.
    fn rotate(&mut self) -> Result<(), Error> {
        let certificates = Certificates::at(&self.identity, (self.clock)())?;
        self.endpoint.set_server_config(Some(server_config(&certificates)?));
        // The old addresses go last, so that there is no moment without any.
        let old: Vec<_> = self.addresses.iter().map(|ip| self.address_of(*ip)).collect();
        self.certificates = certificates;
        for ip in std::mem::take(&mut self.addresses) {
            self.announce(ip);
        }
        for listen_addr in old {
            self.events
                .push_back(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
        }
        tracing::info!(
            window = self.certificates.current.window,
            "the WebTransport certificate has changed"
        );
        Ok(())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        while let Poll::Ready(incoming) = self.accepting.poll_unpin(cx) {
            let Some(incoming) = incoming else {
                self.close();
                return Poll::Ready(self.events.pop_front());
            };
            self.accepting = accept(&self.endpoint);
            let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let remote = incoming.remote_address();
            let local = incoming.local_ip().unwrap_or(self.local.ip());
            let upgrade = handshake::accept(
                incoming,
                self.identity.clone(),
                self.certificates.confirmed.clone(),
                permit,
            );
            return Poll::Ready(Some(TransportEvent::Incoming {
                listener_id: self.id,
                upgrade: upgrade.boxed(),
                local_addr: base_address(SocketAddr::new(local, self.local.port())),
                send_back_addr: base_address(remote),
            }));
        }
        Poll::Pending
    }
}

impl Stream for Listener {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = self.get_mut();
        if let Some(event) = this.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if this.closed {
            return Poll::Ready(None);
        }
        this.poll_interfaces(cx);
        this.poll_rotation(cx);
        if let Some(event) = this.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        this.waker = Some(cx.waker().clone());
        this.poll_accept(cx)
    }
}

fn accept(endpoint: &quinn::Endpoint) -> BoxFuture<'static, Option<quinn::Incoming>> {
    let endpoint = endpoint.clone();
    async move { endpoint.accept().await }.boxed()
}

fn until_rotation(certificates: &Certificates, clock: &Clock) -> Duration {
    certificates.until.duration_since(clock()).unwrap_or_default().min(MAX_ROTATION_SLEEP)
}

fn base_address(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip())
        .with(Protocol::Udp(socket.port()))
        .with(Protocol::QuicV1)
        .with(Protocol::WebTransport)
}

fn bind_socket(address: SocketAddr) -> Result<UdpSocket, Error> {
    let socket =
        Socket::new(Domain::for_address(address), Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if address.is_ipv6() {
        // IPv4 has a listener of its own.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn server_config(certificates: &Certificates) -> Result<quinn::ServerConfig, Error> {
    let current = &certificates.current;
    let certificate = Certificate::from_der(current.der.clone())
        .map_err(|_| CertificateError::Window(current.window))?;
    let identity = wtransport::Identity::new(
        CertificateChain::single(certificate),
        PrivateKey::from_der_pkcs8(current.key.clone()),
    );
    // The bind address is not used: the endpoint is made by hand, because wtransport's own panics once it is closed.
    let config = wtransport::ServerConfig::builder()
        .with_bind_default(0)
        .with_custom_transport(identity, quic_parameters())
        .build();
    Ok(config.quic_config().clone())
}
