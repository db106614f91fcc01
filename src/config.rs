//! Settings of a peer, parsed once at the border so that nothing below has to doubt them.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libp2p::{Multiaddr, PeerId, identity::Keypair};

use crate::{
    content::block::Cid,
    error::{Error, Result},
    exchange::config::ExchangeConfig,
    network::{NetworkError, RelaySpec},
    platform::nearby::Search,
};

/// Longest text accepted for a key, CID, peer id or address.
pub const MAX_TEXT: usize = 1024;
/// How long `connect` waits for a relay unless told otherwise.
pub const RELAY_WAIT: Duration = Duration::from_secs(10);

/// What [`crate::peer::Peer::open`] needs to know.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// The identity; `None`: the one kept in the store, made at the first start.
    pub keypair: Option<Keypair>,
    pub relays: Vec<RelaySpec>,
    /// Addresses to listen on. Browsers cannot: they are reached through their relays.
    pub listen: Vec<Multiaddr>,
    /// Longest wait for a relay before going on offline.
    pub relay_wait: Duration,
    /// The topic on which others are told that this peer's files have changed, if it is subscribed.
    pub file_update_topic: Option<String>,
    /// Where content is looked for, and how long.
    pub exchange: ExchangeConfig,
    /// Which peers to find without being told of them.
    pub search: Search,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            keypair: None,
            relays: Vec::new(),
            listen: Vec::new(),
            relay_wait: RELAY_WAIT,
            file_update_topic: None,
            exchange: ExchangeConfig::default(),
            search: Search::default(),
        }
    }
}

/// Reads a peer key: base64 of libp2p's protobuf form of an Ed25519 private key.
pub fn parse_key(text: &str) -> Result<Keypair> {
    let bad = |reason: &str| Error::InvalidKey { reason: reason.into() };
    if text.len() > MAX_TEXT {
        return Err(bad("it is too long"));
    }
    let bytes = STANDARD.decode(text.trim()).map_err(|_| bad("it is not base64"))?;
    Keypair::from_protobuf_encoding(&bytes).map_err(|_| bad("it is not an Ed25519 private key"))
}

/// A new identity, as the text that [`parse_key`] reads.
pub fn generate_key() -> Result<String> {
    format_key(&Keypair::generate_ed25519())
}

/// The text that [`parse_key`] reads.
pub fn format_key(keypair: &Keypair) -> Result<String> {
    let bytes = keypair
        .to_protobuf_encoding()
        .map_err(|error| Error::InvalidKey { reason: error.to_string() })?;
    Ok(STANDARD.encode(bytes))
}

pub fn parse_cid(text: &str) -> Result<Cid> {
    let bad = |reason: String| Error::InvalidCid { text: shown(text), reason };
    if text.len() > MAX_TEXT {
        return Err(bad("it is too long".into()));
    }
    text.trim().parse().map_err(|error: cid::Error| bad(error.to_string()))
}

pub fn parse_peer_id(text: &str) -> Result<PeerId> {
    let bad = || Error::InvalidPeerId { text: shown(text) };
    if text.len() > MAX_TEXT {
        return Err(bad());
    }
    text.trim().parse().map_err(|_| bad())
}

/// Reads an address to dial.
pub fn parse_address(text: &str) -> Result<Multiaddr> {
    let bad = |reason: String| Error::InvalidAddress { text: shown(text), reason };
    let text = text.trim();
    if text.len() > MAX_TEXT {
        return Err(bad("it is too long".into()));
    }
    text.parse().map_err(|error: libp2p::multiaddr::Error| bad(error.to_string()))
}

/// Reads a relay: a multiaddr, or the URL of one that tells its addresses itself.
pub fn parse_relay(text: &str) -> Result<RelaySpec> {
    let bad = |reason: String| Error::InvalidAddress { text: shown(text), reason };
    let text = text.trim();
    if text.len() > MAX_TEXT {
        return Err(bad("it is too long".into()));
    }
    text.parse().map_err(|error: NetworkError| match error {
        NetworkError::InvalidRelay { reason, .. } => bad(reason),
        other => bad(other.to_string()),
    })
}

/// What a message shows of a caller's text: its start, without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if text.chars().count() > 80 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_bad_ones_are_named() {
        let key = Keypair::generate_ed25519();
        let text = format_key(&key).expect("encodes");
        assert_eq!(parse_key(&text).expect("parses").public(), key.public());
        for bad in ["", "!", "AAAA", &"A".repeat(5000), &text[..40]] {
            assert_eq!(parse_key(bad).expect_err("refused").code(), "INVALID_KEY", "{bad}");
        }
    }

    #[test]
    fn texts_of_any_kind_are_refused_with_their_code() {
        for bad in ["", "bafy", "Qm", "héllo", &"b".repeat(9999)] {
            assert_eq!(parse_cid(bad).expect_err("refused").code(), "INVALID_CID");
            assert_eq!(parse_peer_id(bad).expect_err("refused").code(), "INVALID_PEER_ID");
            assert_eq!(parse_relay(bad).expect_err("refused").code(), "INVALID_ADDRESS");
        }
        assert!(parse_relay("/ip4/127.0.0.1/tcp/1/nonsense").is_err());
        assert!(
            matches!(parse_relay("https://r.example/"), Ok(RelaySpec::Url(url)) if url == "https://r.example")
        );
    }
}
