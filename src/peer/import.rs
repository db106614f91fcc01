//! From a stream of bytes to the blocks of a file, in a session of the store: leaves are hashed in
//! parallel, written behind, and never held all at once.

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, stream::FuturesOrdered};

use super::{ByteStream, ProgressSink};
use crate::{
    content::{
        block::{Block, Digest},
        import::{Chunker, FileBuilder, FileRoot, LeafPayload},
        profile::Profile,
    },
    error::Result,
    platform,
    store::{Session, Store},
};

/// Leaves being hashed at a time: enough to keep WebCrypto's threads busy, at most 8 MiB.
const HASHES_IN_FLIGHT: usize = 8;

/// Reads `source` to its end. The session holds the file's blocks, uncommitted.
pub(super) async fn import(
    store: &Store,
    profile: Profile,
    mut source: ByteStream,
    total: Option<u64>,
    progress: Option<&dyn ProgressSink>,
) -> Result<(Session, FileRoot)> {
    let mut session = store.session();
    let root = import_into(&mut session, profile, &mut source, total, progress).await?;
    Ok((session, root))
}

/// Reads `source` to its end, for those who put several files into one session.
pub async fn import_into<S: Stream<Item = Result<Bytes>> + Unpin>(
    session: &mut Session,
    profile: Profile,
    source: &mut S,
    total: Option<u64>,
    progress: Option<&dyn ProgressSink>,
) -> Result<FileRoot> {
    let mut chunker = Chunker::new(profile);
    let mut builder = FileBuilder::new(profile);
    let mut hashes = FuturesOrdered::new();
    let mut ended = false;
    let mut done = 0;
    loop {
        while hashes.len() < HASHES_IN_FLIGHT {
            let chunk = match chunker.next_chunk() {
                Some(chunk) => chunk,
                None if ended => match chunker.finish() {
                    Some(last) => last,
                    None => break,
                },
                None => break,
            };
            hashes.push_back(hash_leaf(builder.leaf_payload(chunk.clone()), chunk.len() as u64));
        }
        if ended && hashes.is_empty() {
            break;
        }
        let may_read = !ended && hashes.len() < HASHES_IN_FLIGHT;
        let step = futures::select_biased! {
            piece = async { if may_read { source.next().await } else { std::future::pending().await } }.fuse() => {
                Step::Piece(piece)
            }
            leaf = async { match hashes.next().await { Some(leaf) => leaf, None => std::future::pending().await } }.fuse() => {
                Step::Leaf(leaf)
            }
        };
        match step {
            Step::Piece(Some(piece)) => chunker.push(piece?),
            Step::Piece(None) => ended = true,
            Step::Leaf(leaf) => {
                done += leaf.file_len;
                let block_len = leaf.payload.data.len() as u64;
                let block = Block::with_digest(
                    leaf.payload.version,
                    leaf.payload.codec,
                    &leaf.digest,
                    leaf.payload.data,
                );
                for node in builder.push_leaf(*block.cid(), leaf.file_len, block_len) {
                    session.put(node).await?;
                }
                session.put(block).await?;
                if let Some(progress) = progress {
                    progress.report(done, total);
                }
            }
        }
    }
    let (nodes, root) = builder.finish();
    for node in nodes {
        session.put(node).await?;
    }
    Ok(root)
}

enum Step {
    Piece(Option<Result<Bytes>>),
    Leaf(Leaf),
}

struct Leaf {
    payload: LeafPayload,
    digest: Digest,
    file_len: u64,
}

async fn hash_leaf(payload: LeafPayload, file_len: u64) -> Leaf {
    let digest = platform::sha256(payload.data.clone()).await;
    Leaf { payload, digest, file_len }
}
