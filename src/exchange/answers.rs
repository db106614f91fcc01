//! Answering the streams of a request protocol: so many at a time, and so many of one peer, so that
//! it cannot keep the others out. More wait in the network's queue, which has a bound of its own.
//!
//! A place is not held for ever either: an answer is given up when nothing of it is taken for a
//! while, and when all in all it is taken too slowly.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
};

use futures::{
    AsyncWrite, AsyncWriteExt as _, FutureExt as _, StreamExt as _, stream::FuturesUnordered,
};
use libp2p::PeerId;

use crate::{
    network::{IncomingStreams, Stream},
    platform::{
        BoxFuture,
        time::{self, Duration, Instant},
    },
};

/// A write of which nothing is taken for this long is given up.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The slowest that an answer may be taken as a whole, in bytes a second: less than any link that
/// content is worth moving over.
pub const MIN_RATE: u64 = 16 << 10;
/// How far behind [`MIN_RATE`] it may fall.
pub const GRACE: Duration = Duration::from_secs(30);
/// Bytes written at a time, so that [`STALL_TIMEOUT`] is for progress.
const PIECE: usize = 64 << 10;

/// Streams answered at a time.
pub struct AnswerLimits {
    pub all: usize,
    pub per_peer: usize,
}

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    #[error("nothing was taken for {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
    #[error("less than {MIN_RATE} bytes a second were taken")]
    TooSlow,
}

/// Writes an answer at the pace that its reader has to keep.
pub struct Answering<S> {
    stream: S,
    pace: Pace,
}

/// How much time a reader has left. Only the time in which it is waited for counts.
#[derive(Debug, Default)]
pub struct Pace {
    bytes: u64,
    waited: Duration,
}

impl<S: AsyncWrite + Unpin> Answering<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, pace: Pace::default() }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        for piece in bytes.chunks(PIECE) {
            self.pace.keep(piece.len(), self.stream.write_all(piece)).await?;
        }
        self.pace.keep(0, self.stream.flush()).await
    }

    /// Dropping it without that resets the stream: the other side then knows that it has not all.
    pub async fn close(mut self) -> Result<(), SendError> {
        self.pace.keep(0, self.stream.close()).await
    }
}

impl Pace {
    /// Waits for `work`, which writes `len` bytes, as long as the reader may take for them.
    pub async fn keep<T>(
        &mut self,
        len: usize,
        work: impl Future<Output = io::Result<T>>,
    ) -> Result<T, SendError> {
        self.bytes = self.bytes.saturating_add(len as u64);
        let all = GRACE + Duration::from_millis(self.bytes.saturating_mul(1000) / MIN_RATE);
        let left = all.saturating_sub(self.waited);
        let started = Instant::now();
        let outcome = time::timeout(left.min(STALL_TIMEOUT), work).await;
        self.waited += started.elapsed();
        match outcome {
            Ok(done) => Ok(done?),
            Err(_) if left < STALL_TIMEOUT => Err(SendError::TooSlow),
            Err(_) => Err(SendError::Stalled),
        }
    }
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

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;

    /// Takes so much a second, a little at a time; nothing at all at 0.
    struct Reader {
        rate: usize,
        taken: usize,
        pause: Option<Pin<Box<time::Sleep>>>,
    }

    /// Bytes taken at a time.
    const SIP: usize = 1024;

    impl AsyncWrite for Reader {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.rate == 0 {
                return Poll::Pending;
            }
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
            }
            let sip = bytes.len().min(SIP);
            let pause = Duration::from_micros((sip * 1_000_000 / self.rate) as u64);
            self.pause = Some(Box::pin(time::sleep(pause)));
            self.taken += sip;
            Poll::Ready(Ok(sip))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn answering(rate: usize) -> Answering<Reader> {
        Answering::new(Reader { rate, taken: 0, pause: None })
    }

    async fn sent(rate: usize, bytes: usize) -> (Result<(), SendError>, Duration) {
        let (mut answering, started) = (answering(rate), Instant::now());
        let outcome = answering.send(&vec![0; bytes]).await;
        (outcome, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_holds_its_place_for_a_while_only() {
        let seconds = Duration::from_secs;
        // Always some progress, so it does not stall.
        let (outcome, took) = sent(MIN_RATE as usize / 2, 40 << 20).await;
        assert!(matches!(outcome, Err(SendError::TooSlow)), "{outcome:?}");
        assert!((seconds(60)..seconds(80)).contains(&took), "{took:?}");
        let (outcome, took) = sent(0, 40 << 20).await;
        assert!(matches!(outcome, Err(SendError::Stalled)), "{outcome:?}");
        assert!(took <= STALL_TIMEOUT + seconds(1), "{took:?}");
        // As slow as may be.
        let (outcome, took) = sent(MIN_RATE as usize + 500, 40 << 20).await;
        assert!(outcome.is_ok() && took > seconds(40 * 60), "{outcome:?} {took:?}");
        // A short answer has the grace.
        assert!(sent(1024, 20 << 10).await.0.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_not_blamed_for_the_time_that_others_take() {
        let mut answering = answering(MIN_RATE as usize * 2);
        for _ in 0..20 {
            // The next piece is read, or looked for elsewhere.
            time::sleep(GRACE).await;
            answering.send(&vec![0; PIECE]).await.expect("fast enough");
        }
        assert_eq!(answering.stream.taken, 20 * PIECE);
        answering.close().await.expect("closed");
    }
}
