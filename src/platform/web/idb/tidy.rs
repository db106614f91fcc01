//! Giving back the space of values that no row names any more. A segment with none that is named is
//! deleted; from one that is mostly dead, what lives moves to where values are appended now.
//!
//! Looked at are segments that have lost a value, one that is full, and, when the database is opened,
//! those without any row, the newest, and one at random: what was not finished before comes up again.
//! Nothing here is needed for what is stored to be right: a crash at any moment leaves files too many,
//! never rows without their bytes.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{IdbCursor, IdbCursorDirection, IdbIndex, IdbRequest};

use super::{
    connection::Connection,
    error, js_bytes,
    transaction::{Mode, Transaction, result},
    value::{SEGMENT, place_of, place_row},
};
use crate::platform::{
    database::{DatabaseError, DatabaseResult, Table},
    web::{
        random,
        segments::{Place, Segments},
    },
};

/// Of the bytes of a segment that must live for it to stay as it is: one in this many.
const LIVE_SHARE: u64 = 2;

/// What is on its way into segments, and which of them are to be looked at.
#[derive(Default)]
pub struct Ledger {
    /// Appends that the worker has not answered.
    unanswered: Cell<usize>,
    /// The segments with values whose rows are not written yet, each once for every batch: a few.
    unnamed: RefCell<Vec<u32>>,
    /// The highest segment that there is.
    newest: Cell<u32>,
    /// Nothing is appended to this segment any more, though it be the newest.
    sealed: Cell<u32>,
    suspects: RefCell<Vec<u32>>,
    tidying: Cell<bool>,
}

/// While this lives, no segment is taken away that it has values in.
pub struct Unnamed {
    connection: Rc<Connection>,
    segments: Vec<u32>,
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        let ledger = &self.connection.ledger;
        let mut unnamed = ledger.unnamed.borrow_mut();
        for segment in &self.segments {
            if let Some(at) = unnamed.iter().position(|unnamed| unnamed == segment) {
                unnamed.swap_remove(at);
            }
        }
        drop(unnamed);
        if ledger.is_quiet() {
            self.connection.tidy([]);
        }
    }
}

impl Ledger {
    fn is_quiet(&self) -> bool {
        self.unanswered.get() == 0 && self.unnamed.borrow().is_empty()
    }

    fn suspect(&self, segments: impl IntoIterator<Item = u32>) {
        let mut suspects = self.suspects.borrow_mut();
        for segment in segments {
            if !suspects.contains(&segment) {
                suspects.push(segment);
            }
        }
    }

    /// Whether `segment` has no other values, and gets none, than those that rows name now. Seals it
    /// if nothing is on its way to it.
    fn settle(&self, segments: &Segments, segment: u32) -> bool {
        if segment != self.newest.get() || segment == self.sealed.get() {
            return !self.unnamed.borrow().contains(&segment);
        }
        let quiet = self.is_quiet();
        if quiet {
            segments.seal(segment);
            self.sealed.set(segment);
        }
        quiet
    }
}

impl Connection {
    /// What `append`, a call of the worker, put where.
    pub async fn appended<T>(
        self: &Rc<Self>,
        append: impl Future<Output = DatabaseResult<Vec<T>>>,
        place: impl Fn(&T) -> Option<Place>,
    ) -> DatabaseResult<(Vec<T>, Unnamed)> {
        let ledger = &self.ledger;
        ledger.unanswered.update(|count| count + 1);
        let appended = append.await;
        ledger.unanswered.update(|count| count - 1);
        let places = appended?;
        let mut segments = Vec::new();
        for segment in places.iter().filter_map(|it| Some(place(it)?.segment)) {
            if segments.contains(&segment) {
                continue;
            }
            segments.push(segment);
            ledger.unnamed.borrow_mut().push(segment);
            let full = ledger.newest.get();
            if segment > full {
                ledger.newest.set(segment);
                ledger.suspect((full > 0).then_some(full));
            }
        }
        Ok((places, Unnamed { connection: self.clone(), segments }))
    }

    /// Looks, in the background, at `suspects` and at those that could not be dealt with before.
    pub fn tidy(self: &Rc<Self>, suspects: impl IntoIterator<Item = u32>) {
        let ledger = &self.ledger;
        ledger.suspect(suspects);
        if ledger.suspects.borrow().is_empty() || self.segments().is_none() || ledger.tidying.get()
        {
            return;
        }
        ledger.tidying.set(true);
        let connection = self.clone();
        spawn_local(async move {
            // What had to wait may not have to any more.
            while connection.tidy_all().await && connection.ledger.is_quiet() {}
            connection.ledger.tidying.set(false);
        });
    }

    /// The worker is there, with these segments; which of them are in use, the rows say.
    pub async fn sweep(self: &Rc<Self>, there: Vec<u32>) -> DatabaseResult<()> {
        self.ledger.newest.set(there.iter().copied().max().unwrap_or_default());
        if there.is_empty() {
            return Ok(());
        }
        let mut transaction = self.start([Table::Blocks], Mode::Read)?;
        let index = index(&transaction)?;
        let ask = |segment: &u32| index.get_key(&(*segment).into());
        let requests = issued(there.iter().map(ask))?;
        answered(&mut transaction, &requests).await?;
        let any = random::<4>().map_or(0, u32::from_ne_bytes) as usize % there.len();
        let mut suspects = vec![self.ledger.newest.get(), there[any]];
        for (segment, request) in there.into_iter().zip(&requests) {
            if result(request)?.is_none() {
                suspects.push(segment);
            }
        }
        self.tidy(suspects);
        Ok(())
    }

    /// The highest segment that a row names; 0 if none does.
    pub async fn highest_named(&self) -> DatabaseResult<u32> {
        let mut transaction = self.start([Table::Blocks], Mode::Read)?;
        let cursor = index(&transaction)?
            .open_key_cursor_with_range_and_direction(&JsValue::NULL, IdbCursorDirection::Prev);
        let request = cursor.map_err(|thrown| error::from_js(&thrown))?;
        transaction.answered(&request).await?;
        let cursor = result(&request)?.and_then(|cursor| cursor.dyn_into::<IdbCursor>().ok());
        let key = cursor.and_then(|cursor| cursor.key().ok()?.as_f64());
        Ok(key.unwrap_or_default() as u32)
    }

    /// Whether any had to wait until nothing is on its way.
    async fn tidy_all(self: &Rc<Self>) -> bool {
        let (mut later, mut waits) = (Vec::new(), false);
        loop {
            let suspect = self.ledger.suspects.borrow_mut().pop();
            let (Some(segment), Some(segments)) = (suspect, self.segments()) else { break };
            match self.tidy_one(&segments, segment).await {
                Ok(true) => {}
                Ok(false) => {
                    later.push(segment);
                    waits = true;
                }
                // There may be room after the next removal.
                Err(DatabaseError::QuotaExceeded) => later.push(segment),
                Err(error) => tracing::warn!(%error, segment, "space was not given back"),
            }
        }
        self.ledger.suspect(later);
        waits
    }

    /// `false` if it has to wait.
    async fn tidy_one(self: &Rc<Self>, segments: &Segments, segment: u32) -> DatabaseResult<bool> {
        let named = self.named(segment).await?;
        let live: u64 = named.iter().map(|(_, place)| u64::from(place.length)).sum();
        if live > 0 && live * LIVE_SHARE >= segments.size(segment).await? {
            return Ok(true);
        }
        if !self.ledger.settle(segments, segment) {
            return Ok(false);
        }
        // Now that it gets no more.
        let named = self.named(segment).await?;
        if self.move_out(segments, named).await? {
            segments.remove(segment).await?;
        }
        Ok(true)
    }

    /// The keys of the rows that name a place in `segment`, with the place.
    async fn named(&self, segment: u32) -> DatabaseResult<Vec<(JsValue, Place)>> {
        let mut transaction = self.start([Table::Blocks], Mode::Read)?;
        let index = index(&transaction)?;
        let only = JsValue::from(segment);
        let requests = issued(
            [index.get_all_keys_with_key(&only), index.get_all_with_key(&only)].into_iter(),
        )?;
        answered(&mut transaction, &requests).await?;
        let [keys, rows] = [&requests[0], &requests[1]].map(result);
        let (keys, rows) = (keys?.unwrap_or_default(), rows?.unwrap_or_default());
        let places = Array::from(&rows);
        let places = places.iter().map(|row| place_of(&row));
        Ok(Array::from(&keys)
            .iter()
            .zip(places)
            .filter_map(|(key, row)| Some((key, row?)))
            .collect())
    }

    /// Moves the values of `named` and has their rows say so, unless a row has changed meanwhile; sees to
    /// it that this, and what was written before, is on the disk: after a power cut no row may name what
    /// is removed next. Whether all could be read.
    async fn move_out(
        self: &Rc<Self>,
        segments: &Segments,
        named: Vec<(JsValue, Place)>,
    ) -> DatabaseResult<bool> {
        let places: Vec<Place> = named.iter().map(|(_, place)| *place).collect();
        let (moved, _unnamed) = match places.is_empty() {
            true => (Vec::new(), None),
            false => {
                let copied = self.appended(segments.copy(&places), |place| *place).await?;
                (copied.0, Some(copied.1))
            }
        };
        let mut transaction = self.start([Table::Blocks], Mode::WriteThrough)?;
        let store = transaction.table(Table::Blocks)?;
        let requests = issued(named.iter().map(|(key, _)| store.get(key)))?;
        answered(&mut transaction, &requests).await?;
        // Something has to be written for the browser to write anything through.
        store.delete(&js_bytes(b"")).map_err(|thrown| error::from_js(&thrown))?;
        let mut all = true;
        for (((key, old), new), request) in named.iter().zip(moved).zip(&requests) {
            if result(request)?.and_then(|row| place_of(&row)) != Some(*old) {
                continue;
            }
            match new {
                Some(new) => {
                    let put = store.put_with_key(&place_row(key, new)?, key);
                    put.map_err(|thrown| error::from_js(&thrown))?;
                }
                None => all = false,
            }
        }
        transaction.complete().await?;
        Ok(all)
    }
}

fn index(transaction: &Transaction) -> DatabaseResult<IdbIndex> {
    let index = transaction.table(Table::Blocks)?.index(SEGMENT);
    index.map_err(|thrown| error::from_js(&thrown))
}

fn issued(
    requests: impl Iterator<Item = Result<IdbRequest, JsValue>>,
) -> DatabaseResult<Vec<IdbRequest>> {
    requests.map(|request| request.map_err(|thrown| error::from_js(&thrown))).collect()
}

async fn answered(transaction: &mut Transaction, requests: &[IdbRequest]) -> DatabaseResult<()> {
    match requests.last() {
        Some(last) => transaction.answered(last).await,
        None => Ok(()),
    }
}
