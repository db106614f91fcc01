//! The network of the simulation: streams that keep their order, each with a delay of its own; they
//! are cut, stall, lose acks; connections go and come back; pages are reloaded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    super::{Failure, Link, Step},
    trouble::Trouble,
};
use crate::{
    messaging::direct::{MAX_UNTAKEN, frame::Frame, value::Value},
    platform::time::Duration,
    random::Random,
};

/// Within this time the messages are sent and the trouble happens.
const SPAN: u64 = 60_000;

pub struct Node {
    pub link: Link,
    epoch: u64,
    started: bool,
    /// Delivered, not taken.
    mailbox: VecDeque<(u64, Value)>,
    /// Of this life, without an outcome.
    pub waiting: BTreeSet<u64>,
    pub acknowledged: BTreeSet<u64>,
    pub failed: Vec<(u64, Failure)>,
    /// What was taken in each life: the sender's epoch and the number.
    pub taken: Vec<Vec<(u64, u64)>>,
}

struct Stream {
    ends: [usize; 2],
    alive: bool,
    stalled: bool,
    /// When the last thing sent to each end arrives.
    last: [Duration; 2],
    delay: u64,
}

enum Event {
    Arrive { stream: u64, at: usize, frame: Frame },
    Opened { at: usize, epoch: u64 },
    Accepted { stream: u64, at: usize, epoch: u64 },
    Written { stream: u64, at: usize, seq: u64 },
    Ended { stream: u64, at: usize, epoch: u64 },
    Take { at: usize },
    Send { at: usize },
    Cut { stall: bool },
    Connected { yes: bool },
    Reload { at: usize },
    Started { at: usize, yes: bool },
    Spurious { at: usize },
}

pub struct World {
    pub nodes: [Node; 2],
    trouble: Trouble,
    random: Random,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    seqs: u64,
    streams: BTreeMap<u64, Stream>,
    connected: bool,
    cuts: Vec<Duration>,
}

impl World {
    pub fn new(seed: u64, trouble: Trouble) -> Self {
        let node = |epoch| Node {
            link: started_link(epoch),
            epoch,
            started: true,
            mailbox: VecDeque::new(),
            waiting: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            failed: Vec::new(),
            taken: vec![Vec::new()],
        };
        Self {
            nodes: [node(1), node(2)],
            trouble,
            random: Random(seed),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            count: 2,
            seqs: 0,
            streams: BTreeMap::new(),
            connected: true,
            cuts: Vec::new(),
        }
    }

    /// Whether so many streams were cut in so short a time that a message may have been lost to it.
    pub fn cut_in_a_row(&self) -> bool {
        let close =
            |three: &[Duration]| matches!(three, [a, _, c] if *c - *a < Duration::from_secs(8));
        self.cuts.windows(3).any(close)
    }

    pub fn run(&mut self, messages: usize, patience: Duration) {
        self.plan(messages);
        let end = Duration::from_millis(SPAN) + patience;
        while self.now < end {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timers = self.nodes.iter().filter_map(|node| node.link.deadline());
            let timer = timers.min().map(|at| at.max(self.now));
            match (event, timer) {
                (None, None) => break,
                (Some(event), timer) if timer.is_none_or(|timer| event <= timer) => {
                    self.now = event;
                    if let Some((_, event)) = self.events.pop_first() {
                        self.happen(event);
                    }
                }
                (_, Some(timer)) => {
                    self.now = timer;
                    let now = self.now;
                    self.nodes.iter_mut().for_each(|node| node.link.tick(now));
                }
                (Some(_), None) => unreachable!("an event comes first then"),
            }
            self.perform();
        }
    }

    fn plan(&mut self, messages: usize) {
        // In bursts: several are under way at once.
        let mut burst = 0;
        for _ in 0..messages {
            if self.random.chance(20) {
                burst = self.random.below(SPAN);
            }
            let (jitter, at) = (self.random.below(50), self.random.below(2) as usize);
            self.at(burst + jitter, Event::Send { at });
        }
        for _ in 0..self.trouble.cuts + self.trouble.stalls {
            let when = self.random.below(SPAN);
            self.at(when, Event::Cut { stall: false });
        }
        for _ in 0..self.trouble.stalls {
            let when = self.random.below(SPAN);
            self.at(when, Event::Cut { stall: true });
        }
        for _ in 0..self.trouble.outages {
            let when = self.random.below(SPAN);
            let back = when + self.random.below(12_000);
            self.at(when, Event::Connected { yes: false });
            self.at(back, Event::Connected { yes: true });
        }
        for _ in 0..self.trouble.reloads {
            let (when, at) = (self.random.below(SPAN), self.random.below(2) as usize);
            let back = when + self.random.below(5000);
            self.at(when, Event::Reload { at });
            self.at(back, Event::Connected { yes: true });
        }
        for _ in 0..self.trouble.stops {
            let (when, at) = (self.random.below(SPAN), self.random.below(2) as usize);
            let back = when + self.random.below(8000);
            self.at(when, Event::Started { at, yes: false });
            self.at(back, Event::Started { at, yes: true });
        }
        for _ in 0..self.trouble.spurious_streams {
            let (when, at) = (self.random.below(SPAN), self.random.below(2) as usize);
            self.at(when, Event::Spurious { at });
        }
    }

    fn at(&mut self, millis: u64, event: Event) {
        self.schedule(Duration::from_millis(millis), event);
    }

    fn schedule(&mut self, when: Duration, event: Event) {
        self.count += 1;
        self.events.insert((when.max(self.now), self.count), event);
    }

    fn soon(&mut self, within: u64, event: Event) {
        let delay = Duration::from_millis(self.random.below(within));
        self.schedule(self.now + delay, event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Arrive { stream, at, frame } => {
                if self.streams.get(&stream).is_some_and(|stream| stream.alive) {
                    self.nodes[at].link.frame(stream, frame, now);
                }
            }
            Event::Opened { at, epoch } => {
                if self.nodes[at].epoch == epoch {
                    self.open(at);
                }
            }
            Event::Accepted { stream, at, epoch } => {
                if self.nodes[at].epoch == epoch {
                    self.nodes[at].link.accepted(stream, now);
                }
            }
            Event::Written { stream, at, seq } => self.nodes[at].link.written(stream, seq, now),
            Event::Ended { stream, at, epoch } => {
                if self.nodes[at].epoch == epoch {
                    self.nodes[at].link.ended(stream, now);
                }
            }
            Event::Take { at } => self.take(at),
            Event::Send { at } => {
                self.seqs += 1;
                let (node, seq) = (&mut self.nodes[at], self.seqs);
                let value = Value::Json(format!("[{},{seq}]", node.epoch));
                if node.link.send(seq, &value, now) {
                    node.waiting.insert(seq);
                }
            }
            Event::Cut { stall } => {
                let alive: Vec<u64> =
                    self.streams.iter().filter(|(_, s)| s.alive).map(|(id, _)| *id).collect();
                let which = self.random.below(alive.len() as u64) as usize;
                let Some(stream) = alive.get(which).copied() else { return };
                self.cuts.push(now);
                if stall && let Some(stream) = self.streams.get_mut(&stream) {
                    stream.stalled = true;
                } else {
                    self.cut(stream);
                }
            }
            Event::Connected { yes: false } => self.disconnect(),
            Event::Connected { yes: true } => {
                if !std::mem::replace(&mut self.connected, true) {
                    self.nodes.iter_mut().for_each(|node| node.link.connected(now));
                }
            }
            Event::Reload { at } => {
                self.disconnect();
                self.count += 1;
                let (node, epoch) = (&mut self.nodes[at], self.count);
                (node.link, node.epoch, node.started) = (started_link(epoch), epoch, true);
                node.mailbox.clear();
                node.waiting.clear();
                node.taken.push(Vec::new());
            }
            Event::Started { at, yes } => {
                let node = &mut self.nodes[at];
                if node.started != yes {
                    node.started = yes;
                    if yes {
                        node.link.start();
                    } else {
                        node.link.stop();
                        node.mailbox.clear();
                    }
                }
            }
            Event::Spurious { at } => {
                if self.connected && self.nodes[1 - at].started {
                    let stream = self.new_stream(1 - at);
                    self.soon(20, Event::Accepted { stream, at, epoch: self.nodes[at].epoch });
                }
            }
        }
    }

    fn take(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some((number, value)) = node.mailbox.pop_front() else { return };
        let Value::Json(text) = value else { panic!("sent as JSON") };
        let sent: (u64, u64) = serde_json::from_str(&text).expect("as it was sent");
        if let Some(life) = node.taken.last_mut() {
            life.push(sent);
        }
        node.link.taken(number);
    }

    fn open(&mut self, at: usize) {
        let (now, other) = (self.now, 1 - at);
        if !self.connected {
            let why = Failure::Unreachable { reason: "not connected".to_owned() };
            self.nodes[at].link.open_failed(why, now);
        } else if !self.nodes[other].started {
            self.nodes[at].link.open_failed(Failure::Unsupported, now);
        } else {
            let stream = self.new_stream(at);
            self.nodes[at].link.opened(stream, now);
            let when = self.arrival(stream, other);
            let epoch = self.nodes[other].epoch;
            self.schedule(when, Event::Accepted { stream, at: other, epoch });
        }
    }

    fn new_stream(&mut self, opener: usize) -> u64 {
        self.count += 1;
        let delay = if self.random.chance(10) { 3000 } else { 1 + self.random.below(100) };
        let ends = [opener, 1 - opener];
        let last = [Duration::ZERO; 2];
        let stream = Stream { ends, alive: true, stalled: false, last, delay };
        self.streams.insert(self.count, stream);
        self.count
    }

    /// When something sent now arrives at `at`: not before what was sent before.
    fn arrival(&mut self, stream: u64, at: usize) -> Duration {
        let Some(stream) = self.streams.get_mut(&stream) else { return self.now };
        let delay = Duration::from_millis(self.random.below(stream.delay));
        stream.last[at] = stream.last[at].max(self.now + delay);
        stream.last[at]
    }

    /// Both ends notice, and what is under way is lost.
    fn cut(&mut self, stream: u64) {
        let Some(cut) = self.streams.get_mut(&stream) else { return };
        cut.alive = false;
        for at in cut.ends {
            let epoch = self.nodes[at].epoch;
            self.soon(300, Event::Ended { stream, at, epoch });
        }
    }

    fn disconnect(&mut self) {
        self.connected = false;
        let alive: Vec<u64> =
            self.streams.iter().filter(|(_, s)| s.alive).map(|(id, _)| *id).collect();
        alive.into_iter().for_each(|stream| self.cut(stream));
    }

    fn perform(&mut self) {
        for at in 0..2 {
            while let Some(step) = self.nodes[at].link.next_step() {
                self.step(at, step);
            }
            assert!(self.nodes[at].mailbox.len() <= MAX_UNTAKEN);
        }
    }

    fn step(&mut self, at: usize, step: Step) {
        match step {
            Step::Open => self.soon(200, Event::Opened { at, epoch: self.nodes[at].epoch }),
            Step::WriteData { stream, seq, frame } => {
                let frame = Frame::decode(&frame[4..]).expect("a frame");
                self.write(at, stream, frame);
                if self.streams.get(&stream).is_some_and(|stream| !stream.stalled) {
                    self.soon(5, Event::Written { stream, at, seq });
                } else {
                    // The first bytes still go into a buffer.
                    self.schedule(self.now, Event::Written { stream, at, seq });
                }
            }
            Step::WriteAck { stream, id } => {
                if !self.random.chance(self.trouble.lost_acks) {
                    self.write(at, stream, Frame::Ack { id });
                }
            }
            Step::Close { stream } | Step::Reset { stream } => {
                // What was sent before arrives before the end does.
                let other = 1 - at;
                let (when, epoch) = (self.arrival(stream, other), self.nodes[other].epoch);
                self.schedule(when, Event::Ended { stream, at: other, epoch });
            }
            Step::Deliver { number, value } => {
                self.nodes[at].mailbox.push_back((number, value));
                self.soon(self.trouble.slow_app, Event::Take { at });
            }
            Step::Done { seq, outcome } => {
                let node = &mut self.nodes[at];
                assert!(node.waiting.remove(&seq), "{seq} has two outcomes");
                match outcome {
                    Ok(()) => drop(node.acknowledged.insert(seq)),
                    Err(given_up) => node.failed.push((seq, given_up.why)),
                }
            }
        }
    }

    fn write(&mut self, at: usize, stream: u64, frame: Frame) {
        if self.streams.get(&stream).is_some_and(|stream| stream.alive && !stream.stalled) {
            let (to, when) = (1 - at, self.arrival(stream, 1 - at));
            self.schedule(when, Event::Arrive { stream, at: to, frame });
        }
    }
}

fn started_link(epoch: u64) -> Link {
    let mut link = Link::new(epoch);
    link.start();
    link
}
