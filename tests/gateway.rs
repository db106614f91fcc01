//! Gateways, good and bad, as a source of blocks.
//!
//! The clock stands still while a request is under way and jumps when everybody waits for it, so
//! delays cost no time here.
#![cfg(not(target_family = "wasm"))]

#[path = "support/car_file.rs"]
mod car_file;
#[path = "support/http.rs"]
mod http;

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use car_file::{File, RAW_BLOCK};
use futures::future::BoxFuture;
use http::{Request, Server, closed, head, respond};
use tabpeer::{
    content::{
        block::{Block, Cid, RAW},
        car::{car_header, car_section},
        read::{ReadStep, Reader},
    },
    exchange::{
        fetch::source::{FetchRequest, Source, SourceEvent, SourceKind, SourceSession},
        gateway::{GatewaySource, MAX_AHEAD, MAX_RAW_REQUESTS, MAX_RETRIES},
    },
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::mpsc};

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

#[tokio::test(start_paused = true)]
async fn a_file_comes_in_one_car() {
    let file = File::new(200_000);
    let server = Server::always(200, CAR, file.car()).await;
    let mut session = open(&server.url(), file.root);
    assert_eq!(read(&mut session, file.root).await.expect("the file"), file.bytes);
    let [request] = &server.requests()[..] else { panic!("{:?}", server.requests()) };
    assert_eq!(request.path, format!("/ipfs/{}?format=car&dag-scope=entity", file.root));
    let accept = "accept: application/vnd.ipld.car; version=1; order=dfs; dups=n\r\n";
    assert!(request.headers.contains(accept), "{}", request.headers);
}

#[tokio::test(start_paused = true)]
async fn without_a_car_blocks_come_alone_a_few_at_a_time() {
    let file = File::new(100_000);
    for refusal in [(200, PAGE), (404, ""), (406, ""), (501, ""), (400, PAGE), (429, ""), (500, "")]
    {
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (file_there, most_there) = (file.clone(), most.clone());
        let server = Server::start(move |request, stream| {
            let (file, running, most) = (file_there.clone(), running.clone(), most_there.clone());
            Box::pin(async move {
                if is_car(&request) {
                    return respond(stream, refusal.0, refusal.1, b"<html>no</html>").await;
                }
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                file.answer_raw(&request, stream).await;
            })
        })
        .await;
        let mut session = open(&server.url(), file.root);
        assert_eq!(read(&mut session, file.root).await.expect("the file"), file.bytes);
        let requests = server.requests();
        assert_eq!(requests.iter().filter(|request| is_car(request)).count(), 1);
        assert_eq!(requests.len(), file.order.len() + 1);
        let most = most.load(Ordering::SeqCst);
        assert!((2..=MAX_RAW_REQUESTS).contains(&most), "{most}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_car_does_not_bring_comes_alone() {
    let file = File::new(100_000);
    let car = file.car();
    let mut garbage = car_header(&[file.root]).to_vec();
    file.order[..40].iter().flat_map(car_section).for_each(|part| garbage.extend_from_slice(&part));
    garbage.extend_from_slice(&[0xff; 50_000]);
    for body in [car[..car.len() / 2].to_vec(), garbage, b"\x05hello".to_vec(), Vec::new()] {
        let server = gateway(&file, move |stream| {
            let body = body.clone();
            Box::pin(async move { respond(stream, 200, CAR, &body).await })
        })
        .await;
        let mut session = open(&server.url(), file.root);
        assert_eq!(read(&mut session, file.root).await.expect("the file"), file.bytes);
    }
    // Cut off without an end: the server announces more than it sends.
    let half = Bytes::from(car).slice(..50_000);
    let server = gateway(&file, move |mut stream| {
        let half = half.clone();
        Box::pin(async move {
            head(&mut stream, 200, &format!("{CAR}content-length: 1000000\r\n")).await;
            let _ = stream.write_all(&half).await;
        })
    })
    .await;
    let mut session = open(&server.url(), file.root);
    assert_eq!(read(&mut session, file.root).await.expect("the file"), file.bytes);
    let alone = server.requests().len() - 1;
    assert!(alone > 0 && alone < file.order.len() - 20, "{alone}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_lies_is_out() {
    let file = File::new(50_000);
    // In a CAR: one block has other bytes.
    let mut car = file.car();
    let at = car.len() - 100;
    car[at] ^= 1;
    let server = gateway(&file, move |stream| {
        let car = car.clone();
        Box::pin(async move { respond(stream, 200, CAR, &car).await })
    })
    .await;
    assert!(failure(&server.url(), &file).await.contains("do not hash"));
    // Alone.
    let server = Server::always(200, RAW_BLOCK, "something else").await;
    assert!(failure(&server.url(), &file).await.contains("not that block"));
    let server = Server::always(200, PAGE, "<html>sign in</html>").await;
    assert!(failure(&server.url(), &file).await.contains("web page"));
    // More than any block, announced and not.
    let server = Server::always(200, RAW_BLOCK, vec![0; (2 << 20) + 1]).await;
    assert!(failure(&server.url(), &file).await.contains("longer than"));
    let server = Server::start(|_, mut stream| {
        Box::pin(async move {
            head(&mut stream, 200, RAW_BLOCK).await;
            while stream.write_all(&[0; 4096]).await.is_ok() {}
        })
    })
    .await;
    assert!(failure(&server.url(), &file).await.contains("longer than"));
}

#[tokio::test(start_paused = true)]
async fn redirects_stay_at_home() {
    let file = File::new(20_000);
    let elsewhere = Server::always(200, CAR, file.car()).await;
    let to = elsewhere.url();
    let server = Server::start(move |_, stream| {
        let headers = format!("location: {to}/ipfs\r\n");
        Box::pin(async move { respond(stream, 302, &headers, b"").await })
    })
    .await;
    let reason = failure(&server.url(), &file).await;
    assert!(reason.contains("redirects") && elsewhere.requests().is_empty(), "{reason}");
    let server = Server::always(302, "location: /again\r\n", "").await;
    let mut session = open(&server.url(), file.root);
    assert!(read(&mut session, file.root).await.is_err());
    let file_there = file.clone();
    let server = Server::start(move |request, stream| {
        let car = file_there.car();
        Box::pin(async move {
            match request.path.as_str() {
                "/moved" => respond(stream, 200, CAR, &car).await,
                _ => respond(stream, 307, "location: /moved\r\n", b"").await,
            }
        })
    })
    .await;
    let mut session = open(&server.url(), file.root);
    assert_eq!(read(&mut session, file.root).await.expect("the file"), file.bytes);
}

#[tokio::test(start_paused = true)]
async fn each_status_means_something() {
    let block = Block::encode(cid::Version::V1, RAW, Bytes::from_static(b"hello"));
    let ask = |status: u16, headers: &'static str| {
        let cid = *block.cid();
        async move {
            let server = Server::always(status, headers, "").await;
            let mut session = open(&server.url(), cid);
            session.want(&[cid]);
            let event = next(&mut session).await.expect("an event");
            let (reason, missing) = match event {
                SourceEvent::Missing { cids, reason } if cids == [cid] => (reason, true),
                SourceEvent::Failed { reason } => (reason, false),
                other => panic!("{other:?}"),
            };
            let url = format!("{}/ipfs/{cid}?format=raw", server.url());
            assert!(reason.contains(&url) && reason.contains(&status.to_string()), "{reason}");
            (missing, server.requests().len())
        }
    };
    let tries = MAX_RETRIES as usize + 1;
    for status in [404, 410, 451, 204] {
        assert_eq!(ask(status, "").await, (true, 1), "{status}");
    }
    for status in [500, 502, 504] {
        assert_eq!(ask(status, "").await, (true, tries), "{status}");
    }
    assert_eq!(ask(429, "").await, (true, tries));
    assert_eq!(ask(429, "retry-after: 3\r\n").await, (true, tries));
    assert_eq!(ask(429, "retry-after: 3600\r\n").await, (false, 1));
    assert_eq!(ask(403, "").await, (false, 1));
    assert_eq!(ask(301, "").await, (false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_block_that_did_not_come_at_first_is_asked_for_again() {
    let block = Block::encode(cid::Version::V1, RAW, Bytes::from_static(b"hello"));
    let count = Arc::new(AtomicUsize::new(0));
    let data = block.data().clone();
    let server = Server::start(move |_, stream| {
        let (number, data) = (count.fetch_add(1, Ordering::SeqCst), data.clone());
        Box::pin(async move {
            match number {
                0 => drop(stream),
                1 => respond(stream, 429, "retry-after: 7\r\n", b"").await,
                _ => respond(stream, 200, RAW_BLOCK, &data).await,
            }
        })
    })
    .await;
    let mut session = open(&server.url(), *block.cid());
    let start = tokio::time::Instant::now();
    session.want(&[*block.cid()]);
    let came = next(&mut session).await;
    assert!(matches!(came, Some(SourceEvent::Block { block: it, .. }) if it == block));
    assert!(start.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_down_is_given_up() {
    let file = File::new(50_000);
    let server = Server::always(503, "", "").await;
    let mut session = open(&server.url(), file.root);
    session.want(&file.order[1..9].iter().map(|block| *block.cid()).collect::<Vec<_>>());
    let mut last = None;
    while let Some(event) = next(&mut session).await {
        last = Some(event);
    }
    assert!(matches!(last, Some(SourceEvent::Failed { reason }) if reason.contains("503")));
    assert!(server.requests().len() < 20);
}

/// Lets a stalled transfer go on to its end, in no time.
async fn stalled(server_waits: &mut mpsc::Receiver<()>) {
    server_waits.recv().await.expect("the server waits");
    tokio::time::advance(Duration::from_secs(31)).await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_car_is_given_up_and_its_blocks_come_alone() {
    let file = File::new(50_000);
    let (waits, mut server_waits) = mpsc::channel(1);
    let half = Bytes::from(file.car()).slice(..20_000);
    let server = gateway(&file, move |mut stream| {
        let (half, waits) = (half.clone(), waits.clone());
        Box::pin(async move {
            head(&mut stream, 200, CAR).await;
            let _ = stream.write_all(&half).await;
            let _ = waits.send(()).await;
            closed(&mut stream).await;
        })
    })
    .await;
    let mut session = open(&server.url(), file.root);
    let reading = read(&mut session, file.root);
    let (bytes, ()) = futures::join!(reading, stalled(&mut server_waits));
    assert_eq!(bytes.expect("the file"), file.bytes);
}

#[tokio::test(start_paused = true)]
async fn a_car_is_not_read_further_ahead_than_allowed() {
    let file = File::with_chunks(40 << 20, 1 << 20);
    let car = Bytes::from(file.car());
    let sent = Arc::new(AtomicUsize::new(0));
    let (sent_there, len) = (sent.clone(), car.len());
    let server = gateway(&file, move |mut stream| {
        let (car, sent) = (car.clone(), sent_there.clone());
        Box::pin(async move {
            head(&mut stream, 200, CAR).await;
            for piece in car.chunks(64 << 10) {
                if stream.write_all(piece).await.is_err() {
                    return;
                }
                sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
        })
    })
    .await;
    let mut session = open(&server.url(), file.root);
    session.want(&[file.root]);
    assert!(matches!(next(&mut session).await, Some(SourceEvent::Block { .. })));
    // A block from the end, with nothing in between wanted: it comes alone, the CAR waits.
    let last = *file.order.last().expect("blocks").cid();
    session.want(&[last]);
    let Some(SourceEvent::Block { block, .. }) = next(&mut session).await else { panic!("none") };
    assert_eq!(*block.cid(), last);
    assert_eq!(server.requests().len(), 2);
    let buffers = 10 << 20; // of the two sockets, of blocks being hashed
    assert!(
        sent.load(Ordering::SeqCst) <= MAX_AHEAD + buffers && sent.load(Ordering::SeqCst) < len
    );
    // Reading from the start goes on with the CAR.
    assert_eq!(read(&mut session, file.root).await.expect("the file"), file.bytes);
    assert!(server.requests().len() <= 4, "{}", server.requests().len());
}

#[tokio::test(start_paused = true)]
async fn an_endless_car_of_something_else_does_no_harm() {
    let file = File::new(50_000);
    let server = gateway(&file, |mut stream| {
        Box::pin(async move {
            head(&mut stream, 200, CAR).await;
            let _ = stream.write_all(&car_header(&[])).await;
            for number in 0u64.. {
                let mut data = vec![0; 100_000];
                data[..8].copy_from_slice(&number.to_le_bytes());
                let block = Block::encode(cid::Version::V1, RAW, data.into());
                for part in car_section(&block) {
                    if stream.write_all(&part).await.is_err() {
                        return;
                    }
                }
            }
        })
    })
    .await;
    let mut session = open(&server.url(), file.root);
    assert_eq!(read(&mut session, file.root).await.expect("the file"), file.bytes);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_session_ends_its_requests() {
    let file = File::new(50_000);
    let (ended, mut server_saw) = mpsc::channel(8);
    let server = Server::start(move |_, mut stream| {
        let ended = ended.clone();
        Box::pin(async move {
            let _ = ended.send("asked").await;
            closed(&mut stream).await;
            let _ = ended.send("closed").await;
        })
    })
    .await;
    let mut session = open(&server.url(), file.root);
    session.want(&[file.root]);
    futures::select_biased! {
        _ = Box::pin(futures::FutureExt::fuse(next(&mut session))) => panic!("an event"),
        saw = Box::pin(futures::FutureExt::fuse(server_saw.recv())) => assert_eq!(saw, Some("asked")),
    }
    drop(session);
    assert_eq!(server_saw.recv().await, Some("closed"));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_want_is_not_answered() {
    let file = File::new(50_000);
    let server = gateway(&file, |stream| Box::pin(respond(stream, 404, "", b""))).await;
    let mut session = open(&server.url(), file.root);
    let cids: Vec<Cid> = file.order[..9].iter().map(|block| *block.cid()).collect();
    session.want(&cids);
    let Some(SourceEvent::Block { block: first, .. }) = next(&mut session).await else {
        panic!("none")
    };
    session.cancel(&cids);
    session.want(&[cids[8]]);
    let Some(SourceEvent::Block { block, .. }) = next(&mut session).await else { panic!("none") };
    assert!(*block.cid() == cids[8] && *first.cid() != cids[8]);
}
