//! The DHT server: what one peer announces another finds, though neither serves the DHT itself.

use std::time::Duration;

use futures::StreamExt;
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, GetProvidersOk, QueryResult, RecordKey};
use libp2p::swarm::SwarmEvent;
use libp2p::{StreamProtocol, Swarm, identity, noise, tcp, yamux};
use tabpeer_relay::Relay;
use tabpeer_relay::config::DEFAULT_DHT_PROTOCOL;

use crate::{address_with, start};

const PATIENCE: Duration = Duration::from_secs(20);

fn client(relay: &Relay) -> Swarm<kad::Behaviour<MemoryStore>> {
    let key = identity::Keypair::generate_ed25519();
    let id = key.public().to_peer_id();
    let transport =
        libp2p_websocket::Config::new(tcp::tokio::Transport::new(tcp::Config::default()))
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
    let config = kad::Config::new(StreamProtocol::new(DEFAULT_DHT_PROTOCOL));
    let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), config);
    kad.set_mode(Some(kad::Mode::Client));
    kad.add_address(&relay.peer_id(), address_with(relay, "/ws"));
    Swarm::new(transport, kad, id, libp2p::swarm::Config::with_tokio_executor())
}

async fn result(
    swarm: &mut Swarm<kad::Behaviour<MemoryStore>>,
    query: kad::QueryId,
) -> QueryResult {
    let found = async {
        loop {
            if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { id, result, .. }) =
                swarm.select_next_some().await
                && id == query
            {
                return result;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test]
async fn an_announcement_is_found_by_another() {
    let (relay, _data) = start().await;
    let key = RecordKey::new(b"a key");
    let mut provider = client(&relay);
    let external = "/dns4/example.org/tcp/1/ws".parse().unwrap();
    provider.add_external_address(external);
    let id = *provider.local_peer_id();
    let announcing = provider.behaviour_mut().start_providing(key.clone()).unwrap();
    let announced = result(&mut provider, announcing).await;
    assert!(matches!(announced, QueryResult::StartProviding(Ok(_))), "{announced:?}");

    // The announcement itself is not answered, so the question may have to be asked again.
    let asking = async {
        let mut seeker = client(&relay);
        loop {
            let query = seeker.behaviour_mut().get_providers(key.clone());
            let answer = result(&mut seeker, query).await;
            if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders {
                providers, ..
            })) = answer
                && !providers.is_empty()
            {
                return providers;
            }
        }
    };
    let providing = async {
        loop {
            provider.select_next_some().await;
        }
    };
    tokio::select! {
        providers = tokio::time::timeout(PATIENCE, asking) => assert!(providers.unwrap().contains(&id)),
        () = providing => {}
    }
}
