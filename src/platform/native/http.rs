//! HTTP GET by a blocking client, each request on a thread of its own: few run at a time.

use std::io::Read as _;

use bytes::Bytes;
use futures::stream;
use tokio::sync::{mpsc, oneshot};

use crate::platform::{
    http::{HttpError, HttpResponse, MAX_REDIRECTS, Redirects, STALL_TIMEOUT, same_origin},
    time::Duration,
};

/// Bytes read at a time.
const READ_SIZE: usize = 64 << 10;
/// Pieces of that size read ahead of whoever takes them.
const PIECES_AHEAD: usize = 4;
/// To look a name up, and to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

type Answer = ureq::http::Response<ureq::Body>;

/// The answer, its body neither bounded nor timed; dropping either ends the request.
pub(in crate::platform) async fn http_open(
    url: String,
    headers: Vec<(String, String)>,
    redirects: Redirects,
) -> Result<HttpResponse, HttpError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(STALL_TIMEOUT))
        .timeout_per_write(Some(STALL_TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .into();
    let end = EndOnDrop(Some(agent.clone()));
    let (head, answered) = oneshot::channel();
    let (pieces, body) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || match call(&agent, url, &headers, redirects) {
        Ok(answer) => {
            let (parts, body) = answer.into_parts();
            if head.send(Ok(parts)).is_ok() {
                read(body, &pieces);
            }
        }
        Err(error) => drop(head.send(Err(error))),
    });
    let head = answered.await.map_err(|_| HttpError::Failed("it was ended".to_owned()))??;
    let body = stream::unfold((body, end), |(mut body, end)| async move {
        let piece = body.recv().await?;
        Some((piece, (body, end)))
    });
    let headers = head.headers.iter();
    let headers = headers.filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let (status, headers) = (head.status.as_u16(), headers.collect());
    Ok(HttpResponse { status, headers, body: Box::pin(body) })
}

/// Follows redirects as far as they may be followed.
fn call(
    agent: &ureq::Agent,
    mut url: String,
    headers: &[(String, String)],
    redirects: Redirects,
) -> Result<Answer, HttpError> {
    for _ in 0..=MAX_REDIRECTS {
        let mut request = agent.get(&url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.call().map_err(|error| HttpError::Failed(error.to_string()))?;
        let location = answer.headers().get("location").and_then(|to| to.to_str().ok());
        let Some(to) = location.filter(|_| answer.status().is_redirection()) else {
            return Ok(answer);
        };
        let to = resolve(&url, to);
        if redirects == Redirects::SameOrigin && !same_origin(&url, &to) {
            return Err(HttpError::Redirected { to });
        }
        url = to;
    }
    Err(HttpError::Failed(format!("it redirects more than {MAX_REDIRECTS} times")))
}

fn read(body: ureq::Body, pieces: &mpsc::Sender<Result<Bytes, HttpError>>) {
    let mut reader = body.into_reader();
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let piece = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => Ok(Bytes::copy_from_slice(buffer.get(..len).unwrap_or_default())),
            Err(error) => Err(HttpError::Failed(error.to_string())),
        };
        let failed = piece.is_err();
        if pieces.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

/// What `location` means at `base`.
fn resolve(base: &str, location: &str) -> String {
    let absolute = location.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    if absolute {
        return location.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("http", base));
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if location.starts_with('/') {
        return format!("{scheme}://{authority}{location}");
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let folder = path.rfind('/').map_or("", |slash| path.get(..slash).unwrap_or_default());
    format!("{scheme}://{authority}{folder}/{location}")
}

/// Interrupts the thread: it may be waiting for a server that says nothing.
struct EndOnDrop(Option<ureq::Agent>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(agent) = self.0.take() {
            agent.shutdown();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_relative_to_where_they_were_found() {
        for (base, location, to) in [
            ("http://a/b/c?d", "/x", "http://a/x"),
            ("http://a/b/c?d/e", "x", "http://a/b/x"),
            ("http://a", "x", "http://a/x"),
            ("https://a/b", "//c/d", "https://c/d"),
            ("https://a/b", "http://c", "http://c"),
            ("https://a/b", "/x?u=http://c", "https://a/x?u=http://c"),
        ] {
            assert_eq!(resolve(base, location), to);
        }
    }
}
