//! What came in: the messages that wait to be taken, and the memory of those that were.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::outbox::parse_id;
use crate::messaging::direct::{MAX_UNTAKEN, MAX_UNTAKEN_BYTES, REMEMBERED_IDS, value::Value};

#[derive(Default)]
pub(super) struct Inbox {
    untaken: VecDeque<Untaken>,
    bytes: usize,
    numbers: u64,
    /// Hashes of the ids taken last. That two of one sender meet by chance is out of the question,
    /// and who makes them meet loses a message of his own.
    taken: VecDeque<u64>,
    /// The last taken of those whose id tells the order.
    last: Option<(u64, u64)>,
}

struct Untaken {
    number: u64,
    id: String,
    /// Which brought it last.
    stream: u64,
    size: usize,
}

pub(super) enum Arrival {
    New {
        number: u64,
    },
    /// It was taken before: the ack was lost.
    Taken {
        id: String,
    },
    /// It waits already, or was given up by its sender before a later one came.
    Again,
    TooMuch,
}

impl Inbox {
    pub(super) fn arrived(&mut self, stream: u64, id: String, value: &Value) -> Arrival {
        if self.taken.contains(&hash(&id)) {
            return Arrival::Taken { id };
        }
        if let Some(untaken) = self.untaken.iter_mut().find(|untaken| untaken.id == id) {
            untaken.stream = stream;
            return Arrival::Again;
        }
        let last = self.untaken.back().and_then(|untaken| parse_id(&untaken.id)).or(self.last);
        if let (Some((epoch, seq)), Some((last_epoch, last_seq))) = (parse_id(&id), last)
            && epoch == last_epoch
            && seq <= last_seq
        {
            return Arrival::Again;
        }
        let size = value.size();
        let full = self.untaken.len() >= MAX_UNTAKEN || self.bytes + size > MAX_UNTAKEN_BYTES;
        if full {
            return Arrival::TooMuch;
        }
        self.bytes += size;
        self.numbers += 1;
        let number = self.numbers;
        self.untaken.push_back(Untaken { number, id, stream, size });
        Arrival::New { number }
    }

    /// Its id and the stream that brought it. They are taken in order.
    pub(super) fn taken(&mut self, number: u64) -> Option<(String, u64)> {
        let at = self.untaken.iter().position(|untaken| untaken.number == number)?;
        let untaken = self.untaken.remove(at)?;
        self.bytes -= untaken.size;
        if self.taken.len() >= REMEMBERED_IDS {
            self.taken.pop_front();
        }
        self.taken.push_back(hash(&untaken.id));
        self.last = parse_id(&untaken.id).or(self.last);
        Some((untaken.id, untaken.stream))
    }

    pub(super) fn forget_untaken(&mut self) {
        self.untaken.clear();
        self.bytes = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.untaken.is_empty()
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
