//! Whether a peer that is named, but perhaps not connected, can be reached, and by which protocol.

use futures::AsyncWriteExt as _;
use libp2p::{PeerId, StreamProtocol};

use crate::{
    exchange::bitswap::message::PROTOCOL,
    network::{NetworkError, PeerInfo, PeerStreams},
};

/// Whether `peer` speaks Bitswap over a connection that carries bulk data; connects if need be. An
/// error says why it cannot be reached.
pub(super) async fn reach(streams: &dyn PeerStreams, peer: PeerId) -> Result<bool, String> {
    if let Some(info) = streams.peers().current().get(&peer)
        && !info.protocols.is_empty()
    {
        return Ok(speaks(info, PROTOCOL));
    }
    match streams.open_stream(peer, StreamProtocol::new(PROTOCOL)).await {
        Ok(mut stream) => {
            let _ = stream.close().await;
            Ok(!streams.peers().current().get(&peer).is_some_and(|info| info.limited))
        }
        Err(NetworkError::UnsupportedProtocol { .. }) => Ok(false),
        Err(NetworkError::PeerUnreachable { reason, .. }) => {
            Err(format!("it could not be reached: {reason}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A connected peer that speaks `protocol`, over more than a circuit with a limit: that would break
/// off in the middle of a file.
pub(super) fn speaks(info: &PeerInfo, protocol: &str) -> bool {
    !info.limited && info.protocols.iter().any(|spoken| spoken == protocol)
}
