//! From a QUIC connection attempt to an authenticated libp2p connection (spec: libp2p `webtransport`, "Security
//! Handshake"): the HTTP/3 session on the well-known path, then Noise on the client's first stream, without
//! multistream-select, in which the listener confirms the hashes of its certificates.

use std::collections::HashSet;

use futures::AsyncWriteExt;
use libp2p::PeerId;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::InboundConnectionUpgrade;
use libp2p::identity::Keypair;
use libp2p::multihash::Multihash;
use tokio::sync::OwnedSemaphorePermit;
use wtransport::endpoint::IncomingSessionFuture;
use wtransport::quinn;

use super::{Connection, Error, HANDSHAKE_TIMEOUT, Stream};

/// The only path that is served.
pub const PATH: &str = "/.well-known/libp2p-webtransport?type=noise";

/// `_permit` is the place among the pending handshakes; it is given back when this ends, however it ends.
pub async fn accept(
    incoming: quinn::Incoming,
    identity: Keypair,
    certhashes: HashSet<Multihash<64>>,
    _permit: OwnedSemaphorePermit,
) -> Result<(PeerId, Connection), Error> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, negotiate(incoming, identity, certhashes))
        .await
        .map_err(|_| Error::TimedOut)?
}

async fn negotiate(
    incoming: quinn::Incoming,
    identity: Keypair,
    certhashes: HashSet<Multihash<64>>,
) -> Result<(PeerId, Connection), Error> {
    let request = IncomingSessionFuture::with_quic_incoming(incoming).await?;
    if request.path() != PATH {
        request.not_found().await;
        return Err(Error::Path);
    }
    let session = request.accept().await?;
    let (send, receive) = session.accept_bi().await?;
    let noise = libp2p::noise::Config::new(&identity)?.with_webtransport_certhashes(certhashes);
    let name = noise.protocol_info().next().unwrap_or_default();
    let (peer, mut channel) = noise.upgrade_inbound(Stream::new(send, receive), name).await?;
    // Nothing more is sent on this stream. A client that is already gone shows on the connection itself.
    let _ = channel.close().await;
    Ok((peer, Connection::new(session)))
}
