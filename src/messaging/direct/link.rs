//! The messages between this peer and one other under one protocol: what to send when, on which
//! stream, what to make of what comes. Pure: events and the time in, [`Step`]s out.
//!
//! Messages go out on a stream of our own, several ahead of their acks. When it breaks, or the oldest
//! of them is not acknowledged in time, the stream is given up and everything unacknowledged is sent
//! again in order on a new one. So every stream carries messages without a gap, from one on whose
//! predecessors were all dealt with, and a receiver that takes each id once gets them in order from
//! however many streams. It must then not skip a message either: one that it cannot take ends the
//! stream that brought it, and so all that follows there.

mod inbox;
mod outbox;
#[cfg(test)]
mod simulation;
mod step;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub(super) use self::step::{Failure, GivenUp, Step};
use self::{
    inbox::{Arrival, Inbox},
    outbox::Outbox,
};
use super::{
    ACK_TIMEOUT, BACKOFF, IDLE_TIMEOUT, INBOUND_IDLE_TIMEOUT, MAX_ATTEMPTS, MAX_INBOUND_STREAMS,
    NUDGE_SPACING, frame::Frame, value::Value,
};
use crate::platform::time::Duration;

pub(super) struct Link {
    outbox: Outbox,
    path: Path,
    /// Attempts in a row that came to nothing.
    attempts: u32,
    /// The last messages were given up, and nothing was heard since: the next have one attempt.
    unreachable: bool,
    /// Streams that the other side opened, the oldest first.
    theirs: VecDeque<Theirs>,
    /// Whether the protocol is started here.
    accepting: bool,
    inbox: Inbox,
    steps: VecDeque<Step>,
}

/// The way out.
enum Path {
    None,
    Opening,
    Open(Ours),
    Backoff { until: Duration, soonest: Duration, why: Failure },
}

struct Ours {
    stream: u64,
    /// Something was acknowledged that went over it.
    proven: bool,
    /// When something last passed on it.
    active: Duration,
    /// When it last was seen that the messages on it make headway.
    progress: Duration,
}

struct Theirs {
    stream: u64,
    active: Duration,
}

impl Link {
    /// `epoch` is another one for each run of this peer.
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            outbox: Outbox::new(epoch),
            path: Path::None,
            attempts: 0,
            unreachable: false,
            theirs: VecDeque::new(),
            accepting: false,
            inbox: Inbox::default(),
            steps: VecDeque::new(),
        }
    }

    pub(super) fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Sends a message; [`Step::Done`] says what became of it. `seq` is above all before. `false`:
    /// too many wait.
    pub(super) fn send(&mut self, seq: u64, value: &Value, now: Duration) -> bool {
        let taken = self.outbox.push(seq, value);
        if taken {
            self.pump(now);
        }
        taken
    }

    /// Nobody waits for this message any more: it is not sent if it was not yet, and not again.
    pub(super) fn cancel(&mut self, seq: u64) {
        self.outbox.cancel(seq);
        self.rest_if_done();
    }

    pub(super) fn opened(&mut self, stream: u64, now: Duration) {
        if !matches!(self.path, Path::Opening) {
            return self.steps.push_back(Step::Reset { stream });
        }
        self.path = Path::Open(Ours { stream, proven: false, active: now, progress: now });
        self.pump(now);
    }

    pub(super) fn open_failed(&mut self, why: Failure, now: Duration) {
        if matches!(self.path, Path::Opening) {
            self.fail(why, now);
        }
    }

    /// The other side has opened a stream.
    pub(super) fn accepted(&mut self, stream: u64, now: Duration) {
        if !self.accepting {
            return self.steps.push_back(Step::Reset { stream });
        }
        self.theirs.push_back(Theirs { stream, active: now });
        if self.theirs.len() > MAX_INBOUND_STREAMS
            && let Some(oldest) = self.theirs.pop_front()
        {
            self.steps.push_back(Step::Reset { stream: oldest.stream });
        }
        self.heard(now);
    }

    /// The message is out of our hands.
    pub(super) fn written(&mut self, stream: u64, seq: u64, now: Duration) {
        if let Path::Open(ours) = &mut self.path
            && ours.stream == stream
        {
            ours.active = now;
            self.outbox.written(seq, now);
        }
    }

    pub(super) fn frame(&mut self, stream: u64, frame: Frame, now: Duration) {
        self.heard(now);
        match frame {
            Frame::Ack { id } => self.acked(stream, &id, now),
            Frame::Data { id, value } => self.data(stream, id, value, now),
        }
    }

    /// The stream has ended, was broken or refused.
    pub(super) fn ended(&mut self, stream: u64, now: Duration) {
        self.theirs.retain(|theirs| theirs.stream != stream);
        if let Path::Open(ours) = &self.path
            && ours.stream == stream
        {
            let proven = ours.proven;
            self.path = Path::None;
            if proven && self.outbox.is_under_way() {
                // It was good once; that the next is no better remains to be seen.
                self.outbox.rewind();
                self.pump(now);
            } else if self.outbox.is_under_way() {
                self.fail(Failure::Unreachable { reason: "the stream broke".to_owned() }, now);
            }
        }
    }

    /// The other side has sign of life: what waits because it could not be reached waits no longer.
    pub(super) fn heard(&mut self, now: Duration) {
        self.unreachable = false;
        if let Path::Backoff { until, soonest, why: Failure::Unreachable { .. } } = &mut self.path {
            *until = (*until).min((*soonest).max(now));
        }
    }

    /// The other side has connected: nothing that was found out before needs to be so now.
    pub(super) fn connected(&mut self, now: Duration) {
        self.unreachable = false;
        if let Path::Backoff { until, soonest, .. } = &mut self.path {
            *until = (*until).min((*soonest).max(now));
        }
    }

    /// A message that was delivered is with the app now.
    pub(super) fn taken(&mut self, number: u64) {
        let Some((id, stream)) = self.inbox.taken(number) else { return };
        let ours = match &self.path {
            Path::Open(ours) => Some(ours.stream),
            _ => None,
        };
        let theirs = self.theirs.iter().map(|theirs| theirs.stream).rev();
        let streams: Vec<u64> = theirs.chain(ours).collect();
        // Where it came from, or where it is heard as well. If nowhere, the sender asks again.
        let back = streams.iter().find(|open| **open == stream).or(streams.first());
        if let Some(stream) = back.copied() {
            self.steps.push_back(Step::WriteAck { stream, id });
        }
    }

    /// The protocol is started here.
    pub(super) fn start(&mut self) {
        self.accepting = true;
    }

    /// The protocol is stopped here. What was delivered and not taken was never received.
    pub(super) fn stop(&mut self) {
        self.accepting = false;
        self.inbox.forget_untaken();
        let theirs = self.theirs.drain(..);
        self.steps.extend(theirs.map(|theirs| Step::Reset { stream: theirs.stream }));
    }

    /// There is no room for what this stream brought.
    pub(super) fn refuse(&mut self, stream: u64, now: Duration) {
        self.steps.push_back(Step::Reset { stream });
        self.ended(stream, now);
    }

    /// Nothing is under way, either way: only the memory of what was would be lost with it.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.path, Path::None)
            && self.theirs.is_empty()
            && self.outbox.is_empty()
            && self.inbox.is_empty()
    }

    /// To have [`heard`](Self::heard) something would make a difference.
    pub(super) fn is_troubled(&self) -> bool {
        self.unreachable || matches!(self.path, Path::Backoff { .. })
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let own = match &self.path {
            Path::None | Path::Opening => None,
            Path::Backoff { until, .. } => Some(*until),
            Path::Open(ours) if self.outbox.is_under_way() => self.ack_deadline(ours),
            Path::Open(ours) => Some(ours.active + IDLE_TIMEOUT),
        };
        let theirs = self.theirs.iter().map(|theirs| theirs.active + INBOUND_IDLE_TIMEOUT);
        own.into_iter().chain(theirs).min()
    }

    pub(super) fn tick(&mut self, now: Duration) {
        let idle = |theirs: &Theirs| theirs.active + INBOUND_IDLE_TIMEOUT <= now;
        let idle: Vec<u64> = self.theirs.iter().filter(|t| idle(t)).map(|t| t.stream).collect();
        for stream in idle {
            self.theirs.retain(|theirs| theirs.stream != stream);
            self.steps.push_back(Step::Close { stream });
        }
        match &self.path {
            Path::Backoff { until, .. } if *until <= now => {
                self.path = Path::None;
                self.pump(now);
            }
            Path::Open(ours) if self.outbox.is_under_way() => {
                let late = self.ack_deadline(ours).is_some_and(|at| at <= now);
                let stream = ours.stream;
                if late {
                    self.steps.push_back(Step::Reset { stream });
                    self.fail(Failure::Unacknowledged, now);
                }
            }
            Path::Open(ours) if ours.active + IDLE_TIMEOUT <= now => {
                self.steps.push_back(Step::Close { stream: ours.stream });
                self.path = Path::None;
            }
            _ => {}
        }
    }

    /// Until when the oldest message under way must be acknowledged, once it is written.
    fn ack_deadline(&self, ours: &Ours) -> Option<Duration> {
        self.outbox.oldest_written().map(|at| at.max(ours.progress) + ACK_TIMEOUT)
    }

    /// Sends what may be sent now.
    fn pump(&mut self, now: Duration) {
        match &mut self.path {
            Path::None if !self.outbox.is_empty() => {
                self.path = Path::Opening;
                self.steps.push_back(Step::Open);
            }
            Path::Open(ours) => {
                while let Some((seq, frame)) = self.outbox.next() {
                    ours.active = now;
                    self.steps.push_back(Step::WriteData { stream: ours.stream, seq, frame });
                }
            }
            _ => {}
        }
    }

    /// An attempt came to nothing; there is no stream now.
    fn fail(&mut self, why: Failure, now: Duration) {
        self.path = Path::None;
        self.outbox.rewind();
        if self.outbox.is_empty() {
            self.attempts = 0;
            return;
        }
        self.attempts += 1;
        let wait = BACKOFF.get(self.attempts as usize - 1).copied();
        match wait {
            Some(wait) if self.attempts < MAX_ATTEMPTS && !self.unreachable => {
                let soonest = now + NUDGE_SPACING;
                self.path = Path::Backoff { until: now + wait, soonest, why };
            }
            _ => self.give_up(why),
        }
    }

    fn give_up(&mut self, why: Failure) {
        let given_up = GivenUp { why, attempts: self.attempts };
        for seq in self.outbox.clear() {
            self.steps.push_back(Step::Done { seq, outcome: Err(given_up.clone()) });
        }
        (self.attempts, self.unreachable) = (0, true);
    }

    fn acked(&mut self, stream: u64, id: &str, now: Duration) {
        // One that was never sent cannot have been received: the ack is forged.
        let Some(acked) = self.outbox.acked(id) else { return };
        self.attempts = 0;
        if let Path::Open(ours) = &mut self.path {
            (ours.active, ours.progress) = (now, now);
            ours.proven |= acked.under_way && ours.stream == stream;
        }
        if let Some(theirs) = self.theirs.iter_mut().find(|theirs| theirs.stream == stream) {
            theirs.active = now;
        }
        if !acked.cancelled {
            self.steps.push_back(Step::Done { seq: acked.seq, outcome: Ok(()) });
        }
        self.rest_if_done();
        self.pump(now);
    }

    fn rest_if_done(&mut self) {
        if self.outbox.is_empty() && matches!(self.path, Path::Backoff { .. }) {
            self.path = Path::None;
            self.attempts = 0;
        }
    }

    fn data(&mut self, stream: u64, id: String, value: Value, now: Duration) {
        let theirs = self.theirs.iter_mut().find(|theirs| theirs.stream == stream);
        match (theirs, &mut self.path) {
            (Some(theirs), _) => theirs.active = now,
            (None, Path::Open(ours)) if ours.stream == stream => ours.active = now,
            // What a stream brings after it was given up is not received: see above.
            _ => return,
        }
        if !self.accepting {
            return self.refuse(stream, now);
        }
        match self.inbox.arrived(stream, id, &value) {
            Arrival::New { number } => self.steps.push_back(Step::Deliver { number, value }),
            Arrival::Taken { id } => self.steps.push_back(Step::WriteAck { stream, id }),
            Arrival::Again => {}
            Arrival::TooMuch => self.refuse(stream, now),
        }
    }
}
