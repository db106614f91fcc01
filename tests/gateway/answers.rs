//! What an answer is taken for: lies, redirects, each status, and when a gateway is asked again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tabpeer::{
    content::block::{Block, RAW},
    exchange::{fetch::source::SourceEvent, gateway::MAX_RETRIES},
};
use tokio::io::AsyncWriteExt as _;

use crate::{
    CAR, PAGE,
    car_file::{File, RAW_BLOCK},
    failure, gateway,
    http::{Server, head, respond},
    next, open, read,
};

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
