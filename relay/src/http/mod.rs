//! The web server: the relay's record, content by CID, a folder of static files, a health check.
//!
//! The accept loop is ours because a public server must wait for ever neither for the end of a request's
//! headers nor for a client that does not read.

mod gateway;
mod site;
mod stalled;
mod well_known;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Multiaddr;
use tabpeer::exchange::bitswap::Bitswap;
use tabpeer::store::Store;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use self::stalled::Stalled;
use crate::config::RelayConfig;
use crate::{RelayError, behaviour};

/// Nothing that is served reads a body.
const MAX_BODY: usize = 64 * 1024;
/// For a request's headers as a whole.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// For a request's headers to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// For a response to begin.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// For a client to take some of what is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Running responses are given this long when the relay stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failed `accept` (no file descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket and what will be served on it.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    connections: Arc<Semaphore>,
}

impl Server {
    pub async fn bind(config: &RelayConfig) -> Result<Self, RelayError> {
        let failed = |source| RelayError::Http { address: config.http.listen, source };
        let listener = TcpListener::bind(config.http.listen).await.map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            connections: Arc::new(Semaphore::new(config.http.max_connections)),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn run(self, router: Router, mut stop: oneshot::Receiver<()>) {
        let shutdown = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                _ = &mut stop => break,
            };
            let Some((stream, permit)) = accepted else { continue };
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES)
                .serve_connection(
                    TokioIo::new(Stalled::new(stream, WRITE_TIMEOUT)),
                    TowerToHyperService::new(router.clone()),
                );
            let connection = shutdown.watch(connection);
            tokio::spawn(async move {
                // The client's mistakes and disappearance are its own business.
                let _ = connection.await;
                drop(permit);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(CLOSE_TIMEOUT, shutdown.shutdown()).await.is_err() {
            tracing::warn!("some HTTP responses were cut off");
        }
    }

    /// The next connection once there is room for it.
    async fn accept(&self) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let permit = self.connections.clone().acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                Some((stream, permit))
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// Everything that is served. `content`: what the gateway serves, if there is a store.
pub fn router(
    config: &RelayConfig,
    identity: Keypair,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    content: Option<(Store, Bitswap)>,
) -> Router {
    let record = well_known::WellKnown::new(
        identity,
        addresses,
        &config.circuits,
        behaviour::features(config),
    );
    let router =
        Router::new().route("/healthz", get(async || "ok\n")).merge(well_known::routes(record));
    let router = match content {
        Some((store, bitswap)) if config.gateway.enabled => {
            router.merge(gateway::routes(store, bitswap, &config.gateway))
        }
        _ => router,
    };
    let router = match &config.http.site {
        Some(folder) => site::routes(router, folder),
        None => router.fallback(site::not_found),
    };
    router
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
}
