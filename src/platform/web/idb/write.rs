//! A [`Batch`]: large values are appended to a segment first, as far as they are new; then all is one
//! readwrite transaction: first the questions (what [`Op::Expect`] compares, which keys of large values
//! exist), then all writes, then one wait for the commit.

use std::rc::Rc;

use bytes::Bytes;
use futures::{channel::oneshot, future};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;
use web_sys::{IdbObjectStore, IdbRequest};

use super::{
    connection::Connection,
    error, js_bytes,
    tidy::Unnamed,
    transaction::{Mode, Transaction, existed, result},
    value::{KEY, bytes, place_of, place_row, with_array},
};
use crate::platform::{
    BoxFuture,
    database::{Batch, DatabaseError, DatabaseResult, Op, Table},
    web::segments::{MAX_VALUE, Place, Segments},
};

/// From this size on, a value goes into a segment: below it, browsers keep values in the database
/// itself.
const PLACE_FROM: usize = 64 << 10;
/// From this size on, a value is sent to the browser only after its key was found absent. Below it, the
/// write is issued at once and fails where the key exists: asking first would leave the browser idle
/// for a round trip in every batch.
const ASK_FIRST: usize = 32 << 10;

type Reply = oneshot::Sender<DatabaseResult<Vec<bool>>>;

/// Starts the batch as soon as the order of calls allows.
pub fn start(connection: &Rc<Connection>, batch: Batch, reply: Reply) {
    let held = connection.clone();
    let may_be_there = connection.present.add_all(&batch);
    if connection.may_have_segments() && batch.iter().any(is_placed) {
        let turn = connection.order.hold(&batch);
        spawn_local(async move {
            let placed = match held.soon_segments().await {
                Some(segments) => place(&held, &segments, batch, &may_be_there).await,
                None => Ok(Placed::nowhere(batch)),
            };
            let connection = held.clone();
            held.order.release(turn, move || run(connection, placed, reply));
        });
    } else {
        let turn = (!connection.order.is_idle()).then(|| connection.order.hold(&batch));
        let start = move || run(held, Ok(Placed::nowhere(batch)), reply);
        match turn {
            Some(turn) => connection.order.release(turn, start),
            None => start(),
        }
    }
}

/// A batch whose large values have their places.
struct Placed {
    steps: Vec<Step>,
    unnamed: Option<Unnamed>,
}

impl Placed {
    /// All values go into the database.
    fn nowhere(batch: Batch) -> Self {
        let steps = batch.into_iter().map(|op| Step { op, place: None }).collect();
        Self { steps, unnamed: None }
    }
}

struct Step {
    op: Op,
    /// Where the value is already.
    place: Option<Place>,
}

fn is_placed(op: &Op) -> bool {
    match op {
        Op::Put { table: Table::Blocks, value, .. }
        | Op::PutNew { table: Table::Blocks, value, .. } => {
            (PLACE_FROM..=MAX_VALUE).contains(&value.len())
        }
        _ => false,
    }
}

/// Appends what is large and not there yet. `may_be_there`: for each step.
async fn place(
    connection: &Rc<Connection>,
    segments: &Segments,
    batch: Batch,
    may_be_there: &[bool],
) -> DatabaseResult<Placed> {
    let is_unsure = |(op, may_be_there): &(&Op, &bool)| {
        **may_be_there && is_placed(op) && matches!(op, Op::PutNew { .. })
    };
    let unsure = batch.iter().zip(may_be_there).filter(is_unsure);
    let unsure: Vec<Bytes> = unsure.map(|(op, _)| op.key().clone()).collect();
    let mut there = connection.has_each(Table::Blocks, &unsure).await?.into_iter();
    let (mut large, mut values) = (Vec::new(), Vec::new());
    for (at, step) in batch.iter().zip(may_be_there).enumerate() {
        let value = match step.0 {
            op if !is_placed(op) => continue,
            _ if is_unsure(&step) && there.next() == Some(true) => continue,
            Op::Put { value, .. } | Op::PutNew { value, .. } => value,
            _ => continue,
        };
        large.push(at);
        values.push(value.clone());
    }
    let mut placed = Placed::nowhere(batch);
    if values.is_empty() {
        return Ok(placed);
    }
    match connection.appended(segments.append(&values), |place| Some(*place)).await {
        Ok((places, unnamed)) => {
            for (at, place) in large.into_iter().zip(places) {
                placed.steps[at].place = Some(place);
            }
            placed.unnamed = Some(unnamed);
        }
        Err(DatabaseError::QuotaExceeded) => return Err(DatabaseError::QuotaExceeded),
        Err(error) => tracing::warn!(%error, "no segment takes values; they go into the database"),
    }
    Ok(placed)
}

/// Starts the transaction now, and answers when it is done.
fn run(connection: Rc<Connection>, placed: DatabaseResult<Placed>, reply: Reply) {
    let begun = placed.and_then(|placed| {
        let left = left(&connection, &placed.steps);
        Ok((Write::begin(&connection, placed.steps)?, left, placed.unnamed))
    });
    // A task of its own: the microtask queue polls it, which `answered` needs, and a caller that goes
    // away in the middle does not leave the batch half issued.
    spawn_local(async move {
        let done = match begun {
            Ok((write, left, unnamed)) => {
                let (done, left) = future::join(write.finish(), left).await;
                drop(unnamed);
                if let Ok(left) = left {
                    let segment = |row: IdbRequest| Some(place_of(&result(&row).ok()??)?.segment);
                    connection.tidy(left.into_iter().flatten().filter_map(segment));
                }
                done
            }
            Err(error) => Err(error),
        };
        let _ = reply.send(done.map_err(|error| connection.explain(error)));
    });
}

/// The rows of those that may lose a value by these steps, asked for in a transaction of its own before.
fn left(
    connection: &Rc<Connection>,
    steps: &[Step],
) -> BoxFuture<DatabaseResult<Vec<Option<IdbRequest>>>> {
    let loses = |op: &Op| {
        matches!(op, Op::Put { table: Table::Blocks, .. } | Op::Delete { table: Table::Blocks, .. })
    };
    let ops = steps.iter().map(|step| &step.op);
    let keys: Vec<Bytes> = match connection.segments() {
        Some(_) => ops.filter(|op| loses(op)).map(|op| op.key().clone()).collect(),
        None => Vec::new(),
    };
    connection.ask_each(Table::Blocks, &keys, |blocks, key| blocks.index(KEY)?.get(key))
}

struct Write {
    transaction: Transaction,
    stage: Stage,
}

enum Stage {
    Asked(Vec<(Step, Option<IdbRequest>)>),
    Issued(Vec<Outcome>),
}

/// What became of one [`Op::PutNew`].
enum Outcome {
    Existed,
    Put,
    Added(IdbRequest),
}

impl Write {
    /// Starts the transaction, so that this batch comes before all that is asked for later.
    fn begin(connection: &Connection, batch: Vec<Step>) -> DatabaseResult<Self> {
        let mut tables: Vec<Table> = batch.iter().map(|step| step.op.table()).collect();
        tables.sort_unstable();
        tables.dedup();
        let transaction = connection.start(tables, Mode::Write)?;
        match first_stage(&transaction, batch) {
            Ok(stage) => Ok(Self { transaction, stage }),
            Err(error) => {
                // Or it would commit what was issued before the failure.
                transaction.abort();
                Err(error)
            }
        }
    }

    /// For each [`Op::PutNew`], whether it wrote.
    async fn finish(self) -> DatabaseResult<Vec<bool>> {
        let Self { mut transaction, stage } = self;
        let outcomes = match stage {
            Stage::Issued(outcomes) => outcomes,
            Stage::Asked(asked) => {
                if let Some(last) = asked.iter().rev().find_map(|(_, question)| question.as_ref()) {
                    transaction.answered(last).await?;
                }
                match issue(&transaction, asked) {
                    Ok(outcomes) => outcomes,
                    Err(error) => {
                        transaction.aborted().await;
                        return Err(error);
                    }
                }
            }
        };
        transaction.complete().await?;
        let wrote = |outcome: &Outcome| match outcome {
            Outcome::Existed => false,
            Outcome::Put => true,
            Outcome::Added(request) => !existed(request),
        };
        Ok(outcomes.iter().map(wrote).collect())
    }
}

fn first_stage(transaction: &Transaction, batch: Vec<Step>) -> DatabaseResult<Stage> {
    let mut asked = Vec::with_capacity(batch.len());
    for step in batch {
        let question = question(transaction, &step)?;
        asked.push((step, question));
    }
    match asked.iter().any(|(_, question)| question.is_some()) {
        true => Ok(Stage::Asked(asked)),
        false => issue(transaction, asked).map(Stage::Issued),
    }
}

fn question(transaction: &Transaction, step: &Step) -> DatabaseResult<Option<IdbRequest>> {
    let ask: fn(&IdbObjectStore, &_) -> _ = match &step.op {
        Op::Expect { .. } => IdbObjectStore::get,
        Op::PutNew { value, .. } if value.len() >= ASK_FIRST && step.place.is_none() => {
            IdbObjectStore::get_key
        }
        _ => return Ok(None),
    };
    let store = transaction.table(step.op.table())?;
    ask(&store, &js_bytes(step.op.key())).map(Some).map_err(|thrown| error::from_js(&thrown))
}

/// Issues the writes; the questions have been answered.
fn issue(
    transaction: &Transaction,
    asked: Vec<(Step, Option<IdbRequest>)>,
) -> DatabaseResult<Vec<Outcome>> {
    for (step, question) in &asked {
        if let (Op::Expect { value, .. }, Some(question)) = (&step.op, question) {
            // What is not here to be compared is not what was expected.
            let same = match (result(question)?, value) {
                (Some(found), Some(value)) => bytes(&found).is_ok_and(|found| found == *value),
                (found, value) => found.is_none() && value.is_none(),
            };
            if !same {
                return Err(DatabaseError::Conflict);
            }
        }
    }
    let mut outcomes = Vec::new();
    for (Step { op, place }, question) in asked {
        let store = transaction.table(op.table())?;
        let key = js_bytes(op.key());
        let request = match op {
            Op::Expect { .. } => continue,
            Op::Delete { .. } => store.delete(&key),
            Op::Put { value, .. } => {
                with_row(&key, &value, place, |row| store.put_with_key(row, &key))?
            }
            Op::PutNew { value, .. } => match question {
                Some(question) if result(&question)?.is_some() => {
                    outcomes.push(Outcome::Existed);
                    continue;
                }
                Some(_) => {
                    outcomes.push(Outcome::Put);
                    with_row(&key, &value, place, |row| store.put_with_key(row, &key))?
                }
                None => {
                    let added = with_row(&key, &value, place, |row| store.add_with_key(row, &key))?;
                    outcomes.extend(added.iter().cloned().map(Outcome::Added));
                    added
                }
            },
        };
        request.map_err(|thrown| error::from_js(&thrown))?;
    }
    Ok(outcomes)
}

fn with_row<T>(
    key: &JsValue,
    value: &[u8],
    place: Option<Place>,
    issue: impl FnOnce(&JsValue) -> T,
) -> DatabaseResult<T> {
    match place {
        Some(place) => Ok(issue(&place_row(key, place)?)),
        None => Ok(with_array(value, issue)),
    }
}
