//! Who has a CID, asked of delegated routers over HTTP (the "Delegated Routing V1 HTTP API"
//! specification, with the filters of IPIP-484). What they say is a hint: whom it names is dialled
//! and authenticated, and blocks are verified.

pub mod records;

use bytes::BytesMut;
use cid::Cid;
use futures::{StreamExt as _, future::join_all};
use libp2p::{Multiaddr, PeerId};

use super::gateway::GatewayUrl;
use crate::platform::{
    Dialer,
    http::{HttpError, HttpRequest},
    http_stream,
    time::{self, Duration},
};

/// Most providers taken, of one router and of all.
pub const MAX_PROVIDERS: usize = 100;
/// Most bytes read of an answer: 100 records of 5 KiB.
pub const MAX_ANSWER: usize = 512 << 10;
/// For one router; what came until then counts.
pub const ROUTER_TIMEOUT: Duration = Duration::from_secs(20);
/// Most addresses kept of a provider.
pub const MAX_ADDRESSES: usize = 16;
/// Longest address and name of a protocol that is read, as text.
pub const MAX_TEXT: usize = 512;
/// Most protocols kept of a provider.
pub const MAX_PROTOCOLS: usize = 16;
/// Most routers asked.
pub const MAX_ROUTERS: usize = 8;

const ACCEPT: &str = "application/x-ndjson, application/json;q=0.9";

/// A peer that is said to have the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    pub peer: PeerId,
    /// Those that can be dialled from here, best first, without the peer's id; perhaps none.
    pub addresses: Vec<Multiaddr>,
    /// As the router calls them: `transport-bitswap`. Often none are given.
    pub protocols: Vec<String>,
}

/// No router answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no router knows who has {cid}: {}", .reasons.join("; "))]
pub struct RoutingError {
    pub cid: Cid,
    /// One for each router, with its URL.
    pub reasons: Vec<String>,
}

/// Asks all `routers` (the first [`MAX_ROUTERS`]) at the same time. Fails only if all do; an empty
/// answer is none.
pub async fn providers(
    routers: &[GatewayUrl],
    cid: &Cid,
    dialer: Dialer,
) -> Result<Vec<Provider>, RoutingError> {
    let asked = routers.iter().take(MAX_ROUTERS);
    let answers = join_all(asked.map(|router| ask(router, cid, dialer))).await;
    let (mut all, mut reasons): (Vec<Provider>, _) = (Vec::new(), Vec::new());
    let mut answered = answers.is_empty();
    for answer in answers {
        match answer {
            Ok(providers) => {
                answered = true;
                providers.into_iter().for_each(|provider| merge(&mut all, provider));
            }
            Err(reason) => reasons.push(reason),
        }
    }
    if answered { Ok(all) } else { Err(RoutingError { cid: *cid, reasons }) }
}

async fn ask(router: &GatewayUrl, cid: &Cid, dialer: Dialer) -> Result<Vec<Provider>, String> {
    let url = format!("{router}/routing/v1/providers/{cid}?{}", filters(dialer));
    let (mut body, mut end) = (BytesMut::new(), Ok(()));
    let reading = read(url.clone(), &mut body);
    match time::timeout(ROUTER_TIMEOUT, reading).await {
        Ok(Ok(true)) => {}
        // Nothing known, in an earlier version of the specification.
        Ok(Ok(false)) => return Ok(Vec::new()),
        Ok(Err(error)) => end = Err(error),
        Err(_) => end = Err(HttpError::NoAnswer(ROUTER_TIMEOUT)),
    }
    match (records::parse(&body, dialer), end) {
        (Some(providers), Ok(())) => Ok(providers),
        (Some(providers), Err(_)) if !providers.is_empty() => Ok(providers),
        (_, Err(error)) => Err(format!("{url}: {error}")),
        (None, Ok(())) => Err(format!("{url}: the answer is no list of providers")),
    }
}

/// Reads an answer into `body`, as far as it is of use; `false`: it is known that there is none.
async fn read(url: String, body: &mut BytesMut) -> Result<bool, HttpError> {
    let headers = vec![("accept".to_owned(), ACCEPT.to_owned())];
    let timeout_to_headers = ROUTER_TIMEOUT;
    let request = HttpRequest { url, headers, timeout_to_headers, limit: None };
    let mut response = http_stream(request).await?;
    match response.status {
        200 => {}
        404 => return Ok(false),
        status => return Err(HttpError::Status(status)),
    }
    let mut lines = 0;
    let by_line = response.header("content-type").is_some_and(|kind| kind.contains("ndjson"));
    while let Some(piece) = response.body.next().await {
        let piece = piece?;
        let room = MAX_ANSWER - body.len();
        body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        lines += piece.iter().filter(|byte| **byte == b'\n').count();
        if body.len() == MAX_ANSWER || by_line && lines >= MAX_PROVIDERS {
            break;
        }
    }
    Ok(true)
}

/// The query for providers that can be dialled by `dialer`; of unknown ones a lookup may find more.
fn filters(dialer: Dialer) -> &'static str {
    match dialer {
        Dialer::Native => {
            "filter-addrs=tcp,ws,wss,tls,unknown&filter-protocols=transport-bitswap,unknown"
        }
        Dialer::Browser { webtransport: true, .. } => {
            "filter-addrs=webtransport,ws,wss,tls,unknown&filter-protocols=transport-bitswap,unknown"
        }
        Dialer::Browser { .. } => {
            "filter-addrs=ws,wss,tls,unknown&filter-protocols=transport-bitswap,unknown"
        }
    }
}

/// Adds a provider, or what is new of it.
fn merge(all: &mut Vec<Provider>, provider: Provider) {
    let known = all.iter_mut().find(|known| known.peer == provider.peer);
    let Some(known) = known else {
        if all.len() < MAX_PROVIDERS {
            all.push(provider);
        }
        return;
    };
    for address in provider.addresses {
        if known.addresses.len() < MAX_ADDRESSES && !known.addresses.contains(&address) {
            known.addresses.push(address);
        }
    }
    for protocol in provider.protocols {
        if known.protocols.len() < MAX_PROTOCOLS && !known.protocols.contains(&protocol) {
            known.protocols.push(protocol);
        }
    }
}
