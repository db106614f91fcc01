//! WebTransport for libp2p in a browser (the libp2p specification, "WebTransport"), in a page or a worker.
//!
//! Why not libp2p-webtransport-websys: it has the browser allocate an array for every read and copies each
//! twice more before Rust has the bytes, and makes a call and a promise of every write, however small.

mod session;
mod stream;

use std::{
    collections::HashSet,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{FutureExt as _, future::LocalBoxFuture};
use js_sys::Promise;
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol, noise};
use multihash::Multihash;
use wasm_bindgen::{JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;

use self::session::Session;
use super::{
    describe,
    dial_only::{Dials, host},
};
use crate::platform::transport::{self, TransportSetupError};

/// The code of SHA-256 in a multihash, the only hash of a certificate that browsers take.
const SHA2_256: u64 = 0x12;
/// Hashes of certificates in an address; a server has two, the one in use and the next.
const MAX_HASHES: usize = 8;

/// Opens WebTransport sessions.
pub struct WebTransports {
    noise: noise::Config,
}

/// Why there is no session (any more), with the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WebTransportError(String);

impl WebTransports {
    pub fn new(keypair: &Keypair) -> Result<Self, TransportSetupError> {
        Ok(Self { noise: transport::noise(keypair)? })
    }
}

impl Dials for WebTransports {
    type Connection = (PeerId, Session);
    type Error = WebTransportError;

    fn dial(
        &self,
        address: &Multiaddr,
    ) -> Option<LocalBoxFuture<'static, Result<(PeerId, Session), WebTransportError>>> {
        let endpoint = Endpoint::of(address)?;
        Some(Session::open(endpoint, self.noise.clone()).boxed_local())
    }
}

/// Where a session is opened, and with whom.
struct Endpoint {
    url: String,
    /// Of the certificate, one of which must be the server's; empty if it is one that browsers trust.
    hashes: HashSet<Multihash<64>>,
    peer: Option<PeerId>,
}

impl Endpoint {
    /// Of `/{ip4,ip6,dns,dns4,dns6}/../udp/N/quic-v1/webtransport[/certhash/..]*[/p2p/..]`.
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut protocols = address.iter();
        let host = host(&protocols.next()?)?;
        let Protocol::Udp(port) = protocols.next()? else { return None };
        let quic = matches!(protocols.next()?, Protocol::QuicV1 | Protocol::Quic);
        if !quic || !matches!(protocols.next()?, Protocol::WebTransport) {
            return None;
        }
        let url = format!("https://{host}:{port}/.well-known/libp2p-webtransport?type=noise");
        let (mut hashes, mut peer) = (HashSet::new(), None);
        for protocol in protocols {
            match protocol {
                Protocol::Certhash(hash) if peer.is_none() && hashes.len() < MAX_HASHES => {
                    hashes.insert(hash);
                }
                Protocol::P2p(id) if peer.is_none() => peer = Some(id),
                _ => return None,
            }
        }
        Some(Self { url, hashes, peer })
    }

    fn error(&self, reason: impl std::fmt::Display) -> WebTransportError {
        WebTransportError(format!("no WebTransport session with {}: {reason}", self.url))
    }
}

/// A promise that is awaited by polling; `None` when there is none.
type Awaited = Option<JsFuture>;

/// Polls the promise, which `start` makes if there is none.
fn poll_promise(
    awaited: &mut Awaited,
    start: impl FnOnce() -> Promise,
    cx: &mut Context<'_>,
) -> Poll<Result<JsValue, JsValue>> {
    let promise = awaited.get_or_insert_with(|| JsFuture::from(start()));
    let outcome = ready!(Pin::new(promise).poll(cx));
    *awaited = None;
    Poll::Ready(outcome)
}

/// Lets a promise go on by itself; that it fails is nobody's business.
fn detach(promise: &Promise) {
    thread_local! {
        static IGNORE: Closure<dyn FnMut(JsValue)> = Closure::new(|_| {});
    }
    let _ = IGNORE.with(|ignore| promise.catch(ignore));
}
