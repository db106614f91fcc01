//! Asking peers: all at the same time, the first whose content is right wins, the others are dropped.

use bytes::Bytes;
use cid::Cid;
use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _, stream::FuturesUnordered,
};
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    FrameReader, LARGE_ANSWER, MAX_ANSWER, MAX_ASKED, MessageError, PROTOCOL, Request,
    STALL_TIMEOUT, decode_answer, verify,
};
use crate::{
    content::block::Block,
    network::{NetworkError, Stream, peers::PeerStreams},
    platform::{BoxFuture, time},
};

/// Bytes read from a stream at a time.
const READ_SIZE: usize = 64 << 10;

/// Why a peer did not bring content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CasError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the stream with {peer} broke: {reason}")]
    Broken { peer: PeerId, reason: String },
    #[error("peer {peer} sent or took nothing for {} s", STALL_TIMEOUT.as_secs())]
    Stalled { peer: PeerId },
    #[error("peer {peer} sent no answer of {PROTOCOL}: {source}")]
    Message { peer: PeerId, source: MessageError },
    #[error("peer {peer} does not have {cid}")]
    NotThere { peer: PeerId, cid: Cid },
    #[error("peer {peer} sent bytes that are not {cid}")]
    Wrong { peer: PeerId, cid: Cid },
}

/// Asks `peers` (the first [`MAX_ASKED`]) at the same time. The answer of the first that has the
/// content, as verified blocks, the root among them; when none has it, why each has not. Dropping
/// the future ends all requests.
pub async fn ask_peers(
    streams: &dyn PeerStreams,
    peers: impl IntoIterator<Item = PeerId>,
    request: &Request,
) -> Result<(PeerId, Vec<Block>), Vec<CasError>> {
    let large = Semaphore::new(1);
    let asked = peers.into_iter().take(MAX_ASKED);
    let opened = asked.map(|peer| {
        let stream = streams.open_stream(peer, StreamProtocol::new(PROTOCOL));
        ask(peer, stream, request, &large).map(move |answer| (peer, answer))
    });
    let mut answers: FuturesUnordered<_> = opened.collect();
    let mut errors = Vec::new();
    while let Some((peer, answer)) = answers.next().await {
        match answer {
            Ok(blocks) => return Ok((peer, blocks)),
            Err(error) => errors.push(error),
        }
    }
    Err(errors)
}

/// What `peer` has of the request's CID, verified. `large`: the permit to read a large answer.
async fn ask(
    peer: PeerId,
    stream: BoxFuture<Result<Stream, NetworkError>>,
    request: &Request,
    large: &Semaphore,
) -> Result<Vec<Block>, CasError> {
    let cid = request.cid;
    let mut stream = stream.await?;
    let sent = async {
        stream.write_all(&request.encode()).await?;
        stream.flush().await
    };
    timed(peer, sent).await?;
    let (content, _permit) = answer(peer, &mut stream, large).await?;
    drop(stream);
    let content = content.ok_or(CasError::NotThere { peer, cid })?;
    verify(cid, content).await.ok_or(CasError::Wrong { peer, cid })
}

/// Reads the answer. The permit, if one was needed, is held until the content is verified.
async fn answer<'a>(
    peer: PeerId,
    stream: &mut Stream,
    large: &'a Semaphore,
) -> Result<(Option<Bytes>, Option<SemaphorePermit<'a>>), CasError> {
    let message = |source| CasError::Message { peer, source };
    let mut reader = FrameReader::new(MAX_ANSWER);
    let mut buffer = vec![0; READ_SIZE];
    let mut permit = None;
    loop {
        let len = timed(peer, stream.read(&mut buffer)).await?;
        if len == 0 {
            return Err(message(MessageError::Truncated));
        }
        if reader.push(buffer.get(..len).unwrap_or_default()).map_err(message)? {
            let content = decode_answer(reader.body()).map_err(message)?;
            return Ok((content, permit));
        }
        if permit.is_none() && reader.announced() > LARGE_ANSWER {
            permit = large.acquire().await.ok();
        }
    }
}

async fn timed<T>(
    peer: PeerId,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T, CasError> {
    match time::timeout(STALL_TIMEOUT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(CasError::Broken { peer, reason: error.to_string() }),
        Err(_) => Err(CasError::Stalled { peer }),
    }
}
