//! Answering peers: the whole tree to whom asks, and every file or directory that is stored here.

use std::{collections::BTreeMap, io};

use futures::{AsyncReadExt as _, StreamExt as _};
use libp2p::StreamProtocol;

use super::{Content, TreeHandle, read};
use crate::{
    content::block::{Block, Cid},
    error::Error,
    exchange::{
        answers::{AnswerLimits, Answering, SendError, answer_each},
        webapp::{
            FileEncoder, PROTOCOL, Request, RequestDecoder, STALL_TIMEOUT, WireError,
            encode_directory, encode_failure,
        },
    },
    network::{Network, NetworkError, Stream},
    platform::{task, time},
    store::Store,
};

/// Requests answered at a time. Our own side asks one peer for less.
const LIMITS: AnswerLimits = AnswerLimits { all: 64, per_peer: 32 };
/// Bytes of a request read at a time.
const REQUEST_READ: usize = 1024;

/// Answers requests until the network closes.
pub(super) async fn serve(
    network: &Network,
    store: Store,
    tree: TreeHandle,
) -> Result<(), NetworkError> {
    let incoming = network.accept(StreamProtocol::new(PROTOCOL)).await?;
    task::spawn(answer_each(incoming, LIMITS, move |peer, stream| {
        let (store, tree) = (store.clone(), tree.clone());
        Box::pin(async move {
            if let Err(error) = answer(stream, &store, &tree).await {
                tracing::debug!(%peer, %error, "a request for files was not answered");
            }
        })
    }));
    Ok(())
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
    Wire(#[from] WireError),
    #[error(transparent)]
    Content(#[from] Error),
}

/// Dropping the stream before its end resets it: the other side then knows that it has not all.
async fn answer(mut stream: Stream, store: &Store, tree: &TreeHandle) -> Result<(), AnswerError> {
    let request = time::timeout(STALL_TIMEOUT, request(&mut stream)).await;
    let request = request.map_err(|_| AnswerError::Stalled)??;
    let mut out = Answering::new(stream);
    match request {
        Request::FileList => {
            let message = tree.list().await?.encode()?;
            out.send(&message).await?;
        }
        Request::File { cid } => content(&mut out, store, cid).await?,
    }
    Ok(out.close().await?)
}

async fn request(stream: &mut Stream) -> Result<Request, AnswerError> {
    let mut decoder = RequestDecoder::new();
    let mut buffer = [0; REQUEST_READ];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            decoder.end()?;
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some(request) = decoder.push(&buffer[..len])? {
            return Ok(request);
        }
    }
}

async fn content(out: &mut Answering<Stream>, store: &Store, cid: Cid) -> Result<(), AnswerError> {
    let fail = |reason: &str| encode_failure(&cid.to_string(), reason);
    let (root, content) = match (store.get(&cid).await, read::stored(store, cid).await) {
        (Ok(Some(root)), Ok(Some(content))) => (root, content),
        // A shard below a sharded directory is not a directory of its own, but its node is wanted.
        (Ok(Some(root)), Err(Error::BadContent { .. })) => {
            (root, Content::Directory(BTreeMap::new()))
        }
        (Ok(_), Ok(_)) => return Ok(out.send(&fail("not found")?).await?),
        (Err(error), _) => {
            tracing::warn!(%cid, %error, "a block could not be read");
            return Ok(out.send(&fail("it cannot be read")?).await?);
        }
        (_, Err(error)) => {
            tracing::warn!(%cid, %error, "content could not be read");
            return Ok(out.send(&fail("it cannot be read")?).await?);
        }
    };
    match content {
        Content::Directory(entries) => {
            Ok(out.send(&encode_directory(&cid, root.data(), &entries)?).await?)
        }
        Content::File(file) => send_file(out, store, &root, file.size, &file.mime_type).await,
    }
}

async fn send_file(
    out: &mut Answering<Stream>,
    store: &Store,
    root: &Block,
    size: u64,
    mime_type: &str,
) -> Result<(), AnswerError> {
    let (mut encoder, head) = match FileEncoder::new(root.cid(), root.data(), size, mime_type) {
        Ok(started) => started,
        Err(error) => {
            let failure = encode_failure(&root.cid().to_string(), &error.to_string())?;
            return Ok(out.send(&failure).await?);
        }
    };
    out.send(&head).await?;
    let mut pieces = read::read(store.clone(), *root.cid());
    while let Some(piece) = pieces.next().await {
        out.send(&encoder.push(&piece?)?).await?;
    }
    Ok(out.send(&encoder.finish()?).await?)
}
