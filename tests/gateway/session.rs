//! What is no longer wanted is not fetched.

use tabpeer::{content::block::Cid, exchange::fetch::source::SourceEvent};
use tokio::sync::mpsc;

use crate::{
    car_file::File,
    gateway,
    http::{Server, closed, respond},
    next, open,
};

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
