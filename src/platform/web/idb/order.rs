//! The order of calls while values are on their way to a segment: the batch that they belong to starts
//! its transaction only when they are there, and what was called after it must not come first.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
};

use bytes::Bytes;

use crate::platform::database::{Op, Table};

type Start = Box<dyn FnOnce()>;

/// The calls that wait; they start in their order. Bounded by what its callers have under way.
#[derive(Default)]
pub struct Order {
    waiting: RefCell<VecDeque<Turn>>,
    last: Cell<u64>,
}

struct Turn {
    number: u64,
    tables: Vec<Table>,
    /// What it writes, in whichever of its tables.
    keys: BTreeSet<Bytes>,
    /// `None` while its values are on their way.
    start: Option<Start>,
}

/// A place in the order that was taken by [`Order::hold`].
#[derive(Debug)]
pub struct Held(u64);

impl Order {
    /// Takes a place for a batch that cannot start yet.
    pub fn hold(&self, batch: &[Op]) -> Held {
        Held(self.push(batch, None))
    }

    /// The batch that holds the place can start.
    pub fn release(&self, held: Held, start: impl FnOnce() + 'static) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(turn) = waiting.iter_mut().find(|turn| turn.number == held.0) {
            turn.start = Some(Box::new(start));
        }
        drop(waiting);
        while let Some(start) = self.next() {
            start();
        }
    }

    /// Starts what writes `batch`, nothing for a read: now, or after all that waits.
    pub fn start(&self, batch: &[Op], start: impl FnOnce() + 'static) {
        if self.waiting.borrow().is_empty() {
            start();
        } else {
            self.push(batch, Some(Box::new(start)));
        }
    }

    /// Whether what waits may write any of `keys`.
    pub fn writes_any(&self, table: Table, keys: &[Bytes]) -> bool {
        let waiting = self.waiting.borrow();
        let mut turns = waiting.iter().filter(|turn| turn.tables.contains(&table));
        turns.any(|turn| keys.iter().any(|key| turn.keys.contains(key)))
    }

    /// Whether what waits writes anything in `table`.
    pub fn writes_to(&self, table: Table) -> bool {
        self.waiting.borrow().iter().any(|turn| turn.tables.contains(&table))
    }

    fn push(&self, batch: &[Op], start: Option<Start>) -> u64 {
        let number = self.last.get() + 1;
        self.last.set(number);
        let mut turn = Turn { number, tables: Vec::new(), keys: BTreeSet::new(), start };
        for op in batch.iter().filter(|op| !matches!(op, Op::Expect { .. })) {
            if !turn.tables.contains(&op.table()) {
                turn.tables.push(op.table());
            }
            turn.keys.insert(op.key().clone());
        }
        self.waiting.borrow_mut().push_back(turn);
        number
    }

    fn next(&self) -> Option<Start> {
        let mut waiting = self.waiting.borrow_mut();
        let start = waiting.front_mut()?.start.take()?;
        waiting.pop_front();
        Some(start)
    }
}
