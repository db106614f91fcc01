//! Whole files as CARs: broken, stalled, endless; the blocks that they do not bring come alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tabpeer::{
    content::{
        block::{Block, RAW},
        car::{car_header, car_section},
    },
    exchange::{
        fetch::source::SourceEvent,
        gateway::{MAX_AHEAD, MAX_RAW_REQUESTS},
    },
};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};

use crate::{
    CAR, PAGE,
    car_file::File,
    gateway,
    http::{Server, closed, head, respond},
    is_car, next, open, read,
};

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
