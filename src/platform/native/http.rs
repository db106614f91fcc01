//! HTTP GET for a relay's record: one small request now and then, so a blocking client on a thread
//! of its own.

use std::io::Read;

use bytes::Bytes;

use crate::platform::{http::HttpError, time::Duration};

/// Fetches `url`, at most `limit` bytes of it, within `timeout`.
pub async fn http_get(url: String, limit: usize, timeout: Duration) -> Result<Bytes, HttpError> {
    let blocking = tokio::task::spawn_blocking(move || get(&url, limit, timeout));
    blocking.await.map_err(|e| HttpError::Failed(e.to_string()))?
}

fn get(url: &str, limit: usize, timeout: Duration) -> Result<Bytes, HttpError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .build()
        .into();
    let response = agent.get(url).call().map_err(|e| HttpError::Failed(e.to_string()))?;
    let status = response.status().as_u16();
    if !(200..300).contains(&status) {
        return Err(HttpError::Status(status));
    }
    let mut body = Vec::new();
    let mut reader = response.into_body().into_reader().take(limit as u64 + 1);
    reader.read_to_end(&mut body).map_err(|e| HttpError::Failed(e.to_string()))?;
    if body.len() > limit {
        return Err(HttpError::TooLarge(limit));
    }
    Ok(body.into())
}
