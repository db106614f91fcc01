//! HTTP GET, streamed: the part that is the same in a browser and natively. What a server sends is
//! bounded by the caller, and one that stops in the middle is given up.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};

use super::{
    BoxFuture, BoxStream, imp,
    time::{self, Duration},
};

/// A body of which nothing arrives for this long, while it is waited for, is given up.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Most redirects that are followed for one request.
pub const MAX_REDIRECTS: usize = 4;

/// What to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    pub url: String,
    /// In a browser, others than the safelisted ones of CORS cost another round trip.
    pub headers: Vec<(String, String)>,
    /// From the start of the request to the end of the answer's headers.
    pub timeout_to_headers: Duration,
    /// The most bytes that the body may have.
    pub limit: Option<u64>,
}

/// An answer, whatever its status. Dropping it ends the transfer.
pub struct HttpResponse {
    pub status: u16,
    /// Names in lower case; in a browser, those that the server lets the page see.
    pub headers: Vec<(String, String)>,
    /// Ends after the first error.
    pub body: BoxStream<Result<Bytes, HttpError>>,
}

/// Why there is no answer, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the answer is longer than {0} bytes")]
    TooLarge(u64),
    #[error("it redirects to {to}")]
    Redirected { to: String },
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("nothing came for {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
    #[error("{0}")]
    Failed(String),
}

/// Where redirects may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    SameOrigin,
    Anywhere,
}

impl HttpResponse {
    /// The value of the header `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Asks for a URL. Redirects are followed within the origin; one that leads elsewhere is an error
/// (natively before it is followed; a browser does not say where to before it has).
pub fn http_stream(request: HttpRequest) -> BoxFuture<Result<HttpResponse, HttpError>> {
    Box::pin(open(request, Redirects::SameOrigin))
}

/// Fetches all of `url`, at most `limit` bytes, within `timeout`.
pub async fn http_get(url: String, limit: usize, timeout: Duration) -> Result<Bytes, HttpError> {
    let limit = Some(limit as u64);
    let request = HttpRequest { url, headers: Vec::new(), timeout_to_headers: timeout, limit };
    let whole = async {
        let mut response = open(request, Redirects::Anywhere).await?;
        if !(200..300).contains(&response.status) {
            return Err(HttpError::Status(response.status));
        }
        let mut body = BytesMut::new();
        while let Some(piece) = response.body.next().await {
            body.extend_from_slice(&piece?);
        }
        Ok(body.freeze())
    };
    time::timeout(timeout, whole).await.unwrap_or(Err(HttpError::NoAnswer(timeout)))
}

async fn open(request: HttpRequest, redirects: Redirects) -> Result<HttpResponse, HttpError> {
    let HttpRequest { url, headers, timeout_to_headers: within, limit } = request;
    let opening = imp::http_open(url, headers, redirects);
    let mut response =
        time::timeout(within, opening).await.unwrap_or(Err(HttpError::NoAnswer(within)))?;
    let limit = limit.unwrap_or(u64::MAX);
    let announced = response.header("content-length").and_then(|len| len.parse::<u64>().ok());
    // The body of a failure is not read by anybody.
    if response.status == 200 && announced.is_some_and(|len| len > limit) {
        return Err(HttpError::TooLarge(limit));
    }
    response.body = bounded(response.body, limit);
    Ok(response)
}

fn bounded(
    body: BoxStream<Result<Bytes, HttpError>>,
    limit: u64,
) -> BoxStream<Result<Bytes, HttpError>> {
    Box::pin(stream::unfold(Some((body, limit)), move |state| async move {
        let (mut body, left) = state?;
        let next = time::timeout(STALL_TIMEOUT, body.next()).await;
        let piece = next.unwrap_or(Some(Err(HttpError::Stalled)))?;
        let left = piece.as_ref().ok().map(|piece| left.checked_sub(piece.len() as u64));
        Some(match left {
            Some(Some(left)) => (piece, Some((body, left))),
            Some(None) => (Err(HttpError::TooLarge(limit)), None),
            None => (piece, None),
        })
    }))
}

/// Whether two absolute URLs have the same scheme, host and port.
pub(super) fn same_origin(a: &str, b: &str) -> bool {
    origin(a).is_some() && origin(a) == origin(b)
}

/// Scheme, host and port of an absolute http URL, in lower case, without a port that goes without
/// saying.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let origin = format!("{scheme}://{authority}").to_ascii_lowercase();
    let usual = if origin.starts_with("https:") { ":443" } else { ":80" };
    Some(origin.strip_suffix(usual).unwrap_or(&origin).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (a, b) in [
            ("http://a/x", "http://A:80/y?z"),
            ("https://a", "HTTPS://a:443#x"),
            ("http://[::1]:80", "http://[::1]/"),
        ] {
            assert!(same_origin(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("http://a", "https://a"),
            ("http://a", "http://b"),
            ("http://a", "http://a:8080"),
            ("http://a", "http://a.b"),
            ("http://a", "http://a@b/"),
            ("http://a", "/x"),
            ("x", "x"),
        ] {
            assert!(!same_origin(a, b), "{a} {b}");
        }
    }
}
