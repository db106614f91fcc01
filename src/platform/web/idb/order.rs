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
    /// `None` until it can start: its values are on their way.
    start: Option<Start>,
}

/// A place in the order that was taken by [`Order::hold`].
#[derive(Debug)]
pub struct Held(u64);

impl Order {
    pub fn is_idle(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Takes a place for what writes `batch`, or, if that is empty, reads.
    pub fn hold(&self, batch: &[Op]) -> Held {
        let number = self.last.get() + 1;
        self.last.set(number);
        let mut turn = Turn { number, tables: Vec::new(), keys: BTreeSet::new(), start: None };
        for op in batch.iter().filter(|op| !matches!(op, Op::Expect { .. })) {
            if !turn.tables.contains(&op.table()) {
                turn.tables.push(op.table());
            }
            turn.keys.insert(op.key().clone());
        }
        self.waiting.borrow_mut().push_back(turn);
        Held(number)
    }

    /// What holds the place can start: now, or after all before it.
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

    fn next(&self) -> Option<Start> {
        let mut waiting = self.waiting.borrow_mut();
        let start = waiting.front_mut()?.start.take()?;
        waiting.pop_front();
        Some(start)
    }
}
