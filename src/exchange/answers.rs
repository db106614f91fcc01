//! Answering the streams of a request protocol: so many at a time, and so many of one peer, so that
//! it cannot keep the others out. More wait in the network's queue, which has a bound of its own.

use std::collections::{HashMap, hash_map::Entry};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use libp2p::PeerId;

use crate::{
    network::{IncomingStreams, Stream},
    platform::BoxFuture,
};

/// Streams answered at a time.
pub struct AnswerLimits {
    pub all: usize,
    pub per_peer: usize,
}

/// Runs `answer` for each stream until the network closes. A stream above its peer's share is reset.
/// The futures are boxed: one copy of this serves every protocol.
pub async fn answer_each(
    mut incoming: IncomingStreams,
    limits: AnswerLimits,
    answer: impl Fn(PeerId, Stream) -> BoxFuture<()>,
) {
    let mut answers = FuturesUnordered::<BoxFuture<PeerId>>::new();
    let mut running: HashMap<PeerId, usize> = HashMap::new();
    loop {
        let may_accept = answers.len() < limits.all;
        let next =
            async { if may_accept { incoming.next().await } else { std::future::pending().await } };
        futures::select_biased! {
            peer = answers.select_next_some() => {
                if let Entry::Occupied(mut count) = running.entry(peer) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
            stream = next.fuse() => {
                let Some((peer, stream)) = stream else { break };
                let count = running.entry(peer).or_default();
                if *count >= limits.per_peer {
                    continue; // dropping the stream resets it
                }
                *count += 1;
                let work = answer(peer, stream);
                answers.push(Box::pin(async move {
                    work.await;
                    peer
                }));
            }
        }
    }
}
