//! Flags and environment variables; each overrides one field of the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use libp2p::multiaddr::Multiaddr;
use tabpeer_relay::RelayConfig;
use tabpeer_relay::config::ConfigError;

use crate::command::Command;

/// The relay that browser peers of tabpeer meet at.
///
/// Without any option it listens on TCP 4001, QUIC 4001/udp, WebSocket 4002 and WebTransport 4003/udp, and serves its
/// signed record at http://HOST:4080/.well-known/tabpeer.json. When it is ready it prints one line of JSON to stdout
/// with its peer id and addresses; logs go to stderr (RUST_LOG chooses which). SIGINT and SIGTERM stop it. What was given
/// to `tabpeer-relay add` it serves by Bitswap and at http://HOST:4080/ipfs/CID, to clients that verify what they get.
#[derive(Debug, Parser)]
#[command(name = "tabpeer-relay", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Read settings from this TOML file.
    #[arg(long, value_name = "FILE", env = "TABPEER_RELAY_CONFIG", global = true)]
    config: Option<PathBuf>,

    /// Keep the identity key and the store in this folder [default: ~/.local/share/tabpeer-relay].
    #[arg(long, value_name = "DIR", env = "TABPEER_RELAY_DATA_DIR", global = true)]
    data_dir: Option<PathBuf>,

    /// Listen here instead, e.g. /ip4/0.0.0.0/tcp/4002/ws; may be repeated, or separated by commas.
    #[arg(long, value_name = "MULTIADDR", env = "TABPEER_RELAY_LISTEN", value_delimiter = ',')]
    listen: Vec<Multiaddr>,

    /// Announce this address instead of those listened on; may be repeated. Certificate hashes are added to
    /// addresses that end in /webtransport.
    #[arg(
        long,
        value_name = "MULTIADDR",
        env = "TABPEER_RELAY_EXTERNAL_ADDRESSES",
        value_delimiter = ','
    )]
    external_address: Vec<Multiaddr>,

    /// Let peers of the local network find this relay, by mDNS.
    #[arg(
        long,
        value_name = "BOOL",
        env = "TABPEER_RELAY_MDNS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    mdns: Option<bool>,

    /// Serve HTTP here [default: 0.0.0.0:4080].
    #[arg(long, value_name = "HOST:PORT", env = "TABPEER_RELAY_HTTP")]
    http: Option<SocketAddr>,

    /// Serve the files of this folder at /.
    #[arg(long, value_name = "DIR", env = "TABPEER_RELAY_SITE")]
    site: Option<PathBuf>,

    /// Bytes that one circuit may carry, both directions together; 0 is unlimited [default: 0].
    #[arg(long, value_name = "BYTES", env = "TABPEER_RELAY_CIRCUIT_BYTES")]
    circuit_bytes: Option<u64>,

    /// Seconds that one circuit may last [default: 604800].
    #[arg(long, value_name = "SECONDS", env = "TABPEER_RELAY_CIRCUIT_SECONDS")]
    circuit_seconds: Option<u64>,

    /// Peers that may be reachable through this relay at once [default: 2048].
    #[arg(long, value_name = "COUNT", env = "TABPEER_RELAY_MAX_RESERVATIONS")]
    max_reservations: Option<usize>,

    /// Circuits at once [default: 4096].
    #[arg(long, value_name = "COUNT", env = "TABPEER_RELAY_MAX_CIRCUITS")]
    max_circuits: Option<usize>,

    /// Connections at once [default: 4096].
    #[arg(long, value_name = "COUNT", env = "TABPEER_RELAY_MAX_CONNECTIONS")]
    max_connections: Option<u32>,

    /// Name of the DHT protocol [default: /ipfs/lan/kad/1.0.0].
    #[arg(long, value_name = "PROTOCOL", env = "TABPEER_RELAY_DHT_PROTOCOL")]
    dht_protocol: Option<String>,

    /// Most bytes of content to keep; 0 is as much as the disk holds [default: 0].
    #[arg(long, value_name = "BYTES", env = "TABPEER_RELAY_STORE_MAX_BYTES")]
    store_max_bytes: Option<u64>,

    /// How logs are written to stderr.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "TABPEER_RELAY_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Arguments {
    /// The file's settings, or the defaults, with what was given here on top.
    pub fn into_config(self) -> Result<RelayConfig, ConfigError> {
        let mut config = match &self.config {
            Some(path) => RelayConfig::from_toml_file(path)?,
            None => RelayConfig::default(),
        };
        replace(&mut config.data_dir, self.data_dir);
        replace(&mut config.listen, Some(self.listen).filter(|listen| !listen.is_empty()));
        replace(
            &mut config.external_addresses,
            Some(self.external_address).filter(|addresses| !addresses.is_empty()),
        );
        replace(&mut config.mdns, self.mdns);
        replace(&mut config.http.listen, self.http);
        if self.site.is_some() {
            config.http.site = self.site;
        }
        replace(&mut config.circuits.circuit_bytes, self.circuit_bytes);
        replace(&mut config.circuits.circuit_seconds, self.circuit_seconds);
        replace(&mut config.circuits.max_reservations, self.max_reservations);
        replace(&mut config.circuits.max_circuits, self.max_circuits);
        replace(&mut config.connections.max, self.max_connections);
        replace(&mut config.dht.protocol, self.dht_protocol);
        replace(&mut config.store.max_bytes, self.store_max_bytes);
        Ok(config)
    }
}

fn replace<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_override_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[circuits]\ncircuit_bytes = 7\nmax_circuits = 8\n").unwrap();
        let path = file.path().to_str().unwrap();
        let arguments = Arguments::parse_from([
            "tabpeer-relay",
            "--config",
            path,
            "--circuit-bytes",
            "9",
            "--mdns",
            "--listen",
            "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0/ws",
        ]);
        let config = arguments.into_config().unwrap();
        assert_eq!((config.circuits.circuit_bytes, config.circuits.max_circuits), (9, 8));
        assert_eq!((config.listen.len(), config.mdns), (2, true));
    }
}
