//! `GET|HEAD /ipfs/CID[/PATH]`: blocks and CAR files for clients that verify what they get (IPFS "Trustless Gateway
//! Specification"). Nothing is interpreted on their behalf, so no origin can be abused: a response is an attachment.

mod blocks;
mod car;
mod request;
mod resolve;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::stream;
use tabpeer::content::block::sha256;
use tabpeer::content::car::{car_header, car_section};
use tabpeer::exchange::bitswap::Bitswap;
use tabpeer::store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::cors::{Any, CorsLayer};

use crate::config::GatewayConfig;

use self::blocks::{Blocks, Source};
use self::car::CarWalk;
use self::request::{Car, Format, Refusal, Request, Scope, header_values};
use self::resolve::{ResolveError, Resolved};

/// How long the blocks on the way to what is asked for are looked for.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(25);
/// What a CID names never changes.
const CACHE_CONTROL: &str = "public, max-age=29030400, immutable";
/// Longest part of a file's name that a response repeats.
const MAX_FILENAME: usize = 255;
/// Of a response's headers, those that pages may read.
const EXPOSED: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::ETAG,
    HeaderName::from_static("x-ipfs-path"),
    HeaderName::from_static("x-ipfs-roots"),
];

struct Gateway {
    source: Source,
    requests: Arc<Semaphore>,
}

pub fn routes(store: Store, bitswap: Bitswap, config: &GatewayConfig) -> Router {
    let patience = Duration::from_secs(config.fetch_seconds);
    let peers = config.fetch_from_peers.then_some((bitswap, patience));
    let requests = Arc::new(Semaphore::new(config.max_requests));
    let gateway = Gateway { source: Source::new(store, peers), requests };
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers(Any)
        .expose_headers(EXPOSED)
        .allow_private_network(true);
    Router::new().route("/ipfs/{*path}", get(serve)).layer(cors).with_state(Arc::new(gateway))
}

async fn serve(
    State(gateway): State<Arc<Gateway>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match gateway.answer(&method, &uri, &headers).await {
        Ok(response) => response,
        Err((status, reason)) => plain(status, &reason),
    }
}

type Failure = (StatusCode, String);

impl Gateway {
    async fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let request = Request::parse(uri, headers).map_err(|refusal| match refusal {
            Refusal::Bad(reason) => (StatusCode::BAD_REQUEST, reason),
            Refusal::NotAcceptable(reason) => (StatusCode::NOT_ACCEPTABLE, reason),
        })?;
        let etag = etag(&request);
        let known: Vec<&str> = header_values(headers, header::IF_NONE_MATCH).collect();
        if known.iter().any(|known| weak(known) == weak(&etag)) {
            return Ok(not_modified(&etag));
        }
        let permit = self.requests.clone().try_acquire_owned().map_err(|_| {
            (StatusCode::SERVICE_UNAVAILABLE, "the gateway is busy: try again".to_owned())
        })?;
        let mut blocks = self.source.blocks(request.only_if_cached);
        let resolving = resolve::resolve(&mut blocks, request.root, &request.path);
        let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, resolving).await.map_err(|_| {
            (StatusCode::GATEWAY_TIMEOUT, "the content was not found in time".to_owned())
        })?;
        let resolved = resolved.map_err(|error| failure(error, request.only_if_cached))?;
        if known.contains(&"*") {
            return Ok(not_modified(&etag));
        }
        let response = match request.format {
            Format::Raw => raw(&resolved, method, permit),
            Format::Car(car) => self::car(blocks, &request, &resolved, car, method, permit)?,
        };
        Ok(with_headers(response, uri, &request, &resolved, &etag))
    }
}

fn raw(resolved: &Resolved, method: &Method, permit: OwnedSemaphorePermit) -> Response {
    let data = resolved.end.data().clone();
    let len = data.len();
    let body = match *method {
        Method::HEAD => Body::empty(),
        // One response fewer only when the body was taken.
        _ => Body::from_stream(stream::unfold((Some(data), permit), |(data, permit)| async move {
            Some((Ok::<_, Infallible>(data?), (None, permit)))
        })),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, len.into());
    let raw = HeaderValue::from_static("application/vnd.ipld.raw");
    headers.insert(header::CONTENT_TYPE, raw);
    response
}

fn car(
    blocks: Blocks,
    request: &Request,
    resolved: &Resolved,
    car: Car,
    method: &Method,
    permit: OwnedSemaphorePermit,
) -> Result<Response, Failure> {
    let walk = CarWalk::new(blocks, resolved, car).map_err(|outside| {
        let reason = format!("entity-bytes lies outside of the file's {} bytes", outside.size);
        (StatusCode::BAD_REQUEST, reason)
    })?;
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => {
            let root = request.path.is_empty().then_some(request.root);
            let root = root.unwrap_or(*resolved.end.cid());
            Body::from_stream(sections(root, walk, permit))
        }
    };
    let mut response = Response::new(body);
    let media = match car.dups {
        true => "application/vnd.ipld.car; version=1; order=dfs; dups=y",
        false => "application/vnd.ipld.car; version=1; order=dfs; dups=n",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(response)
}

/// The CAR in pieces. An error ends the connection, so that no client takes it for whole.
fn sections(
    root: cid::Cid,
    walk: CarWalk,
    permit: OwnedSemaphorePermit,
) -> impl futures::Stream<Item = Result<Bytes, car::CarError>> + Send {
    let first = Some(car_header(&[root]));
    stream::try_unfold((walk, first, permit), |(mut walk, ready, permit)| async move {
        if let Some(ready) = ready {
            return Ok(Some((ready, (walk, None, permit))));
        }
        let next = walk.next().await.inspect_err(|error| {
            tracing::debug!(%error, "a CAR was cut off");
        })?;
        let Some(block) = next else { return Ok(None) };
        let [head, data] = car_section(&block);
        Ok(Some((head, (walk, Some(data), permit))))
    })
}

fn with_headers(
    mut response: Response,
    uri: &Uri,
    request: &Request,
    resolved: &Resolved,
    etag: &str,
) -> Response {
    let roots: Vec<String> = resolved.roots.iter().map(ToString::to_string).collect();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        // All of it is ASCII, by its making; what is not would have been refused.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, etag);
    set(header::CACHE_CONTROL, CACHE_CONTROL);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::VARY, "accept");
    set(header::ACCEPT_RANGES, "none");
    set(header::CONTENT_DISPOSITION, &disposition(request, resolved));
    set(HeaderName::from_static("x-ipfs-path"), uri.path());
    set(HeaderName::from_static("x-ipfs-roots"), &roots.join(","));
    if request.negotiated {
        set(header::CONTENT_LOCATION, &location(uri, request.format));
    }
    response
}

/// What a cache may keep this response under: the same request with the format in its query.
fn location(uri: &Uri, format: Format) -> String {
    let query = uri.query().filter(|query| !query.is_empty());
    let (path, query) = (uri.path(), query.map(|query| format!("{query}&")).unwrap_or_default());
    match format {
        Format::Raw => format!("{path}?{query}format=raw"),
        Format::Car(car) => {
            let dups = if car.dups { 'y' } else { 'n' };
            let asked = if query.contains("car-dups=") {
                String::new()
            } else {
                format!("&car-dups={dups}")
            };
            format!("{path}?{query}format=car{asked}")
        }
    }
}

/// One for each response that there can be.
fn etag(request: &Request) -> String {
    let mut etag = format!("{}", request.root);
    if !request.path.is_empty() {
        etag.push('.');
        for byte in sha256(request.path.join("/").as_bytes()).iter().take(8) {
            let _ = write!(etag, "{byte:02x}");
        }
    }
    match request.format {
        Format::Raw => format!("\"{etag}.raw\""),
        Format::Car(car) => {
            let scope = match car.scope {
                Scope::Block => "block",
                Scope::Entity => "entity",
                Scope::All => "all",
            };
            let bytes = car.bytes.map(|bytes| format!(".{bytes}")).unwrap_or_default();
            let dups = if car.dups { 'y' } else { 'n' };
            // Weak, because it may be cut off.
            format!("W/\"{etag}.car.{scope}{bytes}.dups-{dups}\"")
        }
    }
}

fn weak(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

fn disposition(request: &Request, resolved: &Resolved) -> String {
    let Some(name) = &request.filename else {
        return match request.format {
            Format::Raw => format!("attachment; filename=\"{}.bin\"", resolved.end.cid()),
            Format::Car(_) => format!("attachment; filename=\"{}.car\"", request.root),
        };
    };
    let (mut plain, mut exact) = (String::new(), String::new());
    for character in name.chars().filter(|character| !character.is_control()) {
        if exact.len() > MAX_FILENAME {
            break;
        }
        if character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_') {
            plain.push(character);
            exact.push(character);
        } else {
            plain.push('_');
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(exact, "%{byte:02X}");
            }
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}")
}

fn not_modified(etag: &str) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

fn failure(error: ResolveError, only_if_cached: bool) -> Failure {
    let status = match &error {
        ResolveError::NoRoot(_) | ResolveError::Absent(_) if only_if_cached => {
            StatusCode::PRECONDITION_FAILED
        }
        ResolveError::NoRoot(_)
        | ResolveError::Absent(_)
        | ResolveError::NoSuchName { .. }
        | ResolveError::NotADirectory(_)
        | ResolveError::BadNode { .. } => StatusCode::NOT_FOUND,
        ResolveError::Store(error) => {
            tracing::error!(%error, "the store failed");
            let reason = "the store failed".to_owned();
            return (StatusCode::INTERNAL_SERVER_ERROR, reason);
        }
    };
    (status, error.to_string())
}

/// A failure may be over soon, so nobody is to keep it.
fn plain(status: StatusCode, reason: &str) -> Response {
    let mut response = (status, format!("{}: {reason}\n", status.as_u16())).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
