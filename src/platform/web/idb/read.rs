//! From the rows that were found to the values, wherever their bytes are.

use std::rc::Rc;

use bytes::Bytes;
use web_sys::{IdbObjectStore, IdbRequest};

use super::{connection::Connection, value::Row};
use crate::platform::{
    BoxFuture,
    database::{DatabaseResult, Table},
    web::segments::{Place, read_files},
};

/// The values of `keys`. Their rows are asked for when this returns. A value whose bytes are lost is empty.
pub fn values(
    connection: &Rc<Connection>,
    table: Table,
    keys: Vec<Bytes>,
) -> BoxFuture<DatabaseResult<Vec<Option<Bytes>>>> {
    let connection = connection.clone();
    let mut rows = connection.ask_each(table, &keys, IdbObjectStore::get);
    Box::pin(async move {
        let mut values = vec![None; keys.len()];
        // Which values are missing, and where they were not.
        let mut missing: Vec<(usize, Option<Source>)> =
            (0..keys.len()).map(|at| (at, None)).collect();
        while !missing.is_empty() {
            let mut placed = Vec::new();
            let found = |row: &Option<IdbRequest>| match row {
                Some(row) => Row::found(row),
                None => Ok(None),
            };
            // All at once: the bytes of some start to be read by this.
            let found: Vec<_> = rows.await?.iter().map(found).collect::<DatabaseResult<_>>()?;
            for ((at, before), row) in missing.drain(..).zip(found) {
                match row {
                    None => {}
                    Some(Row::Value(value)) => values[at] = Some(value.bytes().await?),
                    Some(Row::Place(place)) => placed.push((at, before, place)),
                }
            }
            let places: Vec<Place> = placed.iter().map(|(.., place)| *place).collect();
            let (found, by_worker) = read(&connection, &places).await?;
            for ((at, before, place), bytes) in placed.into_iter().zip(found) {
                let source = Some(Source { place, by_worker });
                match bytes {
                    None if before != source => missing.push((at, source)),
                    bytes => values[at] = Some(bytes.unwrap_or_default()),
                }
            }
            // It was moved since its row was read, or the worker has become ready, or it is lost.
            let again: Vec<Bytes> = missing.iter().map(|(at, _)| keys[*at].clone()).collect();
            rows = connection.ask_each(table, &again, IdbObjectStore::get);
        }
        Ok(values)
    })
}

#[derive(PartialEq)]
struct Source {
    place: Place,
    by_worker: bool,
}

/// What is at `places`, and whether the worker says so.
async fn read(
    connection: &Connection,
    places: &[Place],
) -> DatabaseResult<(Vec<Option<Bytes>>, bool)> {
    if places.is_empty() {
        return Ok((Vec::new(), false));
    }
    if let Some(segments) = connection.segments()
        && let Ok(values) = segments.read(places).await
    {
        return Ok((values, true));
    }
    Ok((read_files(&connection.folder, places).await?, false))
}
