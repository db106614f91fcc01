//! Segments where there is no worker: they can be read, and thrown away, but not written.

use bytes::Bytes;
use js_sys::Uint8Array;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, DomException, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemRemoveOptions,
};

use super::{MAX_VALUE, Place};
use crate::platform::{database::DatabaseResult, web::storage};

/// What is at each of `places` in the folder `name`; `None` if it is lost.
pub async fn read_files(name: &str, places: &[Place]) -> DatabaseResult<Vec<Option<Bytes>>> {
    let folder = found(folder(name).await)?;
    let mut open: Option<(u32, Option<Blob>)> = None;
    let mut values = Vec::with_capacity(places.len());
    for place in places {
        let file = match &open {
            Some((segment, file)) if *segment == place.segment => file.clone(),
            _ => match &folder {
                Some(folder) => found(file(folder, place.segment).await)?,
                None => None,
            },
        };
        values.push(match &file {
            Some(file) => found(slice(file, *place).await)?.flatten(),
            None => None,
        });
        open = Some((place.segment, file));
    }
    Ok(values)
}

/// `None` for what is not there or can no longer be read.
fn found<T>(result: Result<T, JsValue>) -> DatabaseResult<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(thrown) if thrown.dyn_ref().is_some_and(is_lost) => Ok(None),
        Err(thrown) => Err(super::failed(&thrown)),
    }
}

/// Whether this is what reading fails with when a file, or one in which the browser keeps a value, is gone
/// or cannot be read.
pub fn is_lost(exception: &DomException) -> bool {
    ["DataError", "NotFoundError", "NotReadableError"].contains(&exception.name().as_str())
}

/// Deletes `folder` with its segments, unless somebody has them open: then the next who opens the
/// database does it.
pub async fn remove_folder(name: &str) {
    let Ok(parent) = parent().await else { return };
    let options = FileSystemRemoveOptions::new();
    options.set_recursive(true);
    let _ = JsFuture::from(parent.remove_entry_with_options(name, &options)).await;
}

async fn parent() -> Result<FileSystemDirectoryHandle, JsValue> {
    let manager = storage::manager().ok_or("there are no files here")?;
    let root: FileSystemDirectoryHandle =
        JsFuture::from(manager.get_directory()).await?.dyn_into()?;
    JsFuture::from(root.get_directory_handle("tabpeer")).await?.dyn_into()
}

async fn folder(name: &str) -> Result<FileSystemDirectoryHandle, JsValue> {
    JsFuture::from(parent().await?.get_directory_handle(name)).await?.dyn_into()
}

async fn file(folder: &FileSystemDirectoryHandle, segment: u32) -> Result<Blob, JsValue> {
    let handle = JsFuture::from(folder.get_file_handle(&segment.to_string())).await?;
    JsFuture::from(handle.dyn_into::<FileSystemFileHandle>()?.get_file()).await?.dyn_into()
}

/// `None` if the file ends before.
async fn slice(file: &Blob, place: Place) -> Result<Option<Bytes>, JsValue> {
    let (start, length) = (f64::from(place.offset), f64::from(place.length));
    let part = file.slice_with_f64_and_f64(start, start + length)?;
    if part.size() != length || place.length as usize > MAX_VALUE {
        return Ok(None);
    }
    let buffer = JsFuture::from(part.array_buffer()).await?;
    Ok(Some(Uint8Array::new(&buffer).to_vec().into()))
}
