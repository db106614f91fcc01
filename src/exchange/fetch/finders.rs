//! Where providers are found: in the DHT, and with delegated routers.

use std::sync::Arc;

use cid::Cid;
use futures::{FutureExt as _, StreamExt as _, stream};
use libp2p::{PeerId, multiaddr::Protocol};

use super::peers::FindProviders;
use crate::{
    exchange::{
        gateway::GatewayUrl,
        routing::{self, Provider},
    },
    network::Network,
    platform::{BoxStream, dialer},
};

/// Providers taken of one search.
const MAX_FOUND: usize = 20;
/// Of a provider that a router names, addresses tried.
const MAX_ADDRESSES: usize = 3;
/// Providers dialled at a time.
const DIALS: usize = 4;

/// The DHT.
pub struct DhtProviders(pub Network);

impl FindProviders for DhtProviders {
    fn providers(&self, cid: &Cid) -> BoxStream<PeerId> {
        let (network, key) = (self.0.clone(), cid.hash().to_bytes());
        let found = async move {
            match network.providers(key, MAX_FOUND).await {
                Ok(found) => found.left_stream(),
                Err(_) => stream::empty().right_stream(),
            }
        };
        Box::pin(found.flatten_stream())
    }
}

/// Delegated routers, all asked together.
pub struct RouterProviders {
    pub network: Network,
    pub routers: Arc<[GatewayUrl]>,
}

impl FindProviders for RouterProviders {
    fn providers(&self, cid: &Cid) -> BoxStream<PeerId> {
        let (network, routers, cid) = (self.network.clone(), self.routers.clone(), *cid);
        let found = async move {
            let providers = routing::providers(&routers, &cid, dialer()).await.unwrap_or_default();
            let connecting = stream::iter(providers.into_iter().take(MAX_FOUND))
                .map(move |provider| connect(network.clone(), provider));
            connecting.buffer_unordered(DIALS)
        };
        Box::pin(found.flatten_stream())
    }
}

/// Dials a provider where the router says that it is, so that whoever asks it finds it connected. One
/// that is not there may still be found elsewhere.
async fn connect(network: Network, provider: Provider) -> PeerId {
    for address in provider.addresses.into_iter().take(MAX_ADDRESSES) {
        let address = address.with(Protocol::P2p(provider.peer));
        if network.dial(address).await.is_ok() {
            break;
        }
    }
    provider.peer
}
