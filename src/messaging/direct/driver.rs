//! The task that owns the links and does what they decide, over the network.
//!
//! It never waits for anybody: dialling, reading and writing are tasks of their own, which report as
//! [`Event`]s.

mod links;
mod stream;

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::Arc,
};

use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::{
    links::Entry,
    stream::{MAX_HEAVY, OUT_QUEUE, Out, Permit},
};
use super::{
    DirectError, MAX_LINKS, MAX_QUEUED, MAX_STREAMS, MAX_TOTAL_UNTAKEN_BYTES,
    frame::Frame,
    hub::{Hub, NewSend},
    incoming::Mailbox,
    link::{Failure, GivenUp, Link, Step},
};
use crate::{
    boxmap::BoxMap,
    network::{NetworkError, PeerStreams, PeersWatch, Stream},
    platform::{
        task,
        time::{self, Duration, Instant},
    },
};

/// Reports that wait for the driver.
const EVENT_QUEUE: usize = 64;

/// What the tasks report.
enum Event {
    Opened { key: Key, stream: Result<Stream, NetworkError> },
    Frame { stream: u64, frame: Frame, _permit: Option<Permit> },
    Written { stream: u64, seq: u64 },
    Ended { stream: u64 },
}

type Key = (PeerId, Arc<str>);

struct Driver {
    hub: Arc<Hub>,
    streams: Arc<dyn PeerStreams>,
    peers: PeersWatch,
    epoch: u64,
    links: BoxMap<Key, Entry>,
    /// For which links are made and found unused.
    turn: u64,
    open: BoxMap<u64, Open>,
    /// Streams there have been.
    numbers: u64,
    waiters: BoxMap<u64, Waiter>,
    started: Vec<(Arc<str>, Arc<Mailbox>)>,
    /// Links that would like to hear of their peer.
    troubled: usize,
    heavy: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
    began: Instant,
    /// Not after the first deadline of a link.
    due: Option<Duration>,
    timer: Option<(Duration, Pin<Box<time::Sleep>>)>,
}

struct Open {
    key: Key,
    out: mpsc::Sender<Out>,
}

/// A call of `send`.
struct Waiter {
    key: Key,
    bytes: usize,
    reply: oneshot::Sender<Result<(), DirectError>>,
}

/// Runs until the network is closed, or nobody is left to send or receive.
pub(super) async fn run(hub: Arc<Hub>, streams: Arc<dyn PeerStreams>, epoch: u64) {
    let mut peers = streams.peers();
    let (mut driver, mut events) = Driver::new(hub.clone(), streams, epoch);
    while !hub.is_closed() {
        driver.set_timer();
        let timer = driver.timer.as_mut().map(|(_, sleep)| sleep.as_mut());
        tokio::select! {
            Some(event) = events.recv() => {
                driver.on_event(event);
                for _ in 0..EVENT_QUEUE {
                    let Ok(event) = events.try_recv() else { break };
                    driver.on_event(event);
                }
            }
            () = hub.wake.notified() => {}
            changed = peers.changed() => match changed {
                Some(_) => driver.meet(),
                None => break,
            },
            (protocol, peer, stream) = poll_fn(|cx| hub.poll_streams(cx)) => {
                driver.take_work();
                driver.accept(peer, &protocol, stream);
            }
            () = async { match timer { Some(sleep) => sleep.await, None => pending().await } } => {
                driver.timer = None;
                driver.tick();
            }
        }
        driver.take_work();
    }
    hub.close();
}

impl Driver {
    fn new(
        hub: Arc<Hub>,
        streams: Arc<dyn PeerStreams>,
        epoch: u64,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        let driver = Self {
            hub,
            peers: streams.peers(),
            streams,
            epoch,
            links: BoxMap::new(),
            turn: 0,
            open: BoxMap::new(),
            numbers: 0,
            waiters: BoxMap::new(),
            started: Vec::new(),
            troubled: 0,
            heavy: Arc::new(Semaphore::new(MAX_HEAVY)),
            events,
            began: Instant::now(),
            due: None,
            timer: None,
        };
        (driver, received)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Opened { key, stream } => {
                match stream {
                    Ok(stream) => {
                        let number = self.run_stream(&key, stream);
                        self.with(&key, |link| link.opened(number, now));
                    }
                    Err(error) => self.with(&key, |link| link.open_failed(failure(&error), now)),
                };
            }
            Event::Frame { stream, frame, .. } => {
                let room = MAX_TOTAL_UNTAKEN_BYTES.saturating_sub(self.hub.untaken_bytes());
                let fits = match &frame {
                    Frame::Data { value, .. } => value.size() <= room,
                    Frame::Ack { .. } => true,
                };
                let Some(key) = self.open.get(&stream).map(|open| open.key.clone()) else { return };
                self.with(&key, |link| match fits {
                    true => link.frame(stream, frame, now),
                    false => link.refuse(stream, now),
                });
                self.heard_of(key.0, now);
            }
            Event::Written { stream, seq } => {
                let Some(key) = self.open.get(&stream).map(|open| open.key.clone()) else { return };
                self.with(&key, |link| link.written(stream, seq, now));
            }
            Event::Ended { stream } => {
                let Some(open) = self.open.remove(&stream) else { return };
                self.with(&open.key, |link| link.ended(stream, now));
            }
        }
    }

    /// Tells a link something, and does what it wants then.
    fn with(&mut self, key: &Key, tell: impl FnOnce(&mut Link)) {
        if let Some(entry) = self.links.get_mut(key) {
            tell(&mut entry.link);
            self.perform(key);
        }
    }

    fn perform(&mut self, key: &Key) {
        let now = self.now();
        self.turn += 1;
        while let Some(entry) = self.links.get_mut(key) {
            entry.used = self.turn;
            let Some(step) = entry.link.next_step() else {
                let deadline = entry.link.deadline();
                let before = std::mem::replace(&mut entry.troubled, entry.link.is_troubled());
                self.troubled = self.troubled + usize::from(entry.troubled) - usize::from(before);
                self.due = self.due.into_iter().chain(deadline).min();
                return;
            };
            match step {
                Step::Open => self.dial(key),
                Step::WriteData { stream, seq, frame } => {
                    self.write(key, stream, Out::Data { seq, frame }, now);
                }
                Step::WriteAck { stream, id } => self.write(key, stream, Out::Ack { id }, now),
                Step::Close { stream } => {
                    if let Some(open) = self.open.remove(&stream) {
                        // If it is full, the stream is reset instead.
                        let _ = open.out.try_send(Out::Close);
                    }
                }
                // The task ends when its queue does.
                Step::Reset { stream } => drop(self.open.remove(&stream)),
                Step::Deliver { number, value } => {
                    if let Some(mailbox) = mailbox(&self.started, &key.1) {
                        mailbox.deliver(key.0, number, value);
                    }
                }
                Step::Done { seq, outcome } => {
                    let Some(waiter) = self.waiters.remove(&seq) else { continue };
                    self.hub.sent(waiter.bytes);
                    let _ = waiter.reply.send(outcome.map_err(|given_up| error(key, given_up)));
                }
            }
        }
    }

    fn dial(&self, key: &Key) {
        let Some(entry) = self.links.get(key) else { return };
        let open = self.streams.open_stream(key.0, entry.protocol.clone());
        let (key, events) = (key.clone(), self.events.clone());
        drop(task::spawn(async move {
            let stream = open.await;
            let _ = events.send(Event::Opened { key, stream }).await;
        }));
    }

    fn write(&mut self, key: &Key, stream: u64, out: Out, now: Duration) {
        let Some(open) = self.open.get(&stream) else { return };
        // If its task is gone, its end is reported.
        if let Err(mpsc::error::TrySendError::Full(_)) = open.out.try_send(out)
            && let Some(entry) = self.links.get_mut(key)
        {
            // The other side asks for more than it reads.
            entry.link.refuse(stream, now);
        }
    }

    fn accept(&mut self, peer: PeerId, protocol: &StreamProtocol, stream: Stream) {
        // Dropping the stream resets it.
        if self.open.len() >= MAX_STREAMS {
            return;
        }
        let Some(key) = self.link(peer, protocol) else { return };
        let (number, now) = (self.run_stream(&key, stream), self.now());
        self.with(&key, |link| link.accepted(number, now));
        self.heard_of(peer, now);
    }

    fn run_stream(&mut self, key: &Key, stream: Stream) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        let gate = match self.links.get(key) {
            Some(entry) => entry.gate.clone(),
            None => return number, // it was not asked for
        };
        let (out, queue) = mpsc::channel(OUT_QUEUE);
        self.open.insert(number, Open { key: key.clone(), out });
        drop(task::spawn(stream::run(number, stream, gate, queue, self.events.clone())));
        number
    }

    /// What the handles and receivers have left.
    fn take_work(&mut self) {
        let work = self.hub.take_work();
        // Taken before stopped: that counts.
        let mailboxes = self.started.iter();
        let taken: Vec<(Key, u64)> = mailboxes
            .flat_map(|(protocol, mailbox)| {
                let taken = mailbox.drain_taken().into_iter();
                taken.map(|(peer, number)| ((peer, protocol.clone()), number))
            })
            .collect();
        for (key, number) in taken {
            self.with(&key, |link| link.taken(number));
        }
        if let Some(started) = work.started {
            self.restart(started);
        }
        for send in work.sends {
            self.send(send);
        }
        for seq in work.cancelled {
            // Its outcome was on its way, if there is none.
            let Some(waiter) = self.waiters.remove(&seq) else { continue };
            self.hub.sent(waiter.bytes);
            self.with(&waiter.key, |link| link.cancel(seq));
        }
    }

    fn send(&mut self, send: NewSend) {
        let (now, bytes) = (self.now(), send.value.size());
        let busy = |what, limit| Err(DirectError::Busy { what, limit });
        let Some(key) = self.link(send.peer, &send.protocol) else {
            self.hub.sent(bytes);
            let _ = send.reply.send(busy("peers and protocols in use", MAX_LINKS));
            return;
        };
        let waiter = Waiter { key: key.clone(), bytes, reply: send.reply };
        self.waiters.insert(send.seq, waiter);
        let mut queued = false;
        self.with(&key, |link| queued = link.send(send.seq, &send.value, now));
        if !queued && let Some(waiter) = self.waiters.remove(&send.seq) {
            self.hub.sent(bytes);
            let _ = waiter.reply.send(busy("messages waiting for one peer", MAX_QUEUED));
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        self.due = None;
        let due = |entry: &Entry| entry.link.deadline().is_some_and(|at| at <= now);
        let keys: Vec<Key> =
            self.links.iter().filter(|(_, entry)| due(entry)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.with(&key, |link| link.tick(now));
        }
        self.due = self.links.values().filter_map(|entry| entry.link.deadline()).min();
    }

    /// Early is no matter; and the timer stays as it is while what it waits for is the same: setting
    /// one costs a call into the browser.
    fn set_timer(&mut self) {
        if self.due != self.timer.as_ref().map(|(at, _)| *at) {
            let sleep = |at| (at, Box::pin(time::sleep_until(self.began + at)));
            self.timer = self.due.map(sleep);
        }
    }
}

fn mailbox<'a>(
    started: &'a [(Arc<str>, Arc<Mailbox>)],
    protocol: &str,
) -> Option<&'a Arc<Mailbox>> {
    let found = started.iter().find(|(name, _)| **name == *protocol);
    found.map(|(_, mailbox)| mailbox)
}

fn failure(error: &NetworkError) -> Failure {
    match error {
        NetworkError::UnsupportedProtocol { .. } => Failure::Unsupported,
        error => Failure::Unreachable { reason: error.to_string() },
    }
}

fn error(key: &Key, given_up: GivenUp) -> DirectError {
    let (peer, protocol, attempts) = (key.0, key.1.to_string(), given_up.attempts);
    match given_up.why {
        Failure::Unreachable { reason } => {
            DirectError::Unreachable { peer, protocol, attempts, reason }
        }
        Failure::Unsupported => DirectError::Unsupported { peer, protocol },
        Failure::Unacknowledged => DirectError::Unacknowledged { peer, protocol, attempts },
    }
}
