//! How values lie in the database: as `Uint8Array`s, or, if they are large and there are
//! [`segments`](crate::platform::web::segments), as the [`Place`] where the bytes are. Earlier versions
//! wrote `Blob`s; they are still read.
//!
//! Browsers keep large arrays in files of their own: such a file can be gone when the record is not (a
//! disk that failed, a cleaner). Such a value is [`Value::Lost`].

use std::cell::RefCell;

use bytes::Bytes;
use js_sys::{ArrayBuffer, Object, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, IdbRequest};

use super::{error, transaction::result};
use crate::platform::{
    database::{DatabaseError, DatabaseResult},
    web::segments::{Place, is_lost},
};

/// Fields of a place's row, by each of which an index finds it.
pub const SEGMENT: &str = "segment";
pub const KEY: &str = "key";
const OFFSET: &str = "offset";
const LENGTH: &str = "length";

thread_local! {
    /// The array that the last value was copied to. The browser has cloned it when a write is
    /// issued, so the next value of the same length goes there again: fresh memory costs several
    /// times what the copying does, and most blocks of a file have one length.
    static VALUE: RefCell<Uint8Array> = RefCell::new(Uint8Array::new_with_length(0));
}

/// Calls `issue` with the bytes as a value of their own. (The browser clones an array together with
/// the whole buffer behind it, so it must not be a view of this module's memory.)
pub fn with_array<T>(bytes: &[u8], issue: impl FnOnce(&JsValue) -> T) -> T {
    VALUE.with_borrow_mut(|array| {
        if array.length() as usize == bytes.len() {
            array.copy_from(bytes);
        } else {
            *array = Uint8Array::new_from_slice(bytes);
        }
        issue(array)
    })
}

/// The row of a value that is in a segment. It repeats its key, so that whether a value is in a segment can
/// be asked without reading it if it is not.
pub fn place_row(key: &JsValue, place: Place) -> DatabaseResult<JsValue> {
    let row = Object::new();
    let fields = [
        (KEY, key.clone()),
        (SEGMENT, place.segment.into()),
        (OFFSET, place.offset.into()),
        (LENGTH, place.length.into()),
    ];
    for (name, value) in fields {
        Reflect::set(&row, &name.into(), &value).map_err(|thrown| error::from_js(&thrown))?;
    }
    Ok(row.into())
}

/// The place that a row names; `None` for a row that holds its value.
pub fn place_of(row: &JsValue) -> Option<Place> {
    if row.is_instance_of::<Uint8Array>() {
        return None;
    }
    let field = |name: &str| Some(Reflect::get(row, &name.into()).ok()?.as_f64()? as u32);
    let segment = field(SEGMENT)?;
    Some(Place { segment, offset: field(OFFSET)?, length: field(LENGTH)? })
}

/// What a row was found to hold.
pub enum Row {
    Value(Value),
    Place(Place),
}

/// A value that was read, on its way into Rust memory.
pub enum Value {
    Here(Bytes),
    Coming(JsFuture),
    Lost,
}

impl Row {
    /// What a finished request found. A blob is being read when this returns.
    pub fn found(request: &IdbRequest) -> DatabaseResult<Option<Self>> {
        if let Ok(Some(exception)) = request.error()
            && is_lost(&exception)
        {
            return Ok(Some(Self::Value(Value::Lost)));
        }
        let Some(row) = result(request)? else { return Ok(None) };
        if let Some(blob) = row.dyn_ref::<Blob>() {
            return Ok(Some(Self::Value(Value::Coming(JsFuture::from(blob.array_buffer())))));
        }
        Ok(Some(match place_of(&row) {
            Some(place) => Self::Place(place),
            None => Self::Value(Value::Here(bytes(&row)?)),
        }))
    }
}

impl Value {
    /// What is lost is empty.
    pub async fn bytes(self) -> DatabaseResult<Bytes> {
        match self {
            Self::Here(bytes) => Ok(bytes),
            Self::Coming(buffer) => match buffer.await {
                Ok(buffer) => bytes(&buffer),
                Err(thrown) if thrown.dyn_ref().is_some_and(is_lost) => Ok(Bytes::new()),
                Err(thrown) => Err(error::from_js(&thrown)),
            },
            Self::Lost => Ok(Bytes::new()),
        }
    }
}

/// Copies an array or a binary key of the database into Rust memory.
pub fn bytes(value: &JsValue) -> DatabaseResult<Bytes> {
    let array = match value.dyn_ref::<Uint8Array>() {
        Some(array) => array.clone(),
        None if value.is_instance_of::<ArrayBuffer>() => Uint8Array::new(value),
        None => return Err(DatabaseError::Failed("a row that does not hold bytes".into())),
    };
    Ok(array.to_vec().into())
}
