//! Asking a peer: one stream per request, decoded as it arrives, given up when nothing arrives.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, stream::FuturesOrdered};
use libp2p::{PeerId, StreamProtocol};

use super::{
    ContentDecoder, ContentEvent, FileList, FileListDecoder, Outcome, PROTOCOL, Rebuild,
    RebuildError, Request, WireError,
};
use crate::{
    content::{
        block::{Block, Cid, Digest},
        directory::{DirParams, Tree, TreeError},
        import::LeafPayload,
        path::TreePath,
        profile::Profile,
        read::Reader,
    },
    error::{Error, Result},
    network::{Network, NetworkError, Stream},
    platform::{self, MaybeSync, time},
    store::{Session, Store},
};

/// A transfer in which nothing arrives, or nothing is taken, for this long is given up.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read from a stream at a time.
const READ_SIZE: usize = 64 << 10;
/// Leaves being hashed at a time.
const HASHES_IN_FLIGHT: usize = 8;
/// Shards fetched for one directory, all in all and at a time.
const MAX_SHARDS: usize = 4096;
const SHARDS_AT_A_TIME: usize = 8;

/// What a peer gave: verified blocks in an uncommitted session, and what they are.
pub struct Fetched {
    pub session: Session,
    pub kind: Kind,
}

pub enum Kind {
    /// All of it is in the session.
    File,
    /// All nodes of this one directory are in the session; what it names is not.
    Directory(BTreeMap<String, Cid>),
}

/// The whole tree of `peer` (types 0 and 1).
pub async fn fetch_list(network: &Network, peer: PeerId) -> Result<FileList> {
    let mut stream = ask(network, peer, &Request::FileList).await?;
    let mut decoder = FileListDecoder::new();
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let len = read(&mut stream, &mut buffer, peer).await?;
        if len == 0 {
            decoder.end().map_err(|error| protocol(peer, &error))?;
            return Err(Error::Protocol { peer, reason: "the list ended early".into() });
        }
        if let Some(list) = decoder.push(&buffer[..len]).map_err(|error| protocol(peer, &error))? {
            return Ok(list);
        }
    }
}

/// The file or directory `cid` of `peer` (types 2 and 3). `progress`: content bytes, and of how many.
pub async fn fetch(
    network: &Network,
    store: &Store,
    peer: PeerId,
    cid: Cid,
    progress: &(impl Fn(u64, Option<u64>) + MaybeSync),
) -> Result<Fetched> {
    let mut transfer = Transfer::start(network, peer, cid).await?;
    let mut session = store.session();
    let mut rebuild = Rebuild::new(cid).with_usual_guess();
    let mut hashes = FuturesOrdered::new();
    let (mut done, mut total) = (0, None);
    let refused = |error: RebuildError| Error::Protocol { peer, reason: error.to_string() };
    loop {
        let events = transfer.next().await?;
        let ended = events.is_empty();
        for event in events {
            match &event {
                ContentEvent::RawNode(bytes) => total = size_of(cid, bytes),
                ContentEvent::Content(piece) => done += piece.len() as u64,
                ContentEvent::BodyLength(_) | ContentEvent::Done(_) => {}
            }
            rebuild.event(event).map_err(refused)?;
            while let Some(leaf) = rebuild.next_leaf() {
                hashes.push_back(hash(leaf));
                if hashes.len() >= HASHES_IN_FLIGHT
                    && let Some(digest) = hashes.next().await
                {
                    rebuild.leaf_hashed(digest).map_err(refused)?;
                }
            }
        }
        if ended || rebuild.outcome().is_none() && transfer.is_done() {
            while let Some(digest) = hashes.next().await {
                rebuild.leaf_hashed(digest).map_err(refused)?;
            }
        }
        while let Some(block) = rebuild.next_block() {
            session.put(block).await?;
        }
        progress(done, total);
        match rebuild.outcome() {
            None if ended => {
                return Err(Error::Protocol { peer, reason: "the answer ended early".into() });
            }
            None => {}
            Some(Outcome::Complete { .. }) => return Ok(Fetched { session, kind: Kind::File }),
            Some(Outcome::Directory { entries, verified: true, .. }) => {
                return Ok(Fetched { session, kind: Kind::Directory(entries.clone()) });
            }
            Some(Outcome::Directory { verified: false, .. }) => {
                let entries = fetch_shards(network, store, &mut session, peer, cid).await?;
                return Ok(Fetched { session, kind: Kind::Directory(entries) });
            }
            Some(Outcome::NotFound { reason }) => {
                return Err(Error::NotFound {
                    what: cid.to_string(),
                    asked: vec![format!("{peer}: {reason}")],
                });
            }
            Some(Outcome::ContentOnly { why, .. }) => {
                return Err(Error::WrongContent {
                    peer,
                    cid,
                    reason: format!("it cannot be verified: {why}"),
                });
            }
            Some(Outcome::Lying(lie)) => {
                return Err(Error::WrongContent { peer, cid, reason: lie.to_string() });
            }
        }
    }
}

/// The nodes below a sharded directory's root, one request each: what the peer says the entries
/// are cannot be verified, the shards can.
async fn fetch_shards(
    network: &Network,
    store: &Store,
    session: &mut Session,
    peer: PeerId,
    root: Cid,
) -> Result<BTreeMap<String, Cid>> {
    let mut tree = Tree::open(root, DirParams::from(Profile::default()));
    let mut fetched = 0;
    loop {
        let need = match tree.entries(&TreePath::root()) {
            Ok(entries) => return Ok(entries.into_iter().collect()),
            Err(TreeError::Need(need)) => need,
            Err(error) => return Err(Error::BadContent { cid: root, reason: error.to_string() }),
        };
        fetched += need.len();
        if fetched > MAX_SHARDS {
            let reason = format!("more than {MAX_SHARDS} shards");
            return Err(Error::TooLarge { what: format!("directory {root}"), reason });
        }
        let blocks = futures::stream::iter(need.into_iter().map(|cid| async move {
            match store.get(&cid).await? {
                Some(block) => Ok(block),
                None => fetch_node(network, peer, cid).await,
            }
        }));
        let mut blocks = blocks.buffered(SHARDS_AT_A_TIME);
        while let Some(block) = blocks.next().await {
            let block: Block = block?;
            let supplied = tree.supply(&block);
            supplied.map_err(|error| Error::BadContent {
                cid: *block.cid(),
                reason: error.to_string(),
            })?;
            session.put(block).await?;
        }
    }
}

/// One directory node of `peer`.
async fn fetch_node(network: &Network, peer: PeerId, cid: Cid) -> Result<Block> {
    let mut transfer = Transfer::start(network, peer, cid).await?;
    loop {
        let events = transfer.next().await?;
        if events.is_empty() {
            return Err(Error::NotFound { what: cid.to_string(), asked: vec![peer.to_string()] });
        }
        for event in events {
            if let ContentEvent::RawNode(bytes) = event {
                return Block::verify(cid, bytes).map_err(|error| Error::WrongContent {
                    peer,
                    cid,
                    reason: error.to_string(),
                });
            }
        }
    }
}

/// One request for content and its answer.
struct Transfer {
    peer: PeerId,
    stream: Stream,
    decoder: ContentDecoder,
    buffer: Vec<u8>,
}

impl Transfer {
    async fn start(network: &Network, peer: PeerId, cid: Cid) -> Result<Self> {
        let stream = ask(network, peer, &Request::File { cid }).await?;
        Ok(Self { peer, stream, decoder: ContentDecoder::new(), buffer: vec![0; READ_SIZE] })
    }

    /// The next events; none when the stream has ended after a whole message.
    async fn next(&mut self) -> Result<Vec<ContentEvent>> {
        loop {
            let len = read(&mut self.stream, &mut self.buffer, self.peer).await?;
            if len == 0 {
                self.decoder.end().map_err(|error| protocol(self.peer, &error))?;
                return Ok(Vec::new());
            }
            let events = self
                .decoder
                .push(&self.buffer[..len])
                .map_err(|error| protocol(self.peer, &error))?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.decoder.end().is_ok()
    }
}

async fn ask(network: &Network, peer: PeerId, request: &Request) -> Result<Stream> {
    let mut stream = network
        .open_stream(peer, StreamProtocol::new(PROTOCOL))
        .await
        .map_err(|error| unreachable(peer, error))?;
    let sent = async {
        stream.write_all(&request.encode()).await?;
        stream.flush().await
    };
    match time::timeout(STALL_TIMEOUT, sent).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(error)) => Err(lost(peer, &error)),
        Err(_) => Err(stalled(peer)),
    }
}

async fn read(stream: &mut Stream, buffer: &mut [u8], peer: PeerId) -> Result<usize> {
    match time::timeout(STALL_TIMEOUT, stream.read(buffer)).await {
        Ok(Ok(len)) => Ok(len),
        Ok(Err(error)) => Err(lost(peer, &error)),
        Err(_) => Err(stalled(peer)),
    }
}

async fn hash(leaf: LeafPayload) -> Digest {
    platform::sha256(leaf.data).await
}

/// What a file's root says its size is.
fn size_of(cid: Cid, raw_node: &Bytes) -> Option<u64> {
    let block = Block::verify(cid, raw_node.clone()).ok()?;
    let mut reader = Reader::new(cid, None).ok()?;
    reader.wants(1);
    reader.supply(&block).ok()?;
    reader.size()
}

fn unreachable(peer: PeerId, error: NetworkError) -> Error {
    match error {
        NetworkError::Closed => Error::Closed,
        NetworkError::UnsupportedProtocol { peer, protocol } => {
            Error::Unsupported { peer, protocol }
        }
        NetworkError::PeerUnreachable { reason, .. }
        | NetworkError::ConnectionLost { reason, .. } => Error::PeerUnreachable { peer, reason },
        error => Error::PeerUnreachable { peer, reason: error.to_string() },
    }
}

fn lost(peer: PeerId, error: &std::io::Error) -> Error {
    Error::PeerUnreachable { peer, reason: format!("the stream broke: {error}") }
}

fn stalled(peer: PeerId) -> Error {
    Error::Timeout { what: format!("waiting for peer {peer}"), after: STALL_TIMEOUT }
}

fn protocol(peer: PeerId, error: &WireError) -> Error {
    Error::Protocol { peer, reason: error.to_string() }
}
