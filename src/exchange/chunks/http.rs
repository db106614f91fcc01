//! A chunk by HTTP, from the URL that the metadata names of a peer (`peer_http_url`).
//!
//! What the URL means is told by its form:
//!
//! | form | what is asked for |
//! |---|---|
//! | it has `{cid}` in it | the URL with the chunk's CID there; the answer is the block |
//! | an origin, or a path that ends in `/ipfs`, or goes on with a CID after `/ipfs/` | the trustless gateway there: `/ipfs/CID?format=raw`; the answer is the block |
//! | anything else | the file itself: the chunk's range of it; the answer are the chunk's bytes |
//!
//! Whatever comes is checked against the chunk's CID.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use super::coordinator::Failure;
use crate::{
    content::{
        block::{Block, BlockError, Cid, DAG_PB, MAX_BLOCK, SHA2_256},
        dagpb::PbNode,
        unixfs::{Kind, UnixFs},
    },
    platform::{
        http::{HttpRequest, http_stream},
        sha256,
        time::Duration,
    },
};

/// Longest URL.
pub const MAX_URL: usize = 2048;
/// How long a server may take to begin its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const PLACE: &str = "{cid}";
/// Media type of a block.
const RAW_BLOCK: &str = "application/vnd.ipld.raw";

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpChunk {
    /// The block of the chunk.
    Block { url: String },
    /// These bytes of the file.
    Range { url: String, range: Range<u64> },
}

impl HttpChunk {
    /// `range`: where the chunk's bytes stand in the file, if it is known.
    pub fn new(url: &str, cid: &Cid, range: Option<&Range<u64>>) -> Result<Self, &'static str> {
        check_url(url)?;
        let (before, query) = url.split_once('?').map_or((url, ""), |(url, query)| (url, query));
        if url.contains(PLACE) {
            return Ok(Self::Block { url: url.replace(PLACE, &cid.to_string()) });
        }
        if let Some(gateway) = gateway(before) {
            let more = if query.is_empty() { String::new() } else { format!("&{query}") };
            return Ok(Self::Block { url: format!("{gateway}/ipfs/{cid}?format=raw{more}") });
        }
        match range {
            Some(range) if !range.is_empty() => {
                Ok(Self::Range { url: url.to_owned(), range: range.clone() })
            }
            Some(_) => Err("the chunk is empty"),
            None => Err("the URL is a file's, and where the chunk stands in it is not known"),
        }
    }

    /// Fetches it; `progress` is told how many bytes have come.
    pub async fn fetch(self, cid: Cid, progress: impl Fn(u64)) -> Result<Block, Failure> {
        let attempt = |reason: String| Failure::Attempt(reason);
        let (url, header, range) = match self {
            Self::Block { url } => (url, ("accept", RAW_BLOCK.to_owned()), None),
            Self::Range { url, range } => {
                let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
                (url, ("range", value), Some(range))
            }
        };
        let wanted = match &range {
            Some(range) => usize::try_from(range.end - range.start).unwrap_or(usize::MAX),
            None => MAX_BLOCK,
        };
        if wanted > MAX_BLOCK {
            return Err(attempt("the chunk is larger than a block may be".to_owned()));
        }
        let (name, value) = header;
        let request = HttpRequest {
            url,
            headers: vec![(name.to_owned(), value)],
            timeout_to_headers: TIMEOUT,
            // A server that knows no ranges sends all; what is too much is not read.
            limit: None,
        };
        let mut response = http_stream(request).await.map_err(|e| attempt(e.to_string()))?;
        match (response.status, &range) {
            (200, None) | (206, Some(_)) => {}
            // The whole file: what is wanted of it comes first.
            (200, Some(range)) if range.start == 0 => {}
            (200, Some(_)) => return Err(attempt("the server serves no ranges".to_owned())),
            (status, _) => return Err(attempt(format!("the answer has the status {status}"))),
        }
        let mut body = BytesMut::new();
        while let Some(piece) = response.body.next().await {
            let mut piece = piece.map_err(|e| attempt(e.to_string()))?;
            let room = wanted - body.len();
            if piece.len() > room {
                if range.is_none() {
                    return Err(Failure::Url(format!("more than {MAX_BLOCK} bytes came")));
                }
                piece.truncate(room);
            }
            body.extend_from_slice(&piece);
            progress(body.len() as u64);
            if range.is_some() && body.len() == wanted {
                break;
            }
        }
        drop(response);
        if range.is_some() && body.len() < wanted {
            return Err(attempt(format!("{} of {wanted} bytes came", body.len())));
        }
        let body = body.freeze();
        let block = if range.is_some() && cid.codec() == DAG_PB { leaf(body) } else { body };
        let block = verify(cid, block).await;
        block.map_err(|error| Failure::Url(format!("wrong bytes by HTTP: {error}")))
    }
}

/// Whether a URL may be used at all.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    if url.len() > MAX_URL {
        return Err("the URL is too long");
    }
    let http = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let plain = url.chars().all(|c| c.is_ascii_graphic());
    if http && plain { Ok(()) } else { Err("it is not an http(s) URL") }
}

/// The gateway that a URL without its query names.
fn gateway(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let Some((host, path)) = rest.split_once('/') else { return Some(url) };
    if path.is_empty() {
        return Some(url.trim_end_matches('/'));
    }
    let base = url.len() - path.len() - 1;
    let path = format!("/{}", path.trim_end_matches('/'));
    let at = if path.ends_with("/ipfs") {
        path.len() - "/ipfs".len()
    } else {
        let at = path.find("/ipfs/")?;
        let cid = path.get(at + "/ipfs/".len()..)?.split('/').next()?;
        cid.parse::<Cid>().ok().map(|_| at)?
    };
    debug_assert!(base > host.len());
    url.get(..base + at)
}

/// The dag-pb leaf that holds these bytes of a file, as every importer writes it.
fn leaf(bytes: Bytes) -> Bytes {
    let mut file = UnixFs::new(Kind::File);
    file.file_size = Some(bytes.len() as u64);
    file.data = Some(bytes);
    PbNode { links: Vec::new(), data: Some(file.encode()) }.encode()
}

async fn verify(cid: Cid, data: Bytes) -> Result<Block, BlockError> {
    if cid.hash().code() != SHA2_256 {
        return Block::verify(cid, data);
    }
    let digest = sha256(data.clone()).await;
    Block::verify_digest(cid, &digest, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{
        block::{RAW, cid_of, sha256},
        import::import_bytes,
        profile::Profile,
    };
    use cid::Version;

    fn cid() -> Cid {
        cid_of(Version::V1, RAW, &sha256(b"chunk"))
    }

    #[test]
    fn the_form_of_a_url_tells_what_it_means() {
        let (cid, range) = (cid(), 10..20);
        let planned = |url: &str| HttpChunk::new(url, &cid, Some(&range));
        let block = |url: String| Ok(HttpChunk::Block { url });
        let raw = |base: &str| block(format!("{base}/ipfs/{cid}?format=raw"));
        for (url, base) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example/", "https://a.example"),
            ("http://127.0.0.1:8080/ipfs", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/ipfs/", "http://127.0.0.1:8080"),
            ("https://a.example/x/ipfs/", "https://a.example/x"),
            (&format!("https://a.example/ipfs/{cid}"), "https://a.example"),
            (&format!("https://a.example/ipfs/{cid}/a/b.txt"), "https://a.example"),
        ] {
            assert_eq!(planned(url), raw(base), "{url}");
        }
        let template = "https://a.example/blocks/{cid}?x=1";
        assert_eq!(planned(template), block(format!("https://a.example/blocks/{cid}?x=1")));
        let token = "https://a.example/?token=t";
        let with_token = format!("https://a.example/ipfs/{cid}?format=raw&token=t");
        assert_eq!(planned(token), block(with_token));
        for url in ["https://a.example/film.mp4", "https://a.example/ipfs/film", "http://a/b?c=d"] {
            let range = range.clone();
            assert_eq!(planned(url), Ok(HttpChunk::Range { url: url.to_owned(), range }));
            assert!(HttpChunk::new(url, &cid, None).is_err());
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        let long = format!("https://a/{}", "b".repeat(MAX_URL));
        for url in ["", "ftp://a/b", "javascript:alert(1)", "https://a/\r\nx", "/ipfs", &long] {
            assert!(HttpChunk::new(url, &cid(), None).is_err(), "{url}");
        }
    }

    #[test]
    fn a_leaf_is_made_as_importers_make_it() {
        let bytes = vec![7; 300_000];
        let (blocks, _) = import_bytes(Profile::UnixfsV0_2015.layout(), &bytes);
        let made = leaf(Bytes::copy_from_slice(&bytes[..262_144]));
        assert!(blocks.iter().any(|block| block.data() == &made));
    }
}
