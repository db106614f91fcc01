//! The stack of transports: circuits first, the platform's own below.
//!
//! The relay's transport takes every address with `p2p-circuit` in it and base transports ignore
//! what follows the part they know, so each base transport is wrapped to refuse what is not
//! entirely its own.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{
            Boxed, DialOpts, ListenerId, TransportError, TransportEvent, timeout::TransportTimeout,
        },
        upgrade::Version,
    },
    identity::Keypair,
    noise, relay,
};

use super::{Carrier, gather::Gather, imp, time::Duration, yamux};

/// Streams of one connection, of all protocols. Each may hold 256 KiB that nobody has read.
const MAX_STREAMS_PER_CONNECTION: usize = 256;

/// A transport that ends in an authenticated peer and a multiplexer.
pub type PeerTransport = Boxed<(PeerId, StreamMuxerBox)>;

/// A transport cannot be set up on this platform.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TransportSetupError(pub String);

/// Everything that this platform can dial, and circuits over it; and what reaches peers nearby.
pub fn transport(
    keypair: &Keypair,
    relay: relay::client::Transport,
    nearby: Option<PeerTransport>,
    timeout: Duration,
) -> Result<PeerTransport, TransportSetupError> {
    let circuits = secure(relay, keypair)?;
    let mut all = first_of(circuits, imp::base_transport(keypair)?);
    if let Some(nearby) = nearby {
        all = first_of(nearby, all);
    }
    Ok(TransportTimeout::new(all, timeout).boxed())
}

/// What the first does not take is the other's.
fn first_of(first: PeerTransport, other: PeerTransport) -> PeerTransport {
    first.or_transport(other).map(|either, _| either.into_inner()).boxed()
}

/// Noise and yamux over a transport of bytes. Its type is forgotten first: the layers above are large,
/// and one copy of them in the package is enough.
pub(super) fn secure<T>(
    transport: T,
    keypair: &Keypair,
) -> Result<PeerTransport, TransportSetupError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let noise = noise(keypair)?;
    let yamux = yamux::Config::new(MAX_STREAMS_PER_CONNECTION);
    let transport = transport.map(|bytes, _| duplex(bytes)).boxed();
    Ok(transport.upgrade(Version::V1Lazy).authenticate(Gather(noise)).multiplex(yamux).boxed())
}

pub(super) fn noise(keypair: &Keypair) -> Result<noise::Config, TransportSetupError> {
    noise::Config::new(keypair).map_err(|error| TransportSetupError(error.to_string()))
}

/// A connection of bytes, whatever carries them.
pub(super) type Duplex = Pin<Box<dyn ReadWrite + Send>>;

pub(super) fn duplex(bytes: impl AsyncRead + AsyncWrite + Send + 'static) -> Duplex {
    Box::pin(bytes)
}

pub(super) trait ReadWrite: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> ReadWrite for T {}

/// Lets through only the addresses of these carriers.
#[derive(Debug)]
pub(super) struct Only<T> {
    inner: T,
    carriers: &'static [Carrier],
}

impl<T> Only<T> {
    pub(super) fn new(carriers: &'static [Carrier], inner: T) -> Self {
        Self { inner, carriers }
    }

    fn accepts(&self, address: &Multiaddr) -> bool {
        Carrier::of(address).is_some_and(|carrier| self.carriers.contains(&carrier))
    }
}

impl<T: Transport + Unpin> Transport for Only<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        if !self.accepts(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        if !self.accepts(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
