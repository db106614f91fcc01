//! What an operator may set, with the defaults; read from a TOML file (`tabpeer-relay.toml` shows every field).
//!
//! The command line and the environment override single fields (see `main.rs`); [`RelayConfig::validate`] then checks
//! the whole and names the field that is wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::multiaddr::{Multiaddr, Protocol};
use serde::Deserialize;

/// A configuration file is text written by hand; more than this is some other file.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// More listeners or external addresses than this do not fit into identify's message.
const MAX_ADDRESSES: usize = 32;
/// `limit.duration` in the circuit protocol is a 32-bit number of seconds.
const MAX_CIRCUIT_SECONDS: u64 = u32::MAX as u64;
/// One week: long enough to never be felt, and still below what a JavaScript timer (2^31 ms) can wait for.
const DEFAULT_CIRCUIT_SECONDS: u64 = 7 * 24 * 3600;
/// The DHT that Kubo and Helia keep for private networks. On `/ipfs/kad/1.0.0` a relay with a public address would be
/// taken into the public DHT and be asked by strangers.
pub const DEFAULT_DHT_PROTOCOL: &str = "/ipfs/lan/kad/1.0.0";

/// Everything a relay is started with.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    /// Holds the identity key. Made, with rights for the owner only, when it does not exist.
    pub data_dir: PathBuf,
    /// Where libp2p listens. Port 0 takes a free port.
    pub listen: Vec<Multiaddr>,
    /// What is announced in place of the addresses listened on, e.g. behind NAT or a reverse proxy. Certificate hashes
    /// are added to those that end in `/webtransport`.
    pub external_addresses: Vec<Multiaddr>,
    /// Peers of the local network find this relay, by mDNS.
    pub mdns: bool,
    pub http: HttpConfig,
    pub circuits: CircuitConfig,
    pub dht: DhtConfig,
    pub gossipsub: GossipsubConfig,
    pub connections: ConnectionConfig,
    pub store: StoreConfig,
    pub gateway: GatewayConfig,
}

/// The web server.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// A folder served at `/`.
    pub site: Option<PathBuf>,
    pub max_connections: usize,
}

/// The circuit relay. Rates are token buckets; 0 turns one off.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitConfig {
    pub max_reservations: usize,
    pub reservation_seconds: u64,
    pub max_circuits: usize,
    pub max_circuits_per_peer: usize,
    /// Both directions together; 0 is unlimited.
    pub circuit_bytes: u64,
    pub circuit_seconds: u64,
    pub reservations_per_minute_per_peer: u32,
    /// Everyone in one house or company has the same address.
    pub reservations_per_minute_per_ip: u32,
    pub circuits_per_minute_per_peer: u32,
    pub circuits_per_minute_per_ip: u32,
}

/// The DHT server.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DhtConfig {
    pub enabled: bool,
    pub protocol: String,
    /// Value records kept.
    pub max_records: usize,
    /// Provider records kept.
    pub max_providers: usize,
}

/// The pubsub router.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipsubConfig {
    pub enabled: bool,
    pub max_message_bytes: usize,
}

/// Limits on connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionConfig {
    pub max: u32,
    pub max_pending: u32,
    pub max_per_peer: u32,
    /// A connection with no reservation, circuit or stream is closed after this.
    pub idle_seconds: u64,
}

/// The content that the relay keeps and serves.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    pub enabled: bool,
    /// The folder of the store's file; `store` in the data directory by default.
    pub path: Option<PathBuf>,
    /// Most bytes of blocks and their keys; 0 is as much as the disk holds.
    pub max_bytes: u64,
}

/// The trustless gateway, `/ipfs/CID` of the web server. There is none without a store.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    pub enabled: bool,
    /// Asks connected peers for blocks that are not in the store.
    pub fetch_from_peers: bool,
    /// How long they are asked for one block.
    pub fetch_seconds: u64,
    /// Responses at once.
    pub max_requests: usize,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {path} is longer than {MAX_CONFIG_BYTES} bytes", path = .path.display())]
    TooLong { path: PathBuf },
    #[error("the configuration file {path} is wrong: {source}", path = .path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("configuration field `{field}`: {reason}")]
    Invalid { field: &'static str, reason: String },
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            data_dir: default_data_dir(),
            listen: [
                "/ip4/0.0.0.0/tcp/4001",
                "/ip4/0.0.0.0/udp/4001/quic-v1",
                "/ip4/0.0.0.0/tcp/4002/ws",
                "/ip4/0.0.0.0/udp/4003/quic-v1/webtransport",
            ]
            .iter()
            .filter_map(|address| address.parse().ok())
            .collect(),
            external_addresses: Vec::new(),
            mdns: false,
            http: HttpConfig::default(),
            circuits: CircuitConfig::default(),
            dht: DhtConfig::default(),
            gossipsub: GossipsubConfig::default(),
            connections: ConnectionConfig::default(),
            store: StoreConfig::default(),
            gateway: GatewayConfig::default(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4080)),
            site: None,
            max_connections: 1024,
        }
    }
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self {
            max_reservations: 2048,
            reservation_seconds: 3600,
            max_circuits: 4096,
            max_circuits_per_peer: 128,
            circuit_bytes: 0,
            circuit_seconds: DEFAULT_CIRCUIT_SECONDS,
            reservations_per_minute_per_peer: 30,
            reservations_per_minute_per_ip: 1200,
            circuits_per_minute_per_peer: 120,
            circuits_per_minute_per_ip: 2400,
        }
    }
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            protocol: DEFAULT_DHT_PROTOCOL.into(),
            max_records: 1024,
            max_providers: 65_536,
        }
    }
}

impl Default for GossipsubConfig {
    fn default() -> Self {
        Self { enabled: true, max_message_bytes: 1024 * 1024 }
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self { max: 4096, max_pending: 512, max_per_peer: 16, idle_seconds: 300 }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { enabled: true, path: None, max_bytes: 0 }
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { enabled: true, fetch_from_peers: false, fetch_seconds: 20, max_requests: 256 }
    }
}

impl RelayConfig {
    /// Every transport on a free port of the loopback interface: for tests and demonstrations.
    pub fn loopback(data_dir: impl Into<PathBuf>) -> Self {
        let on_loopback = |address: &Multiaddr| {
            address
                .iter()
                .map(|part| match part {
                    Protocol::Ip4(_) => Protocol::Ip4(Ipv4Addr::LOCALHOST),
                    Protocol::Tcp(_) => Protocol::Tcp(0),
                    Protocol::Udp(_) => Protocol::Udp(0),
                    other => other,
                })
                .collect()
        };
        let defaults = Self::default();
        Self {
            data_dir: data_dir.into(),
            listen: defaults.listen.iter().map(on_loopback).collect(),
            http: HttpConfig {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                ..defaults.http.clone()
            },
            ..defaults
        }
    }

    pub fn from_toml_file(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    pub fn validate(&self) -> Result<(), ConfigError> {
        check(!self.data_dir.as_os_str().is_empty(), "data_dir", "must not be empty")?;
        check(!self.listen.is_empty(), "listen", "needs at least one address")?;
        check(
            self.listen.len() <= MAX_ADDRESSES,
            "listen",
            format!("takes at most {MAX_ADDRESSES} addresses"),
        )?;
        for address in &self.listen {
            check(
                is_listenable(address),
                "listen",
                format!(
                    "{address} is not one of /ip4|ip6/ADDRESS followed by /tcp/PORT, /tcp/PORT/ws, /udp/PORT/quic-v1 or /udp/PORT/quic-v1/webtransport"
                ),
            )?;
        }
        let external = &self.external_addresses;
        check(
            external.len() <= MAX_ADDRESSES,
            "external_addresses",
            format!("takes at most {MAX_ADDRESSES} addresses"),
        )?;
        for address in external {
            let dialable = !address.iter().any(|part| {
                matches!(
                    part,
                    Protocol::P2pCircuit | Protocol::P2p(_) | Protocol::Tcp(0) | Protocol::Udp(0)
                ) || matches!(part, Protocol::Ip4(ip) if ip.is_unspecified())
                    || matches!(part, Protocol::Ip6(ip) if ip.is_unspecified())
            });
            check(
                dialable && !address.is_empty(),
                "external_addresses",
                format!("{address} cannot be dialled (leave out the peer id)"),
            )?;
        }
        if let Some(site) = &self.http.site {
            check(site.is_dir(), "http.site", format!("{} is not a folder", site.display()))?;
        }
        check(self.http.max_connections > 0, "http.max_connections", "must be at least 1")?;
        let circuits = &self.circuits;
        check(
            (1..=MAX_CIRCUIT_SECONDS).contains(&circuits.circuit_seconds),
            "circuits.circuit_seconds",
            format!(
                "must be between 1 and {MAX_CIRCUIT_SECONDS} (0 would end every circuit at once)"
            ),
        )?;
        check(
            (60..=MAX_CIRCUIT_SECONDS).contains(&circuits.reservation_seconds),
            "circuits.reservation_seconds",
            format!("must be between 60 and {MAX_CIRCUIT_SECONDS}"),
        )?;
        check(
            !self.dht.enabled || StreamProtocol::try_from_owned(self.dht.protocol.clone()).is_ok(),
            "dht.protocol",
            "must start with a slash",
        )?;
        check(
            (1024..=16 * 1024 * 1024).contains(&self.gossipsub.max_message_bytes),
            "gossipsub.max_message_bytes",
            "must be between 1024 and 16777216",
        )?;
        check(self.connections.max > 0, "connections.max", "must be at least 1")?;
        check(self.connections.max_pending > 0, "connections.max_pending", "must be at least 1")?;
        check(self.connections.max_per_peer > 0, "connections.max_per_peer", "must be at least 1")?;
        check(
            (1..=300).contains(&self.gateway.fetch_seconds),
            "gateway.fetch_seconds",
            "must be between 1 and 300",
        )?;
        check(self.gateway.max_requests > 0, "gateway.max_requests", "must be at least 1")
    }

    /// The folder of the store's file.
    pub fn store_path(&self) -> PathBuf {
        self.store.path.clone().unwrap_or_else(|| self.data_dir.join("store"))
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.connections.idle_seconds)
    }
}

fn check(holds: bool, field: &'static str, reason: impl Into<String>) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Invalid { field, reason: reason.into() }) }
}

fn is_listenable(address: &Multiaddr) -> bool {
    let parts: Vec<_> = address.iter().collect();
    matches!(
        parts.as_slice(),
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)]
            | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_), Protocol::Ws(_)]
            | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(_), Protocol::QuicV1]
            | [
                Protocol::Ip4(_) | Protocol::Ip6(_),
                Protocol::Udp(_),
                Protocol::QuicV1,
                Protocol::WebTransport
            ]
    )
}

/// Where services of a user keep their data (XDG Base Directory); the working directory when there is no home.
fn default_data_dir() -> PathBuf {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local").join("share")))
        .unwrap_or_default()
        .join("tabpeer-relay")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RelayConfig, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let config = RelayConfig::from_toml_file(file.path())?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn defaults_are_valid_and_complete() {
        RelayConfig::default().validate().unwrap();
        assert_eq!(RelayConfig::default().listen.len(), 4);
        let loopback = RelayConfig::loopback("x");
        loopback.validate().unwrap();
        assert_eq!(loopback.listen[3].to_string(), "/ip4/127.0.0.1/udp/0/quic-v1/webtransport");
    }

    #[test]
    fn the_example_file_shows_the_defaults() {
        let example = parse(include_str!("../tabpeer-relay.toml")).unwrap();
        let defaults = RelayConfig { data_dir: example.data_dir.clone(), ..RelayConfig::default() };
        assert_eq!(format!("{example:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            ("listen = []", "listen"),
            ("listen = [\"/ip4/127.0.0.1/udp/1\"]", "listen"),
            ("listen = [\"nonsense\"]", "listen"),
            ("external_addresses = [\"/ip4/0.0.0.0/tcp/1\"]", "external_addresses"),
            ("[http]\nsite = \"/does/not/exist\"", "http.site"),
            ("[http]\nlisten = \"here\"", "listen"),
            ("[circuits]\ncircuit_seconds = 0", "circuits.circuit_seconds"),
            ("[circuits]\nmax_circuits = -1", "max_circuits"),
            ("[dht]\nprotocol = \"kad\"", "dht.protocol"),
            ("[connections]\nmaximum = 3", "maximum"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(field), "{text}: {message}");
        }
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let message =
            RelayConfig::from_toml_file(Path::new("/does/not/exist.toml")).unwrap_err().to_string();
        assert!(message.contains("/does/not/exist.toml"), "{message}");
    }
}
