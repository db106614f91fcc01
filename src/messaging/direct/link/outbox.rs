//! Messages on their way out, in order: those under way on the stream of the moment, then the rest.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    messaging::direct::{
        MAX_QUEUED, MAX_QUEUED_BYTES, WINDOW, WINDOW_BYTES, frame::encode_data, value::Value,
    },
    platform::time::Duration,
};

pub(super) struct Outbox {
    epoch: u64,
    queue: VecDeque<Outgoing>,
    /// Bytes of all frames.
    bytes: usize,
    /// So many from the front are under way, with so many bytes.
    under_way: usize,
    under_way_bytes: usize,
}

struct Outgoing {
    seq: u64,
    frame: Bytes,
    /// It was under way at some time: the other side may have it.
    sent: bool,
    /// When it was written on the stream of the moment.
    written: Option<Duration>,
    cancelled: bool,
}

/// A message that was acknowledged.
pub(super) struct Acked {
    pub seq: u64,
    pub cancelled: bool,
    /// On the stream of the moment.
    pub under_way: bool,
}

/// The id of a message. Its receiver learns the order from it, if it knows how: one that comes after
/// a later one was given up in between.
pub(super) fn id_of(epoch: u64, seq: u64) -> String {
    format!("{epoch:016x}.{seq}")
}

/// The opposite; `None` for an id that others made their own way.
pub(super) fn parse_id(id: &str) -> Option<(u64, u64)> {
    let (epoch, seq) = id.split_once('.')?;
    let plain = seq.bytes().all(|b| b.is_ascii_digit()) && (seq == "0" || !seq.starts_with('0'));
    let hex = epoch.len() == 16 && epoch.bytes().all(|b| b.is_ascii_hexdigit());
    (hex && plain).then_some(())?;
    Some((u64::from_str_radix(epoch, 16).ok()?, seq.parse().ok()?))
}

impl Outbox {
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, queue: VecDeque::new(), bytes: 0, under_way: 0, under_way_bytes: 0 }
    }

    /// Whether there was room.
    pub(super) fn push(&mut self, seq: u64, value: &Value) -> bool {
        if self.queue.len() >= MAX_QUEUED {
            return false;
        }
        let frame = encode_data(&id_of(self.epoch, seq), value);
        if !self.queue.is_empty() && self.bytes + frame.len() > MAX_QUEUED_BYTES {
            return false;
        }
        self.bytes += frame.len();
        self.queue.push_back(Outgoing { seq, frame, sent: false, written: None, cancelled: false });
        true
    }

    /// One that was sent stays until it is known what became of it: its place counts.
    pub(super) fn cancel(&mut self, seq: u64) {
        let Some(at) = self.queue.iter().position(|out| out.seq == seq) else { return };
        if at >= self.under_way {
            self.remove(at);
        } else if let Some(out) = self.queue.get_mut(at) {
            out.cancelled = true;
        }
    }

    /// The next that may be under way now.
    pub(super) fn next(&mut self) -> Option<(u64, Bytes)> {
        let full = self.under_way >= WINDOW;
        let out = self.queue.get_mut(self.under_way).filter(|_| !full)?;
        let bytes = self.under_way_bytes + out.frame.len();
        if self.under_way > 0 && bytes > WINDOW_BYTES {
            return None;
        }
        out.sent = true;
        self.under_way += 1;
        self.under_way_bytes = bytes;
        Some((out.seq, out.frame.clone()))
    }

    pub(super) fn written(&mut self, seq: u64, now: Duration) {
        let mut under_way = self.queue.iter_mut().take(self.under_way);
        if let Some(out) = under_way.find(|out| out.seq == seq) {
            out.written.get_or_insert(now);
        }
    }

    /// When the oldest under way was written.
    pub(super) fn oldest_written(&self) -> Option<Duration> {
        self.queue.front().filter(|_| self.under_way > 0)?.written
    }

    pub(super) fn acked(&mut self, id: &str) -> Option<Acked> {
        let (epoch, seq) = parse_id(id)?;
        let at = self.queue.iter().position(|out| out.seq == seq && out.sent)?;
        let under_way = at < self.under_way;
        let out = (epoch == self.epoch).then(|| self.remove(at)).flatten()?;
        Some(Acked { seq, cancelled: out.cancelled, under_way })
    }

    /// The stream of the moment is gone: nothing is under way.
    pub(super) fn rewind(&mut self) {
        (self.under_way, self.under_way_bytes) = (0, 0);
        self.queue.retain(|out| !out.cancelled);
        self.queue.iter_mut().for_each(|out| out.written = None);
        self.bytes = self.queue.iter().map(|out| out.frame.len()).sum();
    }

    /// Gives up all.
    pub(super) fn clear(&mut self) -> Vec<u64> {
        self.rewind();
        self.bytes = 0;
        self.queue.drain(..).map(|out| out.seq).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    fn remove(&mut self, at: usize) -> Option<Outgoing> {
        let out = self.queue.remove(at)?;
        self.bytes -= out.frame.len();
        if at < self.under_way {
            self.under_way -= 1;
            self.under_way_bytes -= out.frame.len();
        }
        Some(out)
    }
}
