//! One stream: frames out, frames in, with bounds on what the other side can make us hold and on how
//! long it may take.

use std::{future::pending, io, sync::Arc};

use bytes::Bytes;
use futures::{
    AsyncReadExt as _, AsyncWriteExt as _,
    future::{Either, select},
    io::{ReadHalf, WriteHalf},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Event;
use crate::{
    messaging::direct::{
        MAX_UNTAKEN, WINDOW,
        frame::{FrameReader, encode_ack},
    },
    network::Stream,
    platform::time::{self, Duration, Instant},
};

/// Bytes read at a time.
const READ_SIZE: usize = 16 << 10;
/// Bytes that must be taken within [`WRITE_TIMEOUT`].
const WRITE_PIECE: usize = 64 << 10;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a frame may take from its first byte to its last.
const FRAME_TIMEOUT: Duration = Duration::from_secs(60);
/// A frame that is larger needs a permit until it is done with.
const LIGHT_FRAME: usize = 32 << 10;
/// Large frames in memory.
pub(super) const MAX_HEAVY: usize = 16;
/// Of these, those of one peer and protocol.
pub(super) const MAX_HEAVY_PER_LINK: usize = 2;
/// Frames that wait to be written: the window, and the acks of what the other side may send and of
/// what it may send again. One that makes more of them and reads none is reset.
pub(super) const OUT_QUEUE: usize = WINDOW + 2 * MAX_UNTAKEN;
/// How long a close may take, and the other side to close as well.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is to be written.
pub(super) enum Out {
    Data {
        seq: u64,
        frame: Bytes,
    },
    Ack {
        id: String,
    },
    /// Close it when all before is written.
    Close,
}

/// How many large frames may be in memory.
#[derive(Clone)]
pub(super) struct Gate {
    all: Arc<Semaphore>,
    link: Arc<Semaphore>,
}

/// A large frame's place; given back when dropped.
pub(super) struct Permit {
    _all: OwnedSemaphorePermit,
    _link: OwnedSemaphorePermit,
}

impl Gate {
    pub(super) fn new(all: Arc<Semaphore>, per_link: usize) -> Self {
        Self { all, link: Arc::new(Semaphore::new(per_link)) }
    }

    async fn pass(&self) -> Option<Permit> {
        // In this order, so that what waits for its own link takes nothing from others.
        let link = self.link.clone().acquire_owned().await.ok()?;
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some(Permit { _all: all, _link: link })
    }
}

/// Runs until the stream ends on either side, or the driver lets go of `queue`, which resets it.
pub(super) async fn run(
    number: u64,
    stream: Stream,
    gate: Gate,
    queue: mpsc::Receiver<Out>,
    events: mpsc::Sender<Event>,
) {
    let (mut reader, mut writer) = stream.split();
    let reading = Box::pin(read(number, &mut reader, &gate, &events));
    let writing = Box::pin(write(number, &mut writer, queue, &events));
    let they_closed = match select(reading, writing).await {
        Either::Left((end, _)) => end == ReadEnd::Closed,
        Either::Right((Ok(Wrote::Closed), reading)) => {
            let _ = time::timeout(CLOSE_TIMEOUT, reading).await;
            false
        }
        Either::Right(_) => false,
    };
    if they_closed {
        let _ = timed(CLOSE_TIMEOUT, writer.close()).await;
    }
    let _ = events.send(Event::Ended { stream: number }).await;
}

enum Wrote {
    Closed,
    LetGo,
}

#[derive(PartialEq, Eq)]
enum ReadEnd {
    /// In good order.
    Closed,
    /// Broken, or too slow, or not frames.
    Bad,
}

async fn write(
    number: u64,
    stream: &mut WriteHalf<Stream>,
    mut queue: mpsc::Receiver<Out>,
    events: &mpsc::Sender<Event>,
) -> io::Result<Wrote> {
    let mut written = Vec::new();
    loop {
        let Some(mut out) = queue.recv().await else { return Ok(Wrote::LetGo) };
        // All that waits goes with one flush.
        loop {
            let frame = match out {
                Out::Data { seq, frame } => {
                    written.push(seq);
                    frame
                }
                Out::Ack { id } => encode_ack(&id),
                Out::Close => {
                    timed(CLOSE_TIMEOUT, stream.close()).await?;
                    return Ok(Wrote::Closed);
                }
            };
            for piece in frame.chunks(WRITE_PIECE) {
                timed(WRITE_TIMEOUT, stream.write_all(piece)).await?;
            }
            match queue.try_recv() {
                Ok(next) => out = next,
                Err(_) => break,
            }
        }
        timed(WRITE_TIMEOUT, stream.flush()).await?;
        for seq in written.drain(..) {
            let _ = events.send(Event::Written { stream: number, seq }).await;
        }
    }
}

async fn timed(limit: Duration, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn read(
    number: u64,
    stream: &mut ReadHalf<Stream>,
    gate: &Gate,
    events: &mpsc::Sender<Event>,
) -> ReadEnd {
    let mut reader = FrameReader::new();
    let mut buffer = vec![0; READ_SIZE];
    let mut permit = None;
    // When the frame under way must be whole.
    let mut until = None;
    loop {
        if reader.announced() > LIGHT_FRAME && permit.is_none() {
            permit = gate.pass().await;
        }
        let late = async {
            match until {
                Some(until) => time::sleep_until(until).await,
                None => pending().await,
            }
        };
        let len = tokio::select! {
            biased;
            read = stream.read(&mut buffer) => match read {
                Ok(0) if reader.is_between_frames() => return ReadEnd::Closed,
                Ok(0) | Err(_) => return ReadEnd::Bad,
                Ok(len) => len,
            },
            () = late => return ReadEnd::Bad,
        };
        let mut input = &buffer[..len];
        loop {
            match reader.read(&mut input) {
                Ok(Some(frame)) => {
                    until = None;
                    let event = Event::Frame { stream: number, frame, _permit: permit.take() };
                    if events.send(event).await.is_err() {
                        return ReadEnd::Bad;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "a stream of direct messages is given up");
                    return ReadEnd::Bad;
                }
            }
        }
        if !reader.is_between_frames() {
            until.get_or_insert_with(|| Instant::now() + FRAME_TIMEOUT);
        }
    }
}
