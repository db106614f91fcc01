//! WebSocket for libp2p in a browser, in a page or a worker.
//!
//! Why not libp2p-websocket-websys: it calls a stream flushed only when `bufferedAmount` is 0, looks
//! at that every 100 ms, and stops for good once the remote has sent more than 1 MiB ahead.
//!
//! A WebSocket has no back-pressure in either direction. Outbound there is `bufferedAmount`, without
//! an event for its fall: a writer that has to wait looks at it by a short timer, and at every
//! message, because a hidden page gets few timers and yamux answers what it has read. Inbound
//! nothing can be done but to close a connection that sends more than we read.

mod connection;

use futures::{FutureExt, future::LocalBoxFuture};
use libp2p::{Multiaddr, multiaddr::Protocol};

pub use connection::Connection;

use super::dial_only::{Dials, host};

#[derive(Debug)]
pub struct WebSockets;

/// Why there is no connection (any more), with the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WebSocketError(String);

impl Dials for WebSockets {
    type Connection = Connection;
    type Error = WebSocketError;

    fn dial(
        &self,
        address: &Multiaddr,
    ) -> Option<LocalBoxFuture<'static, Result<Connection, WebSocketError>>> {
        Some(Connection::open(url(address)?).boxed_local())
    }
}

/// The URL of `/{ip4,ip6,dns,dns4,dns6}/../tcp/N/{ws,wss,tls/ws,tls/sni/../ws}[/p2p/..]`; `None` for
/// anything else, above all for an address that goes on after that.
fn url(address: &Multiaddr) -> Option<String> {
    let mut protocols = address.iter();
    let host = host(&protocols.next()?)?;
    let Protocol::Tcp(port) = protocols.next()? else { return None };
    let (scheme, path) = match protocols.next()? {
        Protocol::Ws(path) => ("ws", path),
        Protocol::Wss(path) => ("wss", path),
        Protocol::Tls => match protocols.next()? {
            Protocol::Ws(path) => ("wss", path),
            Protocol::Sni(_) => match protocols.next()? {
                Protocol::Ws(path) => ("wss", path),
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    match (protocols.next(), protocols.next()) {
        (None, _) | (Some(Protocol::P2p(_)), None) => {
            Some(format!("{scheme}://{host}:{port}{path}"))
        }
        _ => None,
    }
}
