//! A libp2p transport that browsers can dial without a certificate authority: WebTransport over HTTP/3.
//!
//! Spec: libp2p `webtransport/README.md`. The listener shows a short-lived self-signed certificate, the address it
//! announces carries the certificate's hash, and a Noise handshake on the first stream proves which peer is behind it.
//!
//! - [`certificates`]: which certificate is shown when; a pure function of the relay's key and the time.
//! - [`transport`]: the [`libp2p::Transport`] that owns the listeners.
//! - [`listener`]: one UDP socket: interface addresses, rotation, incoming sessions.
//! - [`handshake`]: from a QUIC packet to an authenticated connection.
//! - [`muxer`] and [`stream`]: the session's streams as libp2p knows them.

pub mod certificates;
mod handshake;
mod listener;
mod muxer;
mod stream;
mod transport;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libp2p::core::transport::TransportError;

pub use muxer::Connection;
pub use stream::Stream;
pub use transport::Transport;

/// Sessions of one listener that have not finished their handshake; the next one is refused.
pub const MAX_PENDING_HANDSHAKES: usize = 256;
/// From the first packet to the end of the Noise handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that the remote may have open at once on one connection (the session's own stream is one of them).
pub const MAX_STREAMS: u32 = 256;
/// HTTP/3 control streams, with room for the ones browsers send to keep extensions possible.
const MAX_UNIDIRECTIONAL_STREAMS: u32 = 16;
/// Datagrams are part of WebTransport's handshake but carry nothing in libp2p.
const DATAGRAM_BUFFER: usize = 16 * 1024;
/// Unread bytes of one stream that the remote may have under way.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// Unread bytes of one connection that the remote may have under way.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// A connection that is silent for longer is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Keeps a path through NAT open; must be well below [`IDLE_TIMEOUT`].
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where the transport takes the time from: the certificates depend on it, so tests turn it.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Why a listener or a session failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
    #[error("certificate: {0}")]
    Certificate(#[from] certificates::CertificateError),
    #[error("session: {0}")]
    Session(#[from] wtransport::error::ConnectionError),
    #[error("stream: {0}")]
    Stream(#[from] wtransport::error::StreamOpeningError),
    #[error("noise: {0}")]
    Noise(#[from] libp2p::noise::Error),
    #[error("the client asked for a path other than {}", handshake::PATH)]
    Path,
    #[error("the handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{MAX_PENDING_HANDSHAKES} handshakes are already pending")]
    Busy,
}

impl From<Error> for TransportError<Error> {
    fn from(error: Error) -> Self {
        TransportError::Other(error)
    }
}

/// The QUIC parameters of every session.
fn quic_parameters() -> wtransport::quinn::TransportConfig {
    let mut parameters = wtransport::quinn::TransportConfig::default();
    parameters
        .max_concurrent_bidi_streams(MAX_STREAMS.into())
        .max_concurrent_uni_streams(MAX_UNIDIRECTIONAL_STREAMS.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(
            wtransport::quinn::VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32).into(),
        ));
    parameters
}
