//! A single block, and what the ways in which it does not come mean ("Trustless Gateway": raw).

use bytes::BytesMut;
use cid::Cid;
use futures::StreamExt as _;

use super::{MAX_PAUSE, RAW_TIMEOUT, USUAL_PAUSE, request, url::GatewayUrl};
use crate::{
    content::block::{Block, BlockError, MAX_BLOCK},
    platform::{
        self,
        http::{HttpError, HttpResponse},
        http_stream,
        time::{self, Duration},
    },
};

/// Why a block did not come. Each reason names the URL.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not there; others may be.
    Missing(String),
    /// It may be there the next time.
    Broken(String),
    /// The gateway asks for a pause.
    Busy { pause: Duration, reason: String },
    /// The gateway is of no use, now and later.
    Useless(String),
}

/// Fetches one block, after `delay`.
pub(super) async fn fetch(url: GatewayUrl, cid: Cid, delay: Duration) -> Result<Block, Fault> {
    if !delay.is_zero() {
        time::sleep(delay).await;
    }
    let url = url.raw(&cid);
    let whole = time::timeout(RAW_TIMEOUT, fetch_now(&url, cid)).await;
    whole.unwrap_or_else(|_| Err(Fault::Broken(format!("{url}: not done in {RAW_TIMEOUT:?}"))))
}

async fn fetch_now(url: &str, cid: Cid) -> Result<Block, Fault> {
    let request = request(url, "application/vnd.ipld.raw", Some(MAX_BLOCK as u64));
    let fault = |error| http_fault(url, &error);
    let mut response = http_stream(request).await.map_err(fault)?;
    check_status(url, &response)?;
    if is_page(&response) {
        return Err(Fault::Useless(format!("{url}: it answers with a web page")));
    }
    let mut data = BytesMut::new();
    while let Some(piece) = response.body.next().await {
        data.extend_from_slice(&piece.map_err(fault)?);
    }
    let data = data.freeze();
    let digest = platform::sha256(data.clone()).await;
    Block::verify_digest(cid, &digest, data).map_err(|error| match error {
        BlockError::Mismatch { .. } | BlockError::TooLarge { .. } => {
            Fault::Useless(format!("{url}: the bytes are not that block"))
        }
        BlockError::UnsupportedHash { .. } => Fault::Missing(error.to_string()),
    })
}

/// What a status other than 200 says.
pub(super) fn check_status(url: &str, response: &HttpResponse) -> Result<(), Fault> {
    let reason = format!("{url}: status {}", response.status);
    Err(match response.status {
        200 => return Ok(()),
        429 => {
            let asked = response.header("retry-after").and_then(|text| text.trim().parse().ok());
            let pause = asked.map_or(USUAL_PAUSE, Duration::from_secs);
            if pause > MAX_PAUSE {
                Fault::Useless(format!("{reason}, it asks to wait for {} s", pause.as_secs()))
            } else {
                Fault::Busy { pause, reason }
            }
        }
        300..=399 | 401 | 403 => Fault::Useless(reason),
        500.. => Fault::Broken(reason),
        _ => Fault::Missing(reason),
    })
}

pub(super) fn http_fault(url: &str, error: &HttpError) -> Fault {
    let reason = format!("{url}: {error}");
    match error {
        HttpError::TooLarge(_) | HttpError::Redirected { .. } => Fault::Useless(reason),
        _ => Fault::Broken(reason),
    }
}

/// Whether the answer is meant for people.
fn is_page(response: &HttpResponse) -> bool {
    response.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
}

impl Fault {
    pub(super) fn reason(&self) -> &str {
        let (Self::Missing(reason)
        | Self::Broken(reason)
        | Self::Busy { reason, .. }
        | Self::Useless(reason)) = self;
        reason
    }
}
