//! One fetch from one gateway: which blocks are waited for from the CAR, which are asked for alone.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use cid::Cid;
use futures::StreamExt as _;

use super::{
    AHEAD_OVERHEAD, CAR_PATIENCE, MANY, MAX_AHEAD, MAX_FAILURES, MAX_OUT_OF_STEP, MAX_RAW_REQUESTS,
    MAX_RETRIES, MAX_SKIPPED, MAX_USELESS, RETRY_DELAY,
    car::{self, FromCar},
    raw::{self, Fault},
    url::GatewayUrl,
};
use crate::boxmap::{BoxMap, BoxSet};
use crate::{
    content::block::{Block, RAW},
    exchange::fetch::source::{SourceEvent, SourceSession},
    platform::{
        BoxFuture, BoxStream,
        time::{self, Duration, Instant, Sleep},
    },
};

pub(super) struct Session {
    url: GatewayUrl,
    root: Cid,
    /// Wanted and not asked for alone, in the order of the wants.
    waiting: VecDeque<Cid>,
    raws: Vec<Raw>,
    car: Car,
    ahead: Ahead,
    /// What the CAR may still bring though nobody needs it any more.
    skip: BoxSet<Cid>,
    /// Until when no single block is asked for, because the gateway said so.
    pause: Option<Pin<Box<Sleep>>>,
    /// Requests that failed since one was answered.
    failures: u32,
    events: VecDeque<SourceEvent>,
    ended: bool,
    waker: Option<Waker>,
}

/// A single block that is asked for.
struct Raw {
    cid: Cid,
    tries: u32,
    work: BoxFuture<Result<Block, Fault>>,
}

enum Car {
    /// Not asked for yet.
    Possible,
    Reading(Box<Reading>),
    /// Read to its end, given up, or of no use to this root.
    Over,
}

struct Reading {
    blocks: BoxStream<Result<FromCar, Fault>>,
    /// When it last brought something wanted, and the timer that looks after that.
    useful: Instant,
    check: Pin<Box<Sleep>>,
    useless: usize,
    out_of_step: u32,
}

/// Blocks that came before they were wanted.
#[derive(Default)]
struct Ahead {
    blocks: BoxMap<Cid, Block>,
    bytes: usize,
}

impl Session {
    pub(super) fn new(url: GatewayUrl, root: Cid) -> Self {
        Self {
            url,
            root,
            waiting: VecDeque::new(),
            raws: Vec::new(),
            // Of a single block, a CAR is no shorter way.
            car: if root.codec() == RAW { Car::Over } else { Car::Possible },
            ahead: Ahead::default(),
            skip: BoxSet::new(),
            pause: None,
            failures: 0,
            events: VecDeque::new(),
            ended: false,
            waker: None,
        }
    }

    /// Asks for what can be asked for now; whether there was anything.
    fn start(&mut self) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        if matches!(self.car, Car::Possible)
            && (self.waiting.contains(&self.root) || self.waiting.len() >= MANY)
        {
            self.car = Car::Reading(Box::new(Reading::new(&self.url, &self.root)));
            return true;
        }
        let car_may_bring_it = matches!(self.car, Car::Reading(_)) && !self.ahead.is_full();
        if car_may_bring_it || self.pause.is_some() || self.raws.len() >= MAX_RAW_REQUESTS {
            return false;
        }
        let Some(cid) = self.waiting.pop_front() else { return false };
        self.ask(cid, 0, Duration::ZERO);
        if let Car::Reading(reading) = &mut self.car {
            self.skip.insert(cid);
            reading.out_of_step += 1;
            if reading.out_of_step > MAX_OUT_OF_STEP || self.skip.len() > MAX_SKIPPED {
                self.give_up_car();
            }
        }
        true
    }

    fn ask(&mut self, cid: Cid, tries: u32, delay: Duration) {
        let work = Box::pin(raw::fetch(self.url.clone(), cid, delay));
        self.raws.push(Raw { cid, tries, work });
    }

    fn poll_car(&mut self, cx: &mut Context<'_>) -> bool {
        let Car::Reading(reading) = &mut self.car else { return false };
        if !self.ahead.is_full() {
            match reading.blocks.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(from_car))) => {
                    self.car_brought(from_car);
                    return true;
                }
                Poll::Ready(Some(Err(fault))) => {
                    self.car_failed(fault);
                    return true;
                }
                Poll::Ready(None) => {
                    self.end_car();
                    return true;
                }
                Poll::Pending => {}
            }
        }
        if self.waiting.is_empty() {
            reading.useful = Instant::now();
        }
        if reading.check.as_mut().poll(cx).is_ready() {
            let idle = reading.useful.elapsed();
            match CAR_PATIENCE.checked_sub(idle).filter(|left| !left.is_zero()) {
                Some(left) => reading.check = Box::pin(time::sleep(left)),
                None => self.give_up_car(),
            }
            return true;
        }
        false
    }

    fn car_brought(&mut self, from_car: FromCar) {
        let Car::Reading(reading) = &mut self.car else { return };
        let block = match from_car {
            FromCar::Block(block) => block,
            FromCar::Useless(len) => return self.useless(len),
        };
        self.failures = 0;
        let cid = *block.cid();
        let waited = remove(&mut self.waiting, &cid);
        let asked = self.raws.iter().position(|raw| raw.cid == cid);
        if waited || asked.is_some() {
            (reading.useless, reading.out_of_step) = (0, 0);
            reading.useful = Instant::now();
            asked.map(|at| self.raws.remove(at));
            self.events.push_back(SourceEvent::Block { block, from: None });
        } else if self.skip.remove(&cid) || self.ahead.blocks.contains_key(&cid) {
            self.useless(block.data().len());
        } else {
            self.ahead.put(block);
        }
    }

    fn useless(&mut self, len: usize) {
        if let Car::Reading(reading) = &mut self.car {
            reading.useless += len + AHEAD_OVERHEAD;
            if reading.useless > MAX_USELESS {
                self.give_up_car();
            }
        }
    }

    fn car_failed(&mut self, fault: Fault) {
        self.end_car();
        match fault {
            Fault::Useless(reason) => self.fail(reason),
            Fault::Busy { pause, .. } => self.pause = Some(Box::pin(time::sleep(pause))),
            Fault::Broken(reason) => self.failed(&reason),
            // Not every gateway makes CARs.
            Fault::Missing(_) => {}
        }
    }

    fn end_car(&mut self) {
        self.car = Car::Over;
        self.skip.clear();
    }

    /// What was read ahead was of no use so far, so there is little hope for it.
    fn give_up_car(&mut self) {
        self.end_car();
        self.ahead = Ahead::default();
    }

    fn poll_raws(&mut self, cx: &mut Context<'_>) -> bool {
        let done = self.raws.iter_mut().enumerate().find_map(|(at, raw)| {
            match raw.work.as_mut().poll(cx) {
                Poll::Ready(result) => Some((at, result)),
                Poll::Pending => None,
            }
        });
        let Some((at, result)) = done else { return false };
        let Raw { cid, tries, .. } = self.raws.swap_remove(at);
        match result {
            Ok(block) => {
                self.failures = 0;
                self.events.push_back(SourceEvent::Block { block, from: None });
            }
            Err(Fault::Useless(reason)) => self.fail(reason),
            Err(Fault::Missing(reason)) => {
                self.failures = 0;
                self.missing(cid, reason);
            }
            Err(fault) => {
                let broken = matches!(fault, Fault::Broken(_));
                if broken {
                    self.failed(fault.reason());
                }
                if self.ended {
                    return true;
                }
                if tries >= MAX_RETRIES {
                    self.missing(cid, fault.reason().to_owned());
                } else {
                    let mut delay = RETRY_DELAY * 2u32.pow(tries);
                    if let Fault::Busy { pause, .. } = fault {
                        self.pause = Some(Box::pin(time::sleep(pause)));
                        delay = pause;
                    }
                    self.ask(cid, tries + 1, delay);
                }
            }
        }
        true
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> bool {
        let over = self.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_ready());
        if over {
            self.pause = None;
        }
        over
    }

    fn missing(&mut self, cid: Cid, reason: String) {
        self.events.push_back(SourceEvent::Missing { cids: vec![cid], reason });
    }

    /// A request that may do better another time.
    fn failed(&mut self, reason: &str) {
        self.failures += 1;
        if self.failures >= MAX_FAILURES {
            self.fail(reason.to_owned());
        }
    }

    /// Ends the session.
    fn fail(&mut self, reason: String) {
        self.events.push_back(SourceEvent::Failed { reason });
        self.ended = true;
        self.waiting.clear();
        self.raws.clear();
        self.give_up_car();
    }
}

impl SourceSession for Session {
    fn want(&mut self, cids: &[Cid]) {
        for cid in cids {
            if self.ended || self.raws.iter().any(|raw| raw.cid == *cid) {
                continue;
            }
            if let Some(block) = self.ahead.take(cid) {
                if let Car::Reading(reading) = &mut self.car {
                    (reading.useless, reading.out_of_step) = (0, 0);
                    reading.useful = Instant::now();
                }
                self.events.push_back(SourceEvent::Block { block, from: None });
            } else if !self.waiting.contains(cid) {
                self.skip.remove(cid);
                if let (true, Car::Reading(reading)) = (self.waiting.is_empty(), &mut self.car) {
                    reading.useful = Instant::now();
                }
                self.waiting.push_back(*cid);
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn cancel(&mut self, cids: &[Cid]) {
        for cid in cids {
            remove(&mut self.waiting, cid);
            self.raws.retain(|raw| raw.cid != *cid);
            self.ahead.take(cid);
            if matches!(self.car, Car::Reading(_)) {
                self.skip.insert(*cid);
            }
        }
        if self.skip.len() > MAX_SKIPPED {
            self.give_up_car();
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SourceEvent>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let more = self.start()
                | self.poll_pause(cx)
                | self.poll_car(cx)
                | (!self.ended && self.poll_raws(cx));
            if !more {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    }
}

impl Reading {
    fn new(url: &GatewayUrl, root: &Cid) -> Self {
        Self {
            blocks: car::blocks(url, root),
            useful: Instant::now(),
            check: Box::pin(time::sleep(CAR_PATIENCE)),
            useless: 0,
            out_of_step: 0,
        }
    }
}

impl Ahead {
    fn is_full(&self) -> bool {
        self.bytes >= MAX_AHEAD
    }

    fn put(&mut self, block: Block) {
        self.bytes += block.data().len() + AHEAD_OVERHEAD;
        self.blocks.insert(*block.cid(), block);
    }

    fn take(&mut self, cid: &Cid) -> Option<Block> {
        let block = self.blocks.remove(cid)?;
        self.bytes -= block.data().len() + AHEAD_OVERHEAD;
        Some(block)
    }
}

fn remove(queue: &mut VecDeque<Cid>, cid: &Cid) -> bool {
    let at = queue.iter().position(|waiting| waiting == cid);
    at.and_then(|at| queue.remove(at)).is_some()
}
