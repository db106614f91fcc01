//! A [`Batch`] in one readwrite transaction: first all questions (what [`Op::Expect`] compares, which
//! keys of large values exist), then all writes, then one wait for the commit.

use web_sys::{IdbObjectStore, IdbRequest};

use super::{
    Connection, error, js_bytes,
    transaction::{Mode, Transaction, existed, result},
    value::{bytes, with_value},
};
use crate::platform::database::{Batch, DatabaseError, DatabaseResult, Op, Table};

/// From this size on, a value is sent to the browser only after its key was found absent, if the
/// batch before this one met keys that exist (a file stored again). Otherwise, and below this size,
/// the write is issued at once and fails where the key exists: asking first would leave the browser
/// idle for a round trip in every batch.
const ASK_FIRST: usize = 32 << 10;

pub struct Write {
    transaction: Transaction,
    stage: Stage,
    /// The browser stores blobs.
    blobs: bool,
    /// Whether there are large values among the conditional ones.
    large: bool,
}

/// What a batch that is done says.
pub struct Written {
    /// For each [`Op::PutNew`], whether it wrote.
    pub new: Vec<bool>,
    /// Whether keys of large values existed; `None` if there were no such values.
    pub met_existing: Option<bool>,
}

enum Stage {
    Asked(Vec<(Op, Option<IdbRequest>)>),
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
    pub fn begin(connection: &Connection, batch: Batch, ask: bool) -> DatabaseResult<Self> {
        let mut tables: Vec<Table> = batch.iter().map(Op::table).collect();
        tables.sort_unstable();
        tables.dedup();
        let transaction = connection.start(tables, Mode::Write)?;
        let large = batch.iter().any(is_large);
        let blobs = connection.blobs.get();
        match first_stage(&transaction, batch, ask, blobs) {
            Ok(stage) => Ok(Self { transaction, stage, blobs, large }),
            Err(error) => {
                // Or it would commit what was issued before the failure.
                transaction.abort();
                Err(error)
            }
        }
    }

    pub async fn finish(self) -> DatabaseResult<Written> {
        let Self { mut transaction, stage, blobs, large } = self;
        let outcomes = match stage {
            Stage::Issued(outcomes) => outcomes,
            Stage::Asked(asked) => {
                if let Some(last) = asked.iter().rev().find_map(|(_, question)| question.as_ref()) {
                    transaction.answered(last).await?;
                }
                match issue(&transaction, asked, blobs) {
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
        let new: Vec<bool> = outcomes.iter().map(wrote).collect();
        let met_existing = large.then(|| new.contains(&false));
        Ok(Written { new, met_existing })
    }
}

fn is_large(op: &Op) -> bool {
    matches!(op, Op::PutNew { value, .. } if value.len() >= ASK_FIRST)
}

fn first_stage(
    transaction: &Transaction,
    batch: Batch,
    ask: bool,
    blobs: bool,
) -> DatabaseResult<Stage> {
    let mut asked = Vec::with_capacity(batch.len());
    for op in batch {
        let question = question(transaction, &op, ask)?;
        asked.push((op, question));
    }
    match asked.iter().any(|(_, question)| question.is_some()) {
        true => Ok(Stage::Asked(asked)),
        false => issue(transaction, asked, blobs).map(Stage::Issued),
    }
}

fn question(transaction: &Transaction, op: &Op, ask: bool) -> DatabaseResult<Option<IdbRequest>> {
    let ask: fn(&IdbObjectStore, &_) -> _ = match op {
        Op::Expect { .. } => IdbObjectStore::get,
        Op::PutNew { .. } if ask && is_large(op) => IdbObjectStore::get_key,
        _ => return Ok(None),
    };
    let store = transaction.table(op.table())?;
    ask(&store, &js_bytes(op.key())).map(Some).map_err(|thrown| error::from_js(&thrown))
}

/// Issues the writes; the questions have been answered.
fn issue(
    transaction: &Transaction,
    asked: Vec<(Op, Option<IdbRequest>)>,
    blobs: bool,
) -> DatabaseResult<Vec<Outcome>> {
    for (op, question) in &asked {
        if let (Op::Expect { value, .. }, Some(question)) = (op, question) {
            let found = result(question)?.map(|value| bytes(&value)).transpose()?;
            if found != *value {
                return Err(DatabaseError::Conflict);
            }
        }
    }
    let mut outcomes = Vec::new();
    for (op, question) in asked {
        let store = transaction.table(op.table())?;
        let key = js_bytes(op.key());
        // Only a block is read where there is time to wait for a blob.
        let blobs = blobs && op.table() == Table::Blocks;
        let issued = match op {
            Op::Expect { .. } => continue,
            Op::Delete { .. } => store.delete(&key),
            Op::Put { value, .. } => {
                with_value(&value, blobs, |value| store.put_with_key(value, &key))
            }
            Op::PutNew { value, .. } => match question {
                Some(question) if result(&question)?.is_some() => {
                    outcomes.push(Outcome::Existed);
                    continue;
                }
                Some(_) => {
                    outcomes.push(Outcome::Put);
                    with_value(&value, blobs, |value| store.put_with_key(value, &key))
                }
                None => {
                    let added = with_value(&value, blobs, |value| store.add_with_key(value, &key));
                    outcomes.extend(added.iter().cloned().map(Outcome::Added));
                    added
                }
            },
        };
        issued.map_err(|thrown| error::from_js(&thrown))?;
    }
    Ok(outcomes)
}
