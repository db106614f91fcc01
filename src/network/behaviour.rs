//! Every protocol of the swarm, put together.

use std::num::NonZeroUsize;

use libp2p::{
    PeerId, StreamProtocol, connection_limits, identify, kad, ping, relay, swarm::NetworkBehaviour,
};

use super::{
    config::{
        DHT_PROTOCOL, DHT_QUERY_TIMEOUT, MAX_AGENT_LENGTH, MAX_CONNECTIONS,
        MAX_CONNECTIONS_PER_PEER, MAX_DHT_PROVIDED, MAX_DHT_RECORDS, MAX_GOSSIP_MESSAGE,
        MAX_INBOUND_CONNECTIONS, MAX_PENDING_INBOUND, MAX_PENDING_OUTBOUND, NetworkConfig,
        PING_INTERVAL, PING_TIMEOUT, PROTOCOL_VERSION,
    },
    error::NetworkError,
    gossip::{Gate, Gossip, Role, gossip},
    pong, streams,
};
use crate::messaging::topics::TOTAL_FLOW;

// The limits come first: what they refuse, the others never see.
#[derive(NetworkBehaviour)]
pub struct Behaviour {
    pub limits: connection_limits::Behaviour,
    pub relay: relay::client::Behaviour,
    pub identify: identify::Behaviour,
    pub pong: pong::Behaviour,
    pub ping: ping::Behaviour,
    pub kad: kad::Behaviour<kad::store::MemoryStore>,
    pub gossipsub: Gossip,
    pub streams: streams::Behaviour,
}

impl Behaviour {
    pub fn new(
        config: &NetworkConfig,
        relay: relay::client::Behaviour,
    ) -> Result<(Self, Gate), NetworkError> {
        let peer = config.keypair.public().to_peer_id();
        let role = Role::peer(MAX_GOSSIP_MESSAGE, TOTAL_FLOW);
        let (gossipsub, gate) = gossip(config.keypair.clone(), role)
            .map_err(|error| NetworkError::Setup(error.to_string()))?;
        let behaviour = Self {
            limits: connection_limits::Behaviour::new(limits()),
            relay,
            identify: identify(config),
            pong: pong::Behaviour,
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
            ),
            kad: kad(peer),
            gossipsub,
            streams: streams::Behaviour::default(),
        };
        Ok((behaviour, gate))
    }
}

fn limits() -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_established(Some(MAX_CONNECTIONS))
        .with_max_established_incoming(Some(MAX_INBOUND_CONNECTIONS))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(MAX_PENDING_INBOUND))
        .with_max_pending_outgoing(Some(MAX_PENDING_OUTBOUND))
}

fn identify(config: &NetworkConfig) -> identify::Behaviour {
    let agent: String = config.agent_version.chars().take(MAX_AGENT_LENGTH).collect();
    identify::Behaviour::new(
        identify::Config::new(PROTOCOL_VERSION.to_owned(), config.keypair.public())
            .with_agent_version(agent)
            .with_push_listen_addr_updates(true)
            // Its memory would offer the swarm every address that a peer names, whether or not it
            // can be dialled from here. The event loop keeps the ones that can.
            .with_cache_size(0),
    )
}

fn kad(peer: PeerId) -> kad::Behaviour<kad::store::MemoryStore> {
    let store = kad::store::MemoryStoreConfig {
        max_records: MAX_DHT_RECORDS,
        max_provided_keys: MAX_DHT_PROVIDED,
        ..kad::store::MemoryStoreConfig::default()
    };
    let mut config = kad::Config::new(StreamProtocol::new(DHT_PROTOCOL));
    // Which addresses enter the routing table is decided by the event loop.
    config.set_kbucket_inserts(kad::BucketInserts::Manual);
    // Announcements are repeated by whoever makes them, with the other peers in view.
    config.set_provider_publication_interval(None).set_publication_interval(None);
    config.set_replication_interval(None).set_periodic_bootstrap_interval(None);
    config.set_query_timeout(DHT_QUERY_TIMEOUT);
    if let Some(parallel) = NonZeroUsize::new(3) {
        config.set_parallelism(parallel);
    }
    let store = kad::store::MemoryStore::with_config(peer, store);
    let mut kad = kad::Behaviour::with_config(peer, store, config);
    // Nobody can rely on a tab to keep their records.
    kad.set_mode(Some(kad::Mode::Client));
    kad
}
