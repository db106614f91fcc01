//! Reading one inbound stream: framing, then verifying, with bounds on what a peer can make us hold.
//!
//! Wants and presences go to the driver in the order in which they came; blocks follow when they are
//! hashed, several messages at a time.

use std::{
    future::pending,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::BytesMut;
use cid::Cid;
use futures::{AsyncReadExt as _, future};
use libp2p::PeerId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Event, STALL_TIMEOUT};
use crate::{
    content::block::{Block, SHA2_256},
    exchange::bitswap::message::{Message, MessageReader, Presence, RawBlock, WantEntry},
    network::Stream,
    platform::{
        self, task,
        time::{self, Duration, Instant},
    },
};

/// Bytes read at a time, but for most of a large message.
const READ: usize = 64 << 10;
/// A read buffer with less than this left is replaced.
const MIN_READ: usize = 8 << 10;
/// A message of which more has come needs a permit for the rest, until it is done with.
const LIGHT_MESSAGE: usize = 128 << 10;
/// Large messages that one peer may have in memory here.
const MAX_HEAVY_PER_PEER: usize = 4;
/// Large messages of all peers in memory.
const MAX_HEAVY: usize = 48;
/// When a large message waits this long for its place, slow ones have to make room.
const CROWDED_AFTER: Duration = Duration::from_secs(2);
/// Slow is a message that has been coming for this long
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// at less than so many bytes per second.
const SLOW_RATE: f64 = (64 << 10) as f64;
/// Messages of one stream that are being verified.
const MAX_VERIFYING: usize = 4;
/// While a message takes long, the driver hears this often that it is on its way.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What a message says, in the order of the messages of its stream.
#[derive(Debug)]
pub(super) struct Said {
    pub wants: Vec<WantEntry>,
    pub full: bool,
    pub presences: Vec<(Cid, Presence)>,
    /// One such message of a peer is in memory at a time: decoded it is many times as large.
    pub _turn: OwnedSemaphorePermit,
}

/// How much one peer may have in memory here.
#[derive(Clone)]
pub(super) struct Gate {
    all: Arc<Semaphore>,
    /// Somebody waits for `all`.
    crowded: Arc<Notify>,
    peer: Arc<Semaphore>,
    /// To read what the peer says.
    turn: Arc<Semaphore>,
}

/// A large message's place in memory; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _all: OwnedSemaphorePermit,
    _peer: OwnedSemaphorePermit,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self::sharing(Arc::new(Semaphore::new(MAX_HEAVY)), Arc::default())
    }

    /// That of another peer.
    pub(super) fn another(&self) -> Self {
        Self::sharing(self.all.clone(), self.crowded.clone())
    }

    fn sharing(all: Arc<Semaphore>, crowded: Arc<Notify>) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { all, crowded, peer: semaphore(MAX_HEAVY_PER_PEER), turn: semaphore(1) }
    }

    async fn pass(&self) -> Option<Permit> {
        // In this order, so that what waits for its own peer takes nothing from others.
        let peer = self.peer.clone().acquire_owned().await.ok()?;
        if let Ok(all) = self.all.clone().try_acquire_owned() {
            return Some(Permit { _all: all, _peer: peer });
        }
        let mut all = pin!(self.all.clone().acquire_owned());
        loop {
            match time::timeout(CROWDED_AFTER, &mut all).await {
                Ok(all) => return Some(Permit { _all: all.ok()?, _peer: peer }),
                Err(_) => self.crowded.notify_waiters(),
            }
        }
    }

    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turn.clone().acquire_owned().await.ok()
    }
}

/// Why a stream was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// It ended, or broke, or stalled.
    Over,
    /// What came is not Bitswap.
    Bad,
}

/// Reads until the stream ends. `asking`: somebody here wants blocks; if not, none is looked at.
pub(super) async fn read(
    peer: PeerId,
    mut stream: Stream,
    gate: Gate,
    asking: Arc<AtomicBool>,
    events: mpsc::Sender<Event>,
) {
    // A stream that only waits to be written to must not keep the connection alive.
    stream.ignore_for_keep_alive();
    let slots = Arc::new(Semaphore::new(MAX_VERIFYING));
    let end = read_messages(peer, &mut stream, &gate, &asking, &slots, &events).await;
    // What was read before the end counts.
    let _ = slots.acquire_many(MAX_VERIFYING as u32).await;
    let _ = events.send(Event::ReadEnded { peer, end }).await;
}

async fn read_messages(
    peer: PeerId,
    stream: &mut Stream,
    gate: &Gate,
    asking: &AtomicBool,
    slots: &Arc<Semaphore>,
    events: &mpsc::Sender<Event>,
) -> ReadEnd {
    let mut reader = MessageReader::new();
    let mut buffer = BytesMut::new();
    // Of the message that is under way.
    let mut partial = 0;
    let mut permit = None;
    let mut watchdog = Watchdog::default();
    let mut reported = Instant::now();
    // When the message under way took its place.
    let mut heavy_since = Instant::now();
    loop {
        if partial > LIGHT_MESSAGE && permit.is_none() {
            permit = gate.pass().await;
            heavy_since = Instant::now();
        }
        if buffer.len() < MIN_READ {
            buffer = BytesMut::zeroed(READ);
        }
        let rest = reader.rest();
        let direct = !rest.is_empty();
        let len = tokio::select! {
            biased;
            read = stream.read(if direct { rest } else { &mut buffer }) => match read {
                Ok(0) | Err(_) => return ReadEnd::Over,
                Ok(len) => len,
            },
            () = gate.crowded.notified(), if permit.is_some() => {
                let age = heavy_since.elapsed();
                if age > SLOW_AFTER && (partial as f64) < age.as_secs_f64() * SLOW_RATE {
                    return ReadEnd::Over;
                }
                continue;
            }
            () = watchdog.barks(partial > 0) => return ReadEnd::Over,
        };
        watchdog.calm();
        partial += len;
        match direct {
            true => reader.advance(len),
            false => reader.push(buffer.split_to(len).freeze()),
        }
        let mut whole = false;
        loop {
            let Some(turn) = gate.turn().await else { return ReadEnd::Over };
            let message = match reader.next() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%peer, %error, "a stream is given up");
                    return ReadEnd::Bad;
                }
            };
            whole = true;
            reported = Instant::now();
            let Message { wants, full, blocks, presences, .. } = message;
            if full || !wants.is_empty() || !presences.is_empty() {
                let said = Said { wants, full, presences, _turn: turn };
                if events.send(Event::Said { peer, said }).await.is_err() {
                    return ReadEnd::Over;
                }
            }
            let permit = permit.take();
            if !blocks.is_empty() && asking.load(Ordering::Relaxed) {
                let Ok(slot) = slots.clone().acquire_owned().await else { return ReadEnd::Over };
                let events = events.clone();
                task::spawn(async move {
                    let blocks = verify(blocks).await;
                    let _ = events.send(Event::Blocks { peer, blocks, permit }).await;
                    drop(slot);
                });
            }
        }
        if reader.is_between_messages() {
            partial = 0;
        } else if whole {
            partial = len;
        } else if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            // One report more or less is no matter.
            let _ = events.try_send(Event::Receiving { peer });
        }
    }
}

/// The CID of each block follows from its bytes. Those of other hash functions nobody here asked
/// for.
async fn verify(blocks: Vec<RawBlock>) -> Vec<Block> {
    let blocks = blocks.into_iter().filter(|block| block.hash_code == SHA2_256);
    let hashed = blocks.map(|block| async move {
        let digest = platform::sha256(block.data.clone()).await;
        Block::with_digest(block.version, block.codec, &digest, block.data)
    });
    future::join_all(hashed).await
}

/// Notices that nothing has come for a while, with one timer for many reads.
#[derive(Default)]
struct Watchdog {
    timer: Option<Pin<Box<time::Sleep>>>,
    fed: bool,
}

impl Watchdog {
    /// Resolves when nothing came for [`STALL_TIMEOUT`] to twice that, while `awake`.
    async fn barks(&mut self, awake: bool) {
        if !awake {
            self.timer = None;
            return pending().await;
        }
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(time::sleep(STALL_TIMEOUT)));
            timer.as_mut().await;
            self.timer = None;
            if !std::mem::take(&mut self.fed) {
                return;
            }
        }
    }

    fn calm(&mut self) {
        self.fed = true;
    }
}
