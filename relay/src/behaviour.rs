//! The protocols of the relay and the transports they run on.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, Swarm, connection_limits, identify, kad, noise, ping, quic, relay, tcp,
};
use tabpeer::messaging::topics::AUTHOR_FLOW;
use tabpeer::messaging::topics::rate::Flow;
use tabpeer::network::gossip::{Gate, Gossip, Role, gossip};
use tabpeer::network::{pong, streams};
use tabpeer::platform::gather::Gather;
use tabpeer::platform::one_way::OneWay;
use tabpeer::platform::yamux;

use crate::config::{CircuitConfig, DhtConfig, RelayConfig};
use crate::record_store::BoundedStore;
use crate::{RelayError, webtransport};

/// From the first byte to an authenticated, multiplexed connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(15);
/// Streams on one TCP or WebSocket connection.
const MAX_YAMUX_STREAMS: usize = 512;
/// Streams of one connection whose protocol is still being agreed on.
const MAX_NEGOTIATING_STREAMS: usize = 128;
/// One WebSocket message: js-libp2p joins several Noise frames of 64 KiB.
const MAX_WEBSOCKET_MESSAGE: usize = 2 * 1024 * 1024;
/// A provider record of a peer that does not renew it is forgotten after a day (Kubo renews every 22 hours).
const PROVIDER_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Messages of the DHT.
const MAX_DHT_MESSAGE: usize = 64 * 1024;
/// What the relay lets in of all its clients together.
const GOSSIP_FLOW: Flow = AUTHOR_FLOW.times(32);
/// Said by Kubo and Helia as well.
const IDENTIFY_PROTOCOL: &str = "ipfs/0.1.0";

/// Everything that runs on the relay's connections.
#[derive(NetworkBehaviour)]
pub struct Behaviour {
    limits: connection_limits::Behaviour,
    pub relay: relay::Behaviour,
    pub identify: identify::Behaviour,
    pong: pong::Behaviour,
    ping: ping::Behaviour,
    pub kad: Toggle<kad::Behaviour<BoundedStore>>,
    pub gossipsub: Toggle<Gossip>,
    /// Of the exchange protocols, which run beside the swarm.
    pub streams: streams::Behaviour,
}

/// The swarm, not yet listening, and the gate of its gossip, if it has any. `clock` tells the certificates of WebTransport the time.
pub fn swarm(
    identity: &Keypair,
    config: &RelayConfig,
    clock: webtransport::Clock,
) -> Result<(Swarm<Behaviour>, Option<Gate>), RelayError> {
    let peer = identity.public().to_peer_id();
    let swarm_config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(config.idle_timeout())
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS);
    let (gossipsub, gate) = pubsub(identity, config)?.unzip();
    let behaviour = behaviour(identity, config, gossipsub)?;
    Ok((Swarm::new(transport(identity, clock)?, behaviour, peer, swarm_config), gate))
}

/// The features of the record at `/.well-known/tabpeer.json`.
pub fn features(config: &RelayConfig) -> Vec<&'static str> {
    let mut features = vec!["relay"];
    if config.dht.enabled {
        features.push("kad");
    }
    if config.gossipsub.enabled {
        features.push("gossipsub");
    }
    if config.store.enabled {
        features.push("bitswap");
        if config.gateway.enabled {
            features.push("gateway");
        }
    }
    features
}

pub fn system_clock() -> webtransport::Clock {
    std::sync::Arc::new(SystemTime::now)
}

fn transport(
    identity: &Keypair,
    clock: webtransport::Clock,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, RelayError> {
    let noise =
        noise::Config::new(identity).map_err(|error| RelayError::Setup(error.to_string()))?;
    let yamux = yamux::Config::new(MAX_YAMUX_STREAMS);
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let mut websocket = libp2p_websocket::Config::new(tcp());
    websocket.set_max_data_size(MAX_WEBSOCKET_MESSAGE).set_max_redirects(0);
    let websocket = websocket
        .upgrade(Version::V1Lazy)
        .authenticate(Gather(noise.clone()))
        .multiplex(yamux.clone())
        .timeout(UPGRADE_TIMEOUT)
        .boxed();
    let tcp = tcp()
        .upgrade(Version::V1Lazy)
        .authenticate(Gather(noise))
        .multiplex(yamux)
        .timeout(UPGRADE_TIMEOUT)
        .boxed();
    let quic = quic::tokio::Transport::new(quic::Config::new(identity))
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(OneWay(connection))))
        .boxed();
    let webtransport = webtransport::Transport::new(identity.clone(), clock).boxed_muxer();
    // The first that knows an address takes it, and TCP does not look at what follows the port.
    Ok(webtransport
        .or_transport(quic)
        .or_transport(websocket)
        .or_transport(tcp)
        .map(|either, _| match either {
            futures::future::Either::Left(futures::future::Either::Left(
                futures::future::Either::Left(output) | futures::future::Either::Right(output),
            ))
            | futures::future::Either::Left(futures::future::Either::Right(output))
            | futures::future::Either::Right(output) => output,
        })
        .boxed())
}

fn behaviour(
    identity: &Keypair,
    config: &RelayConfig,
    gossipsub: Option<Gossip>,
) -> Result<Behaviour, RelayError> {
    let public = identity.public();
    let peer = public.to_peer_id();
    let identify = identify::Config::new(IDENTIFY_PROTOCOL.into(), public)
        .with_agent_version(concat!("tabpeer-relay/", env!("CARGO_PKG_VERSION")).into())
        // What is announced is registered as external (see `addresses`); the rest stays untold.
        .with_hide_listen_addrs(true)
        .with_push_listen_addr_updates(true);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits(config)),
        relay: relay::Behaviour::new(peer, circuits(&config.circuits)),
        identify: identify::Behaviour::new(identify),
        pong: pong::Behaviour,
        ping: ping::Behaviour::default(),
        kad: dht(peer, &config.dht)?.into(),
        gossipsub: gossipsub.into(),
        streams: streams::Behaviour::default(),
    })
}

/// No outgoing connections at all: a relay answers, it does not go out and look, whatever a protocol would like.
fn limits(config: &RelayConfig) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_outgoing(Some(0))
        .with_max_established_outgoing(Some(0))
        .with_max_pending_incoming(Some(config.connections.max_pending))
        .with_max_established_incoming(Some(config.connections.max))
        .with_max_established_per_peer(Some(config.connections.max_per_peer))
}

fn circuits(config: &CircuitConfig) -> relay::Config {
    let mut relay = relay::Config {
        max_reservations: config.max_reservations,
        reservation_duration: Duration::from_secs(config.reservation_seconds),
        reservation_rate_limiters: Vec::new(),
        max_circuits: config.max_circuits,
        max_circuits_per_peer: config.max_circuits_per_peer,
        max_circuit_duration: Duration::from_secs(config.circuit_seconds),
        max_circuit_bytes: config.circuit_bytes,
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    if let Some((limit, interval)) = per_minute(config.reservations_per_minute_per_peer) {
        relay = relay.reservation_rate_per_peer(limit, interval);
    }
    if let Some((limit, interval)) = per_minute(config.reservations_per_minute_per_ip) {
        relay = relay.reservation_rate_per_ip(limit, interval);
    }
    if let Some((limit, interval)) = per_minute(config.circuits_per_minute_per_peer) {
        relay = relay.circuit_src_per_peer(limit, interval);
    }
    if let Some((limit, interval)) = per_minute(config.circuits_per_minute_per_ip) {
        relay = relay.circuit_src_per_ip(limit, interval);
    }
    relay
}

/// The size of a token bucket, and after what time it gets one token back.
fn per_minute(limit: u32) -> Option<(NonZeroU32, Duration)> {
    NonZeroU32::new(limit).map(|limit| (limit, Duration::from_secs(60) / limit.get()))
}

fn dht(
    peer: PeerId,
    config: &DhtConfig,
) -> Result<Option<kad::Behaviour<BoundedStore>>, RelayError> {
    if !config.enabled {
        return Ok(None);
    }
    let protocol = StreamProtocol::try_from_owned(config.protocol.clone())
        .map_err(|error| RelayError::Setup(error.to_string()))?;
    let mut settings = kad::Config::new(protocol);
    settings
        .set_max_packet_size(MAX_DHT_MESSAGE)
        .set_provider_record_ttl(Some(PROVIDER_LIFETIME))
        // A server that does not dial has nothing to look up or to pass on.
        .set_periodic_bootstrap_interval(None)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None);
    let store = BoundedStore::new(config.max_records, config.max_providers);
    let mut kad = kad::Behaviour::with_config(peer, store, settings);
    kad.set_mode(Some(kad::Mode::Server));
    Ok(Some(kad))
}

fn pubsub(identity: &Keypair, config: &RelayConfig) -> Result<Option<(Gossip, Gate)>, RelayError> {
    if !config.gossipsub.enabled {
        return Ok(None);
    }
    let clients = config.connections.max as usize;
    let role = Role::hub(config.gossipsub.max_message_bytes, clients, GOSSIP_FLOW);
    let gossip = gossip(identity.clone(), role);
    gossip.map(Some).map_err(|error| RelayError::Setup(error.to_string()))
}
