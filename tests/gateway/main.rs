//! Gateways, good and bad, as a source of blocks.
//!
//! The clock stands still while a request is under way and jumps when everybody waits for it, so
//! delays cost no time here.
#![cfg(not(target_family = "wasm"))]

mod answers;
#[path = "../support/car_file.rs"]
mod car_file;
mod cars;
#[path = "../support/http.rs"]
mod http;
mod session;

use std::future::poll_fn;

use futures::future::BoxFuture;
use tabpeer::{
    content::{
        block::Cid,
        read::{ReadStep, Reader},
    },
    exchange::{
        fetch::source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
        gateway::GatewaySource,
    },
};
use tokio::net::TcpStream;

use car_file::File;
use http::{Request, Server};

const CAR: &str = "content-type: application/vnd.ipld.car; version=1\r\n";
const PAGE: &str = "content-type: text/html; charset=utf-8\r\n";

fn open(url: &str, root: Cid) -> Box<dyn SourceSession> {
    let source = GatewaySource::new(SourceKind::Gateway, url.parse().expect("a URL"));
    assert_eq!((source.kind(), source.name()), (SourceKind::Gateway, format!("gateway {url}")));
    source.open(&FetchRequest {
        root,
        fallback: None,
        preferred_sources: Vec::new(),
        ttl: None,
        requester: None,
        timeout: None,
        source_timeout: None,
    })
}

async fn next(session: &mut Box<dyn SourceSession>) -> Option<SourceEvent> {
    poll_fn(|cx| session.poll_next(cx)).await
}

/// Reads the whole file from one session.
async fn read(session: &mut Box<dyn SourceSession>, root: Cid) -> Result<Vec<u8>, SourceEvent> {
    let mut reader = Reader::new(root, None).expect("a file");
    let mut out = Vec::new();
    loop {
        loop {
            match reader.next() {
                ReadStep::Bytes(bytes) => out.extend_from_slice(&bytes),
                ReadStep::Done => return Ok(out),
                ReadStep::Wait => break,
            }
        }
        let wants = reader.wants(20);
        session.want(&wants);
        match next(session).await {
            Some(SourceEvent::Block { block, .. }) => reader.supply(&block).expect("a file"),
            Some(other) => return Err(other),
            None => panic!("it ended"),
        }
    }
}

fn is_car(request: &Request) -> bool {
    request.path.ends_with("?format=car&dag-scope=entity")
}

/// A gateway that answers CARs with `car` and blocks as it should.
async fn gateway<C>(file: &File, car: C) -> Server
where
    C: Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let file = file.clone();
    Server::start(move |request, stream| {
        if is_car(&request) {
            return car(stream);
        }
        let file = file.clone();
        Box::pin(async move { file.answer_raw(&request, stream).await })
    })
    .await
}

/// Why the session ends, for one that must.
async fn failure(url: &str, file: &File) -> String {
    let mut session = open(url, file.root);
    let reason = match read(&mut session, file.root).await {
        Err(SourceEvent::Failed { reason }) => reason,
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    };
    assert!(next(&mut session).await.is_none());
    assert!(reason.contains(url), "{reason}");
    reason
}
