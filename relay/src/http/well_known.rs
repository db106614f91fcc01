//! `GET /.well-known/tabpeer.json`: the signed record, for pages of any origin.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use libp2p::identity::{Keypair, SigningError};
use libp2p::multiaddr::Multiaddr;
use tokio::sync::watch;
use tower_http::cors::{Any, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::config::CircuitConfig;
use crate::record::Record;

/// Signing is cheap, but not free for whoever asks a thousand times a second.
const REUSE: Duration = Duration::from_secs(60);

/// Makes the record and keeps it while it is the same.
pub struct WellKnown {
    identity: Keypair,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    circuits: CircuitConfig,
    features: Vec<&'static str>,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    addresses: Vec<Multiaddr>,
    made: SystemTime,
    json: String,
}

impl WellKnown {
    pub fn new(
        identity: Keypair,
        addresses: watch::Receiver<Vec<Multiaddr>>,
        circuits: &CircuitConfig,
        features: Vec<&'static str>,
    ) -> Self {
        Self { identity, addresses, circuits: circuits.clone(), features, kept: Mutex::new(None) }
    }

    fn json(&self, now: SystemTime) -> Result<String, SigningError> {
        let addresses = self.addresses.borrow().clone();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_ref()
            && kept.addresses == addresses
            && now.duration_since(kept.made).is_ok_and(|age| age < REUSE)
        {
            return Ok(kept.json.clone());
        }
        let record = Record {
            addresses: &addresses,
            circuit_bytes: self.circuits.circuit_bytes,
            circuit_seconds: self.circuits.circuit_seconds,
            reservations: self.circuits.max_reservations,
            features: &self.features,
        };
        let json = record.sign(&self.identity, now)?.to_string();
        *kept = Some(Kept { addresses, made: now, json: json.clone() });
        Ok(json)
    }
}

pub fn routes(record: WellKnown) -> Router {
    Router::new()
        .route("/.well-known/tabpeer.json", get(serve))
        .layer(CorsLayer::new().allow_origin(Any).allow_private_network(true))
        .layer(SetResponseHeaderLayer::overriding(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .with_state(Arc::new(record))
}

async fn serve(State(record): State<Arc<WellKnown>>) -> Response {
    match record.json(SystemTime::now()) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            tracing::error!(%error, "the record cannot be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
