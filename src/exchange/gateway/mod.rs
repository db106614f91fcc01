//! Content from trustless gateways (the "Trustless Gateway" specification of IPFS): a relay's, or a
//! public one. What a gateway is asked for is blocks, alone or as a CAR, and every block is checked
//! against its CID, so it cannot pass anything off; one that tries is not asked again by that fetch.
//!
//! One CAR of the whole file or directory brings blocks in the order in which a reader wants them, so
//! it is asked for first; blocks that it does not bring in time are asked for one by one.

mod car;
mod raw;
mod session;
mod url;

use crate::{
    exchange::fetch::source::{FetchRequest, Source, SourceKind, SourceSession},
    platform::{http::HttpRequest, time::Duration},
};

use session::Session;
pub use url::{GatewayUrl, GatewayUrlError};

/// From asking to the headers of the answer; a gateway may have to look for the content first.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a single block, as a whole.
pub const RAW_TIMEOUT: Duration = Duration::from_secs(120);
/// Single blocks asked for at a time.
pub const MAX_RAW_REQUESTS: usize = 6;
/// How often a single block is asked for again.
pub const MAX_RETRIES: u32 = 2;
/// Before the first time that it is; doubled with each.
pub const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Requests that fail one after the other, without an answer of use between them, before the gateway
/// is taken to be down.
pub const MAX_FAILURES: u32 = 6;
/// The longest pause that a gateway may ask for (status 429); one that wants more is given up.
pub const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The pause when it names none. In a browser it mostly cannot.
pub const USUAL_PAUSE: Duration = Duration::from_secs(2);
/// Bytes of a CAR's blocks kept for wants to come. When they are as many, the CAR is not read on, and
/// what is wanted besides is asked for by itself.
pub const MAX_AHEAD: usize = 8 << 20;
/// What a kept block counts besides its bytes.
pub const AHEAD_OVERHEAD: usize = 512;
/// Bytes of a CAR that are of no use, one after the other, before it is given up.
pub const MAX_USELESS: usize = 16 << 20;
/// Single blocks asked for while a CAR waits to be read on, before it is given up.
pub const MAX_OUT_OF_STEP: u32 = 16;
/// A CAR that brings nothing that is wanted for this long is given up.
pub const CAR_PATIENCE: Duration = Duration::from_secs(20);
/// Blocks that are wanted at a time, without the root among them, for which a CAR is tried.
pub const MANY: usize = 16;
/// Blocks that a CAR is known to bring for nothing; with more it is given up.
pub const MAX_SKIPPED: usize = 4096;

/// A gateway as a source of blocks.
#[derive(Debug, Clone)]
pub struct GatewaySource {
    kind: SourceKind,
    url: GatewayUrl,
}

impl GatewaySource {
    /// `kind`: [`SourceKind::Relay`] for a relay's gateway, [`SourceKind::Gateway`] for another.
    pub fn new(kind: SourceKind, url: GatewayUrl) -> Self {
        Self { kind, url }
    }
}

impl Source for GatewaySource {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    fn name(&self) -> String {
        format!("gateway {}", self.url)
    }

    fn open(&self, request: &FetchRequest) -> Box<dyn SourceSession> {
        Box::new(Session::new(self.url.clone(), request.root))
    }
}

/// A request for one of a gateway's two formats.
fn request(url: &str, accept: &str, limit: Option<u64>) -> HttpRequest {
    let headers = vec![("accept".to_owned(), accept.to_owned())];
    HttpRequest { url: url.to_owned(), headers, timeout_to_headers: ANSWER_TIMEOUT, limit }
}
