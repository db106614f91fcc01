//! Downloads of chunks from real peers and HTTP servers on this machine, and what peers tell each
//! other about their content.
#![cfg(not(target_family = "wasm"))]

mod capabilities;
#[path = "../support/http.rs"]
mod http;
mod keeper;
#[path = "../exchange/node.rs"]
#[allow(dead_code)] // another test uses the rest
mod node;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::future;
use http::{Server, respond};
use keeper::Keeper;
use node::Node;
use support::noise;
use tabpeer::{
    content::{
        block::{Block, Cid},
        import::import_bytes,
        profile::Profile,
    },
    error::Error,
    exchange::chunks::{
        ChunkDownloads, ChunkEvent, ChunkEvents, ChunkRequest, Download, DownloadEnd,
        DownloadRequest, Seeder, coordinator::MAX_SEEDERS, events::MAX_EVENTS,
    },
    platform::time::{self, Duration, Instant},
    store::RootChange,
};

/// More than any step takes on a loaded machine; nothing waits for it in a passing test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file in chunks of 256 KiB.
struct File {
    bytes: Bytes,
    root: Cid,
    blocks: Vec<Block>,
}

impl File {
    fn new(len: usize, seed: u64) -> Self {
        let bytes = noise(len, seed);
        let (blocks, root) = import_bytes(Profile::KuboV1Raw.layout(), &bytes);
        Self { bytes, root: root.cid, blocks }
    }

    /// Puts the blocks that `has` says into the store of `node`.
    async fn give(&self, node: &Node, has: impl Fn(usize) -> bool) {
        let mut session = node.store.session();
        let mut roots = Vec::new();
        let some = self.blocks.iter().enumerate().filter(|(at, _)| has(*at));
        for (_, block) in some {
            // As a raw block, so that nothing below it is demanded.
            let raw = Block::encode(cid::Version::V1, 0x55, block.data().clone());
            let (name, new) = (format!("test/{}", raw.cid()), Some(*raw.cid()));
            roots.push(RootChange { name, expected: None, new });
            session.put(raw).await.expect("puts");
        }
        node.store.commit(vec![session], roots).await.expect("commits");
    }

    fn request(&self, seeders: &[&Node]) -> DownloadRequest {
        DownloadRequest {
            root: self.root,
            peers: seeders.iter().map(|node| seeder(node, None)).collect(),
            file_hash: "hash".into(),
            path: "a/file".into(),
        }
    }

    fn chunks(&self) -> usize {
        self.bytes.len().div_ceil(256 << 10)
    }

    async fn check(&self, keeper: &Keeper) {
        assert_eq!(keeper.read(self.root).await, self.bytes);
    }
}

fn seeder(node: &Node, http_url: Option<String>) -> Seeder {
    Seeder { peer: node.network.peer_id(), http_url }
}

/// A node that knows the others' addresses, its downloads and where they go.
async fn downloader(others: &[&Node]) -> (Node, Arc<Keeper>, ChunkDownloads) {
    let me = Node::listening().await;
    for other in others {
        me.dial(other).await;
    }
    let keeper = Keeper::new(me.store.clone());
    let downloads = ChunkDownloads::new(me.bitswap.clone(), keeper::shared(&keeper));
    (me, keeper, downloads)
}

/// How often each kind of event came for each chunk, until the end.
#[derive(Default, Debug)]
struct Told {
    started: BTreeMap<u32, usize>,
    complete: BTreeMap<u32, usize>,
    failed: Vec<String>,
    progress: usize,
}

impl Told {
    fn take(&mut self, event: ChunkEvent) {
        match event {
            ChunkEvent::Started { chunk_index, file_hash, .. } => {
                assert_eq!(&*file_hash, "hash");
                *self.started.entry(chunk_index).or_default() += 1;
            }
            ChunkEvent::Progress { chunk_index, bytes_received, total_bytes, .. } => {
                assert!(bytes_received <= total_bytes);
                assert!(self.started.contains_key(&chunk_index));
                self.progress += 1;
            }
            ChunkEvent::Complete { chunk_index, path, .. } => {
                assert_eq!(&*path, "a/file");
                *self.complete.entry(chunk_index).or_default() += 1;
            }
            ChunkEvent::Failed { error, .. } => self.failed.push(error),
        }
    }

    fn each_once(counts: &BTreeMap<u32, usize>, chunks: usize) -> bool {
        counts.len() == chunks && counts.values().all(|count| *count == 1)
    }
}

async fn listen(mut events: ChunkEvents) -> Told {
    let mut told = Told::default();
    let all = async {
        while let Some(event) = events.next().await {
            told.take(event);
        }
    };
    time::timeout(PATIENCE, all).await.expect("the events end");
    told
}

async fn end(download: &Download) -> Result<DownloadEnd, Error> {
    time::timeout(PATIENCE, download.finished()).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_from_three_seeders_each_chunk_once() {
    let seeders = future::join_all((0..3).map(|_| Node::listening())).await;
    let file = File::new(12 << 20, 1);
    for seeder in &seeders {
        file.give(seeder, |_| true).await;
    }
    let seeders: Vec<&Node> = seeders.iter().collect();
    let (me, keeper, downloads) = downloader(&seeders).await;
    let started = Instant::now();
    let (download, events) = downloads.download(file.request(&seeders)).expect("starts");
    let (told, end) = future::join(listen(events), end(&download)).await;
    println!("12 MiB: {:.1} MB/s", 12.6 / started.elapsed().as_secs_f64());
    assert_eq!(end.expect("it comes"), DownloadEnd::Complete);
    assert!(Told::each_once(&told.complete, file.chunks()), "{told:?}");
    assert_eq!((told.started.len(), told.failed.len()), (file.chunks(), 0));
    file.check(&keeper).await;
    assert!(keeper.each_kept_once() && keeper.finished(file.root));
    let mut sent = 0;
    for seeder in &seeders {
        let bytes = seeder.bytes_sent_to(&me).await;
        assert!(bytes > 0, "one was not asked");
        sent += bytes;
    }
    assert!(sent <= file.bytes.len() as u64 * 105 / 100, "{sent} bytes were sent");
    // What is there is not fetched again.
    let (again, events) = downloads.download(file.request(&seeders)).expect("starts");
    let told = listen(events).await;
    assert_eq!(end_of(&again).await, DownloadEnd::Complete);
    assert_eq!((told.started.len(), told.complete.len()), (0, file.chunks()));
}

async fn end_of(download: &Download) -> DownloadEnd {
    end(download).await.expect("it comes")
}

#[tokio::test(flavor = "multi_thread")]
async fn seeders_that_have_parts_make_a_whole_and_one_missing_chunk_fails_it() {
    let (a, b) = future::join(Node::listening(), Node::listening()).await;
    let file = File::new(3 << 20, 2);
    let last = file.blocks.len() - 1;
    file.give(&a, |at| at % 2 == 0 || at == last).await;
    file.give(&b, |at| at % 2 == 1 && at != 5).await;
    let (_me, keeper, downloads) = downloader(&[&a, &b]).await;
    let (download, events) = downloads.download(file.request(&[&a, &b])).expect("starts");
    let told = listen(events).await;
    let Err(Error::NotFound { what, asked }) = end(&download).await else {
        panic!("one chunk is nowhere")
    };
    assert!(what.contains(&file.blocks[5].cid().to_string()), "{what}");
    assert_eq!(asked.len(), 2);
    assert!(told.failed.iter().any(|error| error.contains("3 attempts")), "{told:?}");
    // Now it is somewhere, and only what is missing is fetched.
    file.give(&b, |at| at == 5).await;
    let before = keeper.kept();
    let (download, events) = downloads.download(file.request(&[&a, &b])).expect("starts");
    let told = listen(events).await;
    assert_eq!(end_of(&download).await, DownloadEnd::Complete);
    assert!(Told::each_once(&told.complete, file.chunks()));
    assert_eq!(keeper.kept() - before, told.started.len());
    assert!(keeper.each_kept_once());
    file.check(&keeper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_paused_cancelled_and_goes_on_where_it_was() {
    let a = Node::listening().await;
    let file = File::new(20 << 20, 3);
    file.give(&a, |_| true).await;
    let (me, keeper, downloads) = downloader(&[&a]).await;
    let (download, mut events) = downloads.download(file.request(&[&a])).expect("starts");
    let mut told = Told::default();
    while told.complete.len() < 5 {
        told.take(events.next().await.expect("more to come"));
    }
    download.pause();
    download.resume();
    while told.complete.len() < 10 {
        told.take(events.next().await.expect("more to come"));
    }
    download.cancel();
    assert_eq!(end_of(&download).await, DownloadEnd::Cancelled);
    while let Some(event) = events.next().await {
        told.take(event);
    }
    // Another program over the same store.
    let again = Keeper::new(me.store.clone());
    let downloads = ChunkDownloads::new(me.bitswap.clone(), keeper::shared(&again));
    let (download, events) = downloads.download(file.request(&[&a])).expect("starts");
    let told = listen(events).await;
    assert_eq!(end_of(&download).await, DownloadEnd::Complete);
    assert!(Told::each_once(&told.complete, file.chunks()));
    assert!(told.started.len() <= file.chunks() - 10, "{}", told.started.len());
    assert_eq!(keeper.kept() + again.kept(), file.blocks.len());
    file.check(&again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_paused_stands_still() {
    let a = Node::listening().await;
    let file = File::new(4 << 20, 4);
    file.give(&a, |_| true).await;
    let (_me, keeper, downloads) = downloader(&[&a]).await;
    let (download, events) = downloads.download(file.request(&[&a])).expect("starts");
    download.pause();
    let waiting = time::timeout(Duration::from_millis(300), download.finished()).await;
    let kept = keeper.kept();
    assert!(waiting.is_err() && kept < file.blocks.len());
    download.resume();
    assert!(Told::each_once(&listen(events).await.complete, file.chunks()));
    // Dropped, it ends.
    let (download, events) = downloads.download(file.request(&[&a])).expect("starts");
    drop(download);
    listen(events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_listen_loses_progress_and_nothing_else() {
    let a = Node::listening().await;
    let layout = tabpeer::content::layout::Layout::new(1000, 174, cid::Version::V1, true);
    let bytes = noise(400_000, 5);
    let (blocks, root) = import_bytes(layout.expect("valid"), &bytes);
    let file = File { bytes, root: root.cid, blocks };
    file.give(&a, |_| true).await;
    let (_me, keeper, downloads) = downloader(&[&a]).await;
    let (download, events) = downloads.download(file.request(&[&a])).expect("starts");
    let waiting = time::timeout(Duration::from_millis(500), download.finished()).await;
    assert!(waiting.is_err(), "it waits for the listener: there are more than {MAX_EVENTS}");
    let told = listen(events).await;
    assert_eq!(end_of(&download).await, DownloadEnd::Complete);
    assert!(Told::each_once(&told.complete, 400) && told.started.len() == 400);
    file.check(&keeper).await;
    // Without events nobody need listen.
    let (other, _, elsewhere) = downloader(&[&a]).await;
    let (download, events) = elsewhere.download(file.request(&[&a])).expect("starts");
    drop(events);
    assert_eq!(end_of(&download).await, DownloadEnd::Complete);
    other.close().await;
}

/// Serves blocks at `/ipfs/CID` and the file at `/file`, with ranges.
async fn web(file: &File) -> Server {
    let blocks: BTreeMap<String, Bytes> =
        file.blocks.iter().map(|block| (block.cid().to_string(), block.data().clone())).collect();
    let bytes = file.bytes.clone();
    Server::start(move |request, stream| {
        let cid = request.path.strip_prefix("/ipfs/").and_then(|path| path.split('?').next());
        let block = cid.and_then(|cid| blocks.get(cid)).cloned();
        let range = range(&request.headers).map(|range| bytes.slice(range));
        let is_file = request.path == "/file";
        Box::pin(async move {
            match (block, range) {
                (Some(block), _) => respond(stream, 200, "", &block).await,
                (None, Some(range)) if is_file => respond(stream, 206, "", &range).await,
                _ => respond(stream, 404, "", b"").await,
            }
        })
    })
    .await
}

fn range(headers: &str) -> Option<Range<usize>> {
    let line = headers.lines().find_map(|line| line.strip_prefix("range: bytes="))?;
    let (start, end) = line.split_once('-')?;
    Some(start.parse().ok()?..end.parse::<usize>().ok()? + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn http_brings_what_bitswap_does_not() {
    let empty = Node::listening().await;
    let file = File::new(3 << 20, 6);
    let server = web(&file).await;
    let (_me, keeper, downloads) = downloader(&[&empty]).await;
    let mut request = file.request(&[]);
    request.peers = vec![seeder(&empty, Some(format!("{}/ipfs", server.url())))];
    let (download, events) = downloads.download(request).expect("starts");
    let told = listen(events).await;
    assert_eq!(end_of(&download).await, DownloadEnd::Complete);
    assert!(Told::each_once(&told.complete, file.chunks()) && told.failed.is_empty());
    file.check(&keeper).await;
    assert_eq!(server.requests().len(), file.blocks.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_chunk_comes_by_bitswap_or_as_a_range_of_the_file() {
    let (a, empty) = future::join(Node::listening(), Node::listening()).await;
    let file = File::new(1 << 20, 7);
    file.give(&a, |_| true).await;
    let server = web(&file).await;
    for (node, url) in [(&a, None), (&empty, Some(format!("{}/file", server.url())))] {
        let (_me, keeper, downloads) = downloader(&[node]).await;
        let request = chunk(&file, 2, node, url.clone());
        let (download, mut events) = downloads.start_chunk_download(request).expect("starts");
        let first = events.next().await.expect("an event");
        let peer = node.network.peer_id();
        let cid = *file.blocks[2].cid();
        let file_hash = "hash".into();
        assert_eq!(first, ChunkEvent::Started { file_hash, chunk_index: 2, cid, peer });
        let mut told = Told::default();
        told.take(first);
        while let Some(event) = events.next().await {
            told.take(event);
        }
        assert_eq!(end_of(&download).await, DownloadEnd::Complete);
        assert!(told.progress > 0 && told.complete == BTreeMap::from([(2, 1)]));
        let block = keeper.store.get(&cid).await.expect("reads").expect("kept");
        assert_eq!(block.data(), file.blocks[2].data());
        assert_eq!(server.requests().len(), usize::from(url.is_some()));
    }
}

fn chunk(file: &File, index: u32, node: &Node, http_url: Option<String>) -> ChunkRequest {
    let start = u64::from(index) * (256 << 10);
    ChunkRequest {
        peer: node.network.peer_id(),
        cid: *file.blocks[index as usize].cid(),
        file_hash: "hash".into(),
        chunk_index: index,
        http_url,
        path: "a/file".into(),
        range: Some(start..start + (256 << 10)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_the_peer_does_not_have_fails_after_three_attempts() {
    let empty = Node::listening().await;
    let file = File::new(1 << 20, 8);
    let lying = Server::always(200, "", "not the chunk").await;
    let (_me, keeper, downloads) = downloader(&[&empty]).await;
    for url in [None, Some(format!("{}/ipfs/", lying.url()))] {
        let started = Instant::now();
        let request = chunk(&file, 1, &empty, url.clone());
        let (download, events) = downloads.start_chunk_download(request).expect("starts");
        let told = listen(events).await;
        let error = end(&download).await.expect_err("nobody has it");
        assert!(started.elapsed() >= Duration::from_millis(750), "250 ms and 500 ms are waited");
        assert_eq!(error.code(), "NOT_FOUND");
        assert_eq!((told.failed.len(), told.complete.len(), keeper.kept()), (1, 0, 0));
    }
    assert_eq!(lying.requests().len(), 1, "it lied once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for_is_refused() {
    let a = Node::listening().await;
    let file = File::new(1000, 9);
    let (_me, _, downloads) = downloader(&[]).await;
    let refused = |request| downloads.download(request).map(drop).expect_err("refused").code();
    assert_eq!(refused(file.request(&[])), "BAD_ARGUMENT");
    assert_eq!(refused(file.request(&vec![&a; MAX_SEEDERS + 1])), "BAD_ARGUMENT");
    let mut request = file.request(&[&a]);
    request.peers[0].http_url = Some("file:///etc/passwd".into());
    assert_eq!(refused(request), "BAD_ARGUMENT");
    let request = DownloadRequest { file_hash: "x".repeat(10_000), ..file.request(&[&a]) };
    assert_eq!(refused(request), "BAD_ARGUMENT");
}
