//! What a network is started with, and the bounds that it keeps.

use std::{fmt, str::FromStr};

use libp2p::{Multiaddr, identity::Keypair};

use super::{address, error::NetworkError, relay_keeper::RelayTarget, water_marks::Marks};
use crate::platform::{Carrier, Dialer, nearby::Search, time::Duration};

/// How long a peer is looked for, all its addresses together.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long one address may take, from the socket to the multiplexer.
pub const TRANSPORT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the other peer may take to agree to a stream's protocol.
pub const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a stream is closed after this long. Long, because a page that is looked at
/// again should find its peers.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Between two pings of a connection.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// A ping counts as failed after this long. A hidden page gets one timer a minute, but the answer
/// arrives by an event of the socket, which is not held back.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Failed pings in a row after which a connection is closed. libp2p-ping keeps the first to itself.
pub const MAX_PING_FAILURES: u32 = 2;
/// How long a relay or a protected peer may take to answer a probe after a nudge.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are probed at once.
pub const MAX_PROBES: usize = 64;
/// How long a close waits for the connections to end in good order.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections at once.
pub const MAX_CONNECTIONS: u32 = 256;
/// Of these, those that others opened.
pub const MAX_INBOUND_CONNECTIONS: u32 = 192;
/// Connections with one peer: direct, and through a few relays.
pub const MAX_CONNECTIONS_PER_PEER: u32 = 4;
/// Connections that others are opening.
pub const MAX_PENDING_INBOUND: u32 = 64;
/// Connections that we are opening.
pub const MAX_PENDING_OUTBOUND: u32 = 64;
/// Streams of one connection that are still agreeing on a protocol.
pub const MAX_NEGOTIATING_STREAMS: usize = 64;
/// Streams that one peer may have open with us for protocols given to `accept`.
pub const MAX_INBOUND_STREAMS_PER_PEER: usize = 64;
/// Streams of one connection that we are opening.
pub const MAX_OPENING_STREAMS: usize = 128;
/// Streams of one accepted protocol that wait for the program.
pub const INCOMING_QUEUE: usize = 64;
/// Protocols given to `accept` at once.
pub const MAX_ACCEPTED_PROTOCOLS: usize = 64;
/// Calls that wait for the event loop.
pub const COMMAND_QUEUE: usize = 256;
/// Peers that are being looked for.
pub const MAX_WANTED_PEERS: usize = 128;
/// Calls that wait for one peer.
pub const MAX_WAITERS_PER_PEER: usize = 64;
/// Peers whose addresses are remembered.
pub const MAX_KNOWN_PEERS: usize = 512;
/// Addresses remembered of one peer.
pub const MAX_ADDRESSES_PER_PEER: usize = 8;
/// Protocols remembered of one peer.
pub const MAX_PROTOCOLS_PER_PEER: usize = 128;
/// Peers nearby that are known at once.
pub const MAX_NEARBY: usize = 64;
/// Characters kept of the name that a peer gives itself.
pub const MAX_AGENT_LENGTH: usize = 128;
/// Relays in the configuration.
pub const MAX_RELAYS: usize = 16;
/// The largest gossip message.
pub const MAX_GOSSIP_MESSAGE: usize = 1024 * 1024;
/// Records that the DHT part of this peer keeps for others: it is a client and keeps few.
pub const MAX_DHT_RECORDS: usize = 256;
/// Keys that this peer announces itself as a provider of.
pub const MAX_DHT_PROVIDED: usize = 16 * 1024;

/// Queries of the DHT at once.
pub const MAX_DHT_QUERIES: usize = 32;
/// How long a query of the DHT may take.
pub const DHT_QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Providers that one search finds at most.
pub const MAX_PROVIDERS: usize = 100;
/// Bytes of a key of the DHT: a multihash.
pub const MAX_DHT_KEY: usize = 128;

/// The DHT of private networks, as Kubo and Helia name it and as our relays serve it. On the public
/// name a relay with a public address would be drawn into the public DHT.
pub const DHT_PROTOCOL: &str = "/ipfs/lan/kad/1.0.0";
/// What identify says that this network speaks.
pub const PROTOCOL_VERSION: &str = "tabpeer/1";

/// A circuit that lasts this long and carries any number of bytes counts as unlimited: libp2p's
/// relay cannot leave the duration open.
pub const LONG_CIRCUIT: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
pub struct NetworkConfig {
    pub keypair: Keypair,
    /// Empty: the peer works offline until it is told to dial somebody.
    pub relays: Vec<RelaySpec>,
    /// What identify tells others.
    pub agent_version: String,
    /// Where to accept connections. A browser cannot and refuses any.
    pub listen: Vec<Multiaddr>,
    /// How many peers stay connected.
    pub marks: Marks,
    /// Which peers to find without being told of them.
    pub search: Search,
}

impl NetworkConfig {
    pub fn new(keypair: Keypair) -> Self {
        Self {
            keypair,
            relays: Vec::new(),
            agent_version: concat!("tabpeer/", env!("CARGO_PKG_VERSION")).to_owned(),
            listen: Vec::new(),
            marks: Marks::default(),
            search: Search::default(),
        }
    }
}

/// How an app names a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelaySpec {
    /// Its address, best with its id: without, whoever answers there is the relay.
    Address(Multiaddr),
    /// The URL under which its signed record is found.
    Url(String),
}

impl RelaySpec {
    pub(super) fn target(&self, dialer: Dialer) -> RelayTarget {
        match self {
            Self::Url(url) => RelayTarget::Record { url: url.clone() },
            Self::Address(address) if Carrier::of(address).is_none() => {
                RelayTarget::Unusable { reason: format!("{address} is of no transport we have") }
            }
            Self::Address(address) if dialer.rank(address).is_none() => {
                RelayTarget::Unusable { reason: format!("{address} cannot be dialled from here") }
            }
            Self::Address(address) => RelayTarget::Address {
                peer: address::peer_of(address),
                address: address::without_peer(address.clone()),
            },
        }
    }
}

impl FromStr for RelaySpec {
    type Err = NetworkError;

    fn from_str(spec: &str) -> Result<Self, NetworkError> {
        let invalid = |reason: String| NetworkError::InvalidRelay { spec: spec.to_owned(), reason };
        if spec.starts_with('/') {
            return spec
                .parse()
                .map(Self::Address)
                .map_err(|e: libp2p::multiaddr::Error| invalid(e.to_string()));
        }
        let host = spec.strip_prefix("https://").or_else(|| spec.strip_prefix("http://"));
        match host {
            Some(host) if !host.is_empty() && !host.starts_with('/') => {
                Ok(Self::Url(spec.trim_end_matches('/').to_owned()))
            }
            _ => Err(invalid("it starts neither with / nor with http(s)://".to_owned())),
        }
    }
}

impl fmt::Display for RelaySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_named_by_address_or_url() {
        let address = "/ip4/127.0.0.1/tcp/4001/ws";
        assert_eq!(address.parse(), Ok(RelaySpec::Address(address.parse().expect("valid"))));
        let url = Ok(RelaySpec::Url("https://relay.example".into()));
        assert_eq!("https://relay.example/".parse(), url);
        for wrong in ["", "relay.example", "ftp://a", "/nonsense/1", "https://", "http:///a"] {
            let result = wrong.parse::<RelaySpec>();
            assert!(matches!(result, Err(NetworkError::InvalidRelay { .. })), "{wrong}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_dialled_is_said_to_be_so() {
        let spec: RelaySpec = "/ip4/127.0.0.1/tcp/4001".parse().expect("valid");
        let browser = Dialer::Browser { https: false, webtransport: true };
        assert!(matches!(spec.target(browser), RelayTarget::Unusable { .. }));
        assert!(matches!(spec.target(Dialer::Native), RelayTarget::Address { peer: None, .. }));
    }
}
