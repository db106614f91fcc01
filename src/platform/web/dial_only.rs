//! Transports of a browser: they dial, and cannot listen.

use std::{
    error::Error,
    future::Pending,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::LocalBoxFuture;
use libp2p::{
    Multiaddr,
    core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent},
    multiaddr::Protocol,
};
use send_wrapper::SendWrapper;

/// How connections of one kind are opened.
pub trait Dials {
    type Connection: 'static;
    type Error: Error + Send + Sync + 'static;

    /// Dropping the future ends the attempt. `None`: not an address of this kind.
    fn dial(
        &self,
        address: &Multiaddr,
    ) -> Option<LocalBoxFuture<'static, Result<Self::Connection, Self::Error>>>;
}

/// The host of an address that begins with `/{ip4,ip6,dns,dns4,dns6}/..`, as a URL has it.
pub fn host(protocol: &Protocol<'_>) -> Option<String> {
    match protocol {
        Protocol::Ip4(ip) => Some(ip.to_string()),
        Protocol::Ip6(ip) => Some(format!("[{ip}]")),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.to_string()),
        _ => None,
    }
}

/// [`Dials`] as a transport.
#[derive(Debug)]
pub struct DialOnly<D>(pub D);

impl<D: Dials + Unpin> Transport for DialOnly<D> {
    type Output = D::Connection;
    type Error = D::Error;
    type ListenerUpgrade = Pending<Result<D::Connection, D::Error>>;
    type Dial = SendWrapper<LocalBoxFuture<'static, Result<D::Connection, D::Error>>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<D::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<D::Error>> {
        let dialling = if options.role.is_listener() { None } else { self.0.dial(&address) };
        dialling.map(SendWrapper::new).ok_or(TransportError::MultiaddrNotSupported(address))
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, D::Error>> {
        Poll::Pending
    }
}
