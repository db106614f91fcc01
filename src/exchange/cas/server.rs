//! Answering, from the store alone: a request that could go on ends here. Whoever passed it on would
//! fetch and keep for a stranger what its own user never asked for.

use std::{io, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use cid::Cid;
use futures::AsyncReadExt as _;
use libp2p::StreamProtocol;

use super::{
    AnswerHead, FrameReader, MAX_ANSWERS, MAX_ANSWERS_PER_PEER, MAX_CONTENT, MAX_REQUEST,
    MessageError, PROTOCOL, Request, STALL_TIMEOUT, answer_without,
};
use crate::{
    content::{
        block::{Block, DAG_PB},
        read::{ReadError, ReadStep, Reader},
        walk::{Leaves, Walk},
    },
    exchange::answers::{AnswerLimits, Answering, SendError, answer_each},
    network::{NetworkError, Stream, peers::PeerStreams},
    platform::{task, time},
    store::{Store, StoreError},
};

/// Bytes of a request read at a time.
const REQUEST_READ: usize = 1024;
/// Blocks of a file read from the store at a time.
const READ_WINDOW: usize = 8;

/// Most blocks of a file that is answered with; one of the largest size in chunks of 1 KiB has as many.
const MAX_FILE_BLOCKS: usize = MAX_CONTENT >> 10;

/// Answers requests until the network closes.
pub async fn serve(streams: &dyn PeerStreams, store: Store) -> Result<(), NetworkError> {
    let incoming = streams.accept(StreamProtocol::new(PROTOCOL)).await?;
    let server = Arc::new(Server { store });
    let limits = AnswerLimits { all: MAX_ANSWERS, per_peer: MAX_ANSWERS_PER_PEER };
    task::spawn(answer_each(incoming, limits, move |peer, stream| {
        let server = server.clone();
        Box::pin(async move {
            if let Err(error) = server.answer(stream).await {
                tracing::debug!(%peer, %error, "a request for content was not answered");
            }
        })
    }));
    Ok(())
}

struct Server {
    store: Store,
}

#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    #[error("no request came within {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a block of {0} is missing")]
    Incomplete(Cid),
}

/// What the store has of a CID.
enum Found {
    Nothing,
    /// A block that is its own content.
    Block(Block),
    /// A file, all of it, at its beginning; and its size.
    File(Box<Reader>, usize),
    TooLarge,
}

impl Server {
    /// Dropping the stream before its end resets it: the other side then knows that it has not all.
    async fn answer(&self, mut stream: Stream) -> Result<(), AnswerError> {
        let request = time::timeout(STALL_TIMEOUT, read_request(&mut stream)).await;
        let (request, bare) = request.map_err(|_| AnswerError::Stalled)??;
        let cid = request.cid;
        let mut out = Answering::new(stream);
        match self.find(cid).await? {
            Found::Nothing => out.send(&answer_without(&cid, None, bare)).await?,
            Found::TooLarge => {
                let reason = format!("it has more than {MAX_CONTENT} bytes");
                out.send(&answer_without(&cid, Some(&reason), bare)).await?;
            }
            Found::Block(block) => {
                let frame = AnswerHead::new(&cid, block.data().len(), bare);
                out.send(&frame.head).await?;
                out.send(STANDARD.encode(block.data()).as_bytes()).await?;
                out.send(frame.tail).await?;
            }
            Found::File(reader, size) => {
                let frame = AnswerHead::new(&cid, size, bare);
                out.send(&frame.head).await?;
                self.send_file(&mut out, *reader).await?;
                out.send(frame.tail).await?;
            }
        }
        Ok(out.close().await?)
    }

    async fn find(&self, cid: Cid) -> Result<Found, AnswerError> {
        let Some(root) = self.store.get(&cid).await? else { return Ok(Found::Nothing) };
        if cid.codec() != DAG_PB {
            return Ok(Found::Block(root));
        }
        let mut reader = Reader::new(cid, None)?;
        reader.wants(1);
        match reader.supply(&root) {
            Ok(()) => {}
            Err(
                ReadError::NotAFile { .. } | ReadError::DagPb { .. } | ReadError::UnixFs { .. },
            ) => return Ok(Found::Block(root)),
            Err(error) => return Err(error.into()),
        }
        match usize::try_from(reader.size().unwrap_or(u64::MAX)) {
            Ok(size) if size <= MAX_CONTENT => {
                let whole = self.is_whole(cid).await?;
                Ok(if whole { Found::File(Box::new(reader), size) } else { Found::Nothing })
            }
            _ => Ok(Found::TooLarge),
        }
    }

    /// Whether every block of a file is here: an answer that has begun cannot say that one is not.
    async fn is_whole(&self, cid: Cid) -> Result<bool, AnswerError> {
        let Ok(mut walk) = Walk::with_limit(cid, Leaves::Skip, MAX_FILE_BLOCKS) else {
            return Ok(false);
        };
        while !walk.is_done() {
            for node in self.store.get_many(&walk.wants(READ_WINDOW)).await? {
                let supplied = node.map(|node| walk.supply(&node));
                if !matches!(supplied, Some(Ok(()))) {
                    return Ok(false);
                }
            }
        }
        let all: Vec<Cid> = walk.into_found().into_iter().collect();
        Ok(self.store.has_many(&all).await?.into_iter().all(|has| has))
    }

    async fn send_file(
        &self,
        out: &mut Answering<Stream>,
        mut reader: Reader,
    ) -> Result<(), AnswerError> {
        let mut carry = BytesMut::new();
        loop {
            match reader.next() {
                ReadStep::Bytes(bytes) => {
                    // Whole groups of base64 only, as no padding may stand in the middle.
                    carry.extend_from_slice(&bytes);
                    let groups = carry.split_to(carry.len() / 3 * 3);
                    out.send(STANDARD.encode(&groups).as_bytes()).await?;
                }
                ReadStep::Done => {
                    return Ok(out.send(STANDARD.encode(&carry).as_bytes()).await?);
                }
                ReadStep::Wait => {
                    let wants = reader.wants(READ_WINDOW);
                    if wants.is_empty() {
                        return Err(AnswerError::Incomplete(*reader.root()));
                    }
                    for block in self.store.get_many(&wants).await? {
                        let block = block.ok_or(AnswerError::Incomplete(*reader.root()))?;
                        reader.supply(&block)?;
                    }
                }
            }
        }
    }
}

/// A request, and whether it came without its length.
async fn read_request(stream: &mut Stream) -> Result<(Request, bool), AnswerError> {
    let mut reader = FrameReader::new(MAX_REQUEST);
    let mut buffer = [0; REQUEST_READ];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Err(MessageError::Truncated.into());
        }
        if reader.push(buffer.get(..len).unwrap_or_default())? {
            return Ok((Request::decode(reader.body())?, reader.is_bare()));
        }
    }
}
