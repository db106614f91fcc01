//! The relay of tabpeer: the one native program an operator runs so that browsers can meet.
//!
//! [`Relay::start`] runs all of it inside of any program, a test for example; `main.rs` is only the command line around
//! it. One task owns the swarm ([`event_loop`]), one serves HTTP ([`http`]); both end with [`Relay::stop`] or when the
//! [`Relay`] is dropped.
//!
//! - [`config`]: what can be set. [`identity`]: the key on disk.
//! - [`behaviour`]: protocols and transports; [`webtransport`] is the transport that libp2p does not have natively.
//! - [`addresses`]: what is announced. [`record`]: the same, signed, for apps that know only a URL.
//! - [`record_store`]: the memory of the DHT server.
//! - [`content`]: what is kept and served. [`control`]: how the command line reaches a relay that runs.
//!   [`streams`]: the swarm as the exchange protocols see it. [`topics`]: pubsub, carried for the clients.
//!
//! Invariants: the relay never dials; every number a stranger can raise has a named bound.

mod addresses;
mod behaviour;
pub mod config;
pub mod content;
pub mod control;
mod event_loop;
mod http;
pub mod identity;
pub mod record;
mod record_store;
mod streams;
mod topics;
pub mod webtransport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Multiaddr;
use tabpeer::exchange::bitswap::Bitswap;
use tabpeer::network::peers::PeerStreams;
use tabpeer::platform::{Finder, nearby::Search};
use tabpeer::store::Store;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use config::RelayConfig;

/// After this [`Relay::stop`] stops waiting and drops what is left.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: Multiaddr, reason: String },
    #[error("cannot serve HTTP on {address}: {source}")]
    Http { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Content(#[from] content::ContentError),
    #[error("cannot set the relay up: {0}")]
    Setup(String),
}

/// A relay that is running. [`Relay::stop`] waits for its end; dropping it ends it too, in the background.
pub struct Relay {
    peer_id: PeerId,
    http_addr: SocketAddr,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    store: Option<Store>,
    streams: streams::RelayStreams,
    /// Serves as long as it is held.
    _bitswap: Option<Bitswap>,
    network: Task,
    web: Task,
    control: Option<Task>,
}

/// A task and the sender whose firing or dropping ends it.
struct Task {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Relay {
    /// Returns when the relay listens everywhere it was told to.
    pub async fn start(config: RelayConfig) -> Result<Self, RelayError> {
        Self::start_at(config, behaviour::system_clock()).await
    }

    /// With another clock, on which the certificates of WebTransport depend: tests change windows with it.
    pub async fn start_at(
        config: RelayConfig,
        clock: webtransport::Clock,
    ) -> Result<Self, RelayError> {
        install_crypto_provider();
        config.validate()?;
        let identity = identity::load_or_create(&config.data_dir)?;
        let store = match config.store.enabled {
            true => Some(content::open(&config).await?),
            false => None,
        };
        let started = Self::start_with(&config, identity, clock, store.clone()).await;
        if let (Err(_), Some(store)) = (&started, store) {
            // So that it can be opened when this has returned.
            store.close().await;
        }
        started
    }

    async fn start_with(
        config: &RelayConfig,
        identity: Keypair,
        clock: webtransport::Clock,
        store: Option<Store>,
    ) -> Result<Self, RelayError> {
        let peer_id = identity.public().to_peer_id();
        let swarm = behaviour::swarm(&identity, config, clock)?;
        let dht_protocol = config.dht.enabled.then(|| config.dht.protocol.clone());
        let external = config.external_addresses.clone();
        let search = Search { mdns: config.mdns, ..Search::default() };
        let (finder, _) = Finder::start(&identity, search)
            .map_err(|error| RelayError::Setup(error.to_string()))?;
        let listen = &config.listen;
        let (event_loop, addresses, streams) =
            event_loop::EventLoop::listen(swarm, listen, external, dht_protocol, finder).await?;
        let web = http::Server::bind(config).await?;
        let http_addr = web.address();
        let network = Task::spawn(|stop| event_loop.run(stop));
        if config.gossipsub.enabled {
            drop(tokio::spawn(topics::serve(streams.clone(), streams.commands())));
        }
        let content = match &store {
            Some(store) => {
                let bitswap = Bitswap::start(Arc::new(streams.clone()), store.clone()).await;
                Some((
                    store.clone(),
                    bitswap.map_err(|error| RelayError::Setup(error.to_string()))?,
                ))
            }
            None => None,
        };
        let bitswap = content.as_ref().map(|(_, bitswap)| bitswap.clone());
        let router = http::router(config, identity, addresses.clone(), content);
        let web = Task::spawn(|stop| web.run(router, stop));
        tracing::info!(peer = %peer_id, http = %http_addr, "the relay is running");
        let control = store.as_ref().and_then(|store| control(config, store));
        Ok(Self {
            peer_id,
            http_addr,
            addresses,
            store,
            streams,
            _bitswap: bitswap,
            network,
            web,
            control,
        })
    }

    /// What is kept and served; `None` if the configuration turns it off.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// For protocols of one's own on the relay's connections.
    pub fn streams(&self) -> &dyn PeerStreams {
        &self.streams
    }

    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Where the relay can be dialled now, each with `/p2p/ID`. They change with the host's interfaces and, for
    /// WebTransport, with the certificates.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.addresses.borrow().clone()
    }

    /// Resolves when [`Relay::addresses`] has changed since the last call (at once when the relay's task is gone).
    pub async fn addresses_changed(&mut self) {
        let _ = self.addresses.changed().await;
    }

    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Closes every connection and returns when all is closed, after a few seconds at most.
    pub async fn stop(self) {
        let Self { store, network, web, control, .. } = self;
        let control = async {
            if let Some(control) = control {
                control.stop().await;
            }
        };
        tokio::join!(network.stop(), web.stop(), control);
        if let Some(store) = store {
            // What a crash would leave to the next start.
            let _ = tokio::time::timeout(STOP_TIMEOUT, store.close()).await;
        }
    }
}

/// A relay without control can do everything else.
fn control(config: &RelayConfig, store: &Store) -> Option<Task> {
    let store = store.clone();
    match control::Server::bind(&config.data_dir) {
        Ok(server) => Some(Task::spawn(|stop| server.run(store, stop))),
        Err(error) => {
            let socket = control::socket_path(&config.data_dir);
            tracing::warn!(socket = %socket.display(), %error, "`tabpeer-relay add` will not reach this relay");
            None
        }
    }
}

impl Task {
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        task: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, ended: tokio::spawn(task(stopped)) }
    }

    async fn stop(self) {
        let Self { stop, mut ended } = self;
        let _ = stop.send(());
        if tokio::time::timeout(STOP_TIMEOUT, &mut ended).await.is_err() {
            ended.abort();
        }
    }
}

/// Both ring and aws-lc-rs are linked (libp2p-quic brings the second), and rustls refuses to choose by itself.
pub fn install_crypto_provider() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
