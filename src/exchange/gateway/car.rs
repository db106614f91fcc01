//! A CAR as it arrives: read, hashed several blocks at a time, handed on in its order ("Trustless
//! Gateway": CAR, `dag-scope=entity`).

use bytes::Bytes;
use cid::Cid;
use futures::{StreamExt as _, stream};

use super::{
    raw::{Fault, check_status, http_fault},
    request,
    url::GatewayUrl,
};
use crate::{
    content::{
        block::{Block, SHA2_256},
        car::{CarItem, CarReader},
    },
    platform::{self, BoxStream, http::HttpError, http_stream},
};

/// Blocks hashed at a time.
const HASHES_IN_FLIGHT: usize = 4;
const FORMAT: &str = "application/vnd.ipld.car";
const ACCEPT: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";

/// What comes out of a CAR.
#[derive(Debug)]
pub(super) enum FromCar {
    Block(Block),
    /// That many bytes that cannot be checked: another hash function.
    Useless(usize),
}

/// What is read of the answer, and what is left of it.
struct Reading {
    url: String,
    body: BoxStream<Result<Bytes, HttpError>>,
    reader: CarReader,
}

/// The blocks of the CAR of `root`; ends after the first fault. Nothing is asked for before it is
/// polled, and nothing is read on while it is not.
pub(super) fn blocks(url: &GatewayUrl, root: &Cid) -> BoxStream<Result<FromCar, Fault>> {
    let url = url.car(root);
    let answer = stream::once(open(url)).flat_map(|opened| match opened {
        Ok(reading) => sections(reading),
        Err(fault) => Box::pin(stream::once(async move { Err(fault) })),
    });
    Box::pin(answer.map(verify).buffered(HASHES_IN_FLIGHT))
}

async fn open(url: String) -> Result<Reading, Fault> {
    let opened = http_stream(request(&url, ACCEPT, None)).await;
    let response = opened.map_err(|error| http_fault(&url, &error))?;
    check_status(&url, &response)?;
    match response.header("content-type") {
        Some(kind) if !kind.starts_with(FORMAT) => {
            let kind: String = kind.chars().take(64).collect();
            Err(Fault::Missing(format!("{url}: not a CAR but {kind}")))
        }
        _ => Ok(Reading { url, body: response.body, reader: CarReader::new() }),
    }
}

type Section = Result<(String, Cid, Bytes), Fault>;

fn sections(reading: Reading) -> BoxStream<Section> {
    Box::pin(stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some((cid, data))) => Some((Ok((reading.url.clone(), cid, data)), Some(reading))),
            Ok(None) => None,
            Err(fault) => Some((Err(fault), None)),
        }
    }))
}

impl Reading {
    async fn next(&mut self) -> Result<Option<(Cid, Bytes)>, Fault> {
        let broken = |url: &str, why: String| Fault::Broken(format!("{url}: {why}"));
        loop {
            match self.reader.next().map_err(|error| broken(&self.url, error.to_string()))? {
                Some(CarItem::Block(cid, data)) => return Ok(Some((cid, data))),
                Some(CarItem::Roots(_)) => continue,
                None => {}
            }
            match self.body.next().await {
                Some(Ok(piece)) => self.reader.push(piece),
                Some(Err(error)) => return Err(http_fault(&self.url, &error)),
                None => {
                    let ended = self.reader.end();
                    return match ended {
                        Ok(()) => Ok(None),
                        Err(error) => Err(broken(&self.url, error.to_string())),
                    };
                }
            }
        }
    }
}

async fn verify(section: Section) -> Result<FromCar, Fault> {
    let (url, cid, data) = section?;
    if cid.hash().code() != SHA2_256 {
        return Ok(FromCar::Useless(data.len()));
    }
    let digest = platform::sha256(data.clone()).await;
    match Block::verify_digest(cid, &digest, data) {
        Ok(block) => Ok(FromCar::Block(block)),
        Err(error) => Err(Fault::Useless(format!("{url}: {error}"))),
    }
}
