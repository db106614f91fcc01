//! Segments where there is no worker: they can be read, and thrown away, but not written.

use bytes::Bytes;
use js_sys::Uint8Array;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemRemoveOptions};

use super::Place;
use crate::platform::web::storage;

/// What is at each of `places` in `folder`; `None` if it is lost or these files cannot be had here.
pub async fn read_files(name: &str, places: &[Place]) -> Vec<Option<Bytes>> {
    let folder = folder(name).await.ok();
    let mut open: Option<(u32, Blob)> = None;
    let mut found = Vec::with_capacity(places.len());
    for place in places {
        if open.as_ref().is_none_or(|(segment, _)| *segment != place.segment) {
            open = match &folder {
                Some(folder) => file(folder, place.segment).await.ok(),
                None => None,
            };
        }
        found.push(match &open {
            Some((_, file)) => slice(file, *place).await.ok(),
            None => None,
        });
    }
    found
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
    let manager = storage::manager().ok_or(JsValue::UNDEFINED)?;
    let root: FileSystemDirectoryHandle =
        JsFuture::from(manager.get_directory()).await?.dyn_into()?;
    JsFuture::from(root.get_directory_handle("tabpeer")).await?.dyn_into()
}

async fn folder(name: &str) -> Result<FileSystemDirectoryHandle, JsValue> {
    JsFuture::from(parent().await?.get_directory_handle(name)).await?.dyn_into()
}

async fn file(folder: &FileSystemDirectoryHandle, segment: u32) -> Result<(u32, Blob), JsValue> {
    let handle = JsFuture::from(folder.get_file_handle(&segment.to_string())).await?;
    let file = JsFuture::from(handle.dyn_into::<FileSystemFileHandle>()?.get_file()).await?;
    Ok((segment, file.dyn_into()?))
}

async fn slice(file: &Blob, place: Place) -> Result<Bytes, JsValue> {
    let (start, end) = (f64::from(place.offset), f64::from(place.offset) + f64::from(place.length));
    let part = file.slice_with_f64_and_f64(start, end)?;
    if part.size() != f64::from(place.length) {
        return Err(JsValue::UNDEFINED);
    }
    let buffer = JsFuture::from(part.array_buffer()).await?;
    Ok(Uint8Array::new(&buffer).to_vec().into())
}
