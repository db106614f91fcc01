//! Large values in files: numbered segments in a folder of the origin private file system, written by
//! appending only. A browser takes a value several times faster this way than as a value of IndexedDB,
//! which copies it into a file of its own too, but through three processes and one file a value.
//!
//! Only a dedicated worker may write such files without copying them first, so there is one,
//! `src/js/segments.js`; [`set_worker`] says how it is started. A page whose policy forbids it
//! (`worker-src`) or whose package lies at another origin, a browser without these files (in some
//! private windows) and a service worker have no [`Segments`]: there values go into IndexedDB, and
//! what was written elsewhere is read by [`read_files`].
//!
//! An append is on the disk as far as the operating system has got with it, like a transaction of
//! IndexedDB: it survives the browser, not a power cut. After one, a row may name bytes that are not
//! there, or others: to the store a corrupt block.
//!
//! The worker writes in pieces of 256 KiB: Linux gives a file memory in pieces as large as what is
//! written at once, and a virtual machine has handed free ones of 2 MiB and more back to its host. To
//! get them again cost four times what all else of writing does; much smaller pieces cost too.
//!
//! What a segment holds, only the rows that name a [`Place`] in it know. So a value is appended
//! first and named after; what nothing names, a crash or a failed batch has left: it is swept with
//! its segment (`idb/tidy.rs`).

mod files;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use bytes::Bytes;
use futures::channel::oneshot;
use js_sys::{
    Array, ArrayBuffer, Function, Reflect, Uint8Array, Uint32Array, encode_uri_component,
};
use wasm_bindgen::{JsCast, closure::Closure, prelude::*};
use web_sys::{Event, MessageEvent, Worker};

use crate::platform::database::{DatabaseError, DatabaseResult};

pub use files::{is_lost, read_files, remove_folder};

/// Of the messages to the worker.
const PROTOCOL: u32 = 1;
/// The largest value that is kept here, in bytes.
pub const MAX_VALUE: usize = 4 << 20;
/// Buffers that wait to be filled again: fresh memory costs several times what filling it does.
const MAX_BUFFERS: usize = 3;
/// A larger buffer than this is not kept: what a session writes at once, and a block more.
const MAX_KEPT: u32 = 12 << 20;
/// Buffers are made in multiples of this, so that batches of about one size can share them.
const BUFFER_STEP: u32 = 1 << 20;

#[wasm_bindgen]
extern "C" {
    /// `ArrayBuffer`, whose constructor throws when there is no memory.
    #[wasm_bindgen(js_name = ArrayBuffer)]
    type NewBuffer;
    #[wasm_bindgen(constructor, catch, js_class = "ArrayBuffer")]
    fn new(length: u32) -> Result<NewBuffer, JsValue>;
}

thread_local! {
    static START_WORKER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Has `start`, a function that makes the Worker, called for each database that comes to do with blocks.
pub fn set_worker(start: Option<Function>) {
    START_WORKER.set(start);
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub segment: u32,
    /// In bytes.
    pub offset: u32,
    /// In bytes.
    pub length: u32,
}

/// The segments of one database, of which this is the only writer. Calls are served one after
/// another, in the order in which they were made.
pub struct Segments {
    worker: Worker,
    shared: Rc<Shared>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(Event)>,
}

type Answer = Result<JsValue, DatabaseError>;

#[derive(Default)]
struct Shared {
    waiting: RefCell<HashMap<u32, oneshot::Sender<Answer>>>,
    asked: Cell<u32>,
    /// The worker has failed as a whole.
    failed: Cell<bool>,
    buffers: RefCell<Vec<ArrayBuffer>>,
}

/// The folder of the database `name`.
pub fn folder(name: &str) -> String {
    format!("db-{}", String::from(encode_uri_component(name)))
}

impl Segments {
    /// Starts the worker and waits until it has `folder` for itself, as long as that takes.
    pub async fn lock(folder: &str) -> DatabaseResult<Self> {
        let segments = Self::start().map_err(|thrown| failed(&thrown))?;
        let arguments = [PROTOCOL.into(), folder.into(), (MAX_VALUE as u32).into()];
        segments.ask("lock", &arguments, None).await?;
        Ok(segments)
    }

    /// Makes ready what is locked; returns the segments that there are. New ones get numbers above
    /// those and above `above`.
    pub async fn open(&self, above: u32) -> DatabaseResult<Vec<u32>> {
        let numbers = Array::from(&self.ask("open", &[above.into()], None).await?);
        Ok(numbers.iter().filter_map(|number| Some(number.as_f64()? as u32)).collect())
    }

    fn start() -> Result<Self, JsValue> {
        let start = START_WORKER.with_borrow(Option::clone).ok_or("no worker was named")?;
        let worker: Worker = start.call0(&JsValue::UNDEFINED)?.dyn_into()?;
        let shared = Rc::new(Shared::default());
        let answered = shared.clone();
        let on_message = Closure::new(move |event: MessageEvent| answered.answer(&event.data()));
        let broken = shared.clone();
        let on_error = Closure::new(move |_| broken.fail());
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        worker.set_onmessageerror(Some(on_error.as_ref().unchecked_ref()));
        Ok(Self { worker, shared, _on_message: on_message, _on_error: on_error })
    }

    /// Appends `values`, next to each other; says where each is.
    pub fn append(
        &self,
        values: &[Bytes],
    ) -> impl Future<Output = DatabaseResult<Vec<Place>>> + use<> {
        let lengths: Vec<u32> = values.iter().map(|value| value.len() as u32).collect();
        let total: u32 = lengths.iter().sum();
        let answer = self.shared.buffer(total).map(|buffer| {
            let mut at = 0;
            for (value, length) in values.iter().zip(&lengths) {
                Uint8Array::new_with_byte_offset_and_length(&buffer, at, *length).copy_from(value);
                at += length;
            }
            self.ask("append", &[buffer.clone().into(), total.into()], Some(&buffer))
        });
        let shared = self.shared.clone();
        async move {
            let answer = Array::from(&answer?.await?);
            let number = |at| answer.get(at).as_f64().map(|number| number as u32);
            let (Some(segment), Some(mut offset)) = (number(0), number(1)) else {
                return Err(DatabaseError::Failed("a worker that does not say where".into()));
            };
            shared.keep(answer.get(2));
            let place = |length| {
                let place = Place { segment, offset, length };
                offset += length;
                place
            };
            Ok(lengths.into_iter().map(place).collect())
        }
    }

    /// What is at each of `places`; `None` if it is lost.
    pub fn read(
        &self,
        places: &[Place],
    ) -> impl Future<Output = DatabaseResult<Vec<Option<Bytes>>>> + use<> {
        let answer = self.ask("read", &[flat(places)], None);
        async move {
            let buffers = Array::from(&answer.await?);
            let bytes = |buffer: JsValue| {
                let buffer = buffer.dyn_into::<ArrayBuffer>().ok()?;
                Some(Uint8Array::new(&buffer).to_vec().into())
            };
            Ok(buffers.iter().map(bytes).collect())
        }
    }

    /// Copies what is at `places` to where values are appended now, all the way to the disk; says where
    /// each is then, `None` for what cannot be read.
    pub fn copy(
        &self,
        places: &[Place],
    ) -> impl Future<Output = DatabaseResult<Vec<Option<Place>>>> + use<> {
        let answer = self.ask("copy", &[flat(places)], None);
        async move {
            let numbers = Array::from(&answer.await?);
            let numbers: Vec<u32> =
                numbers.iter().map(|number| number.as_f64().unwrap_or_default() as u32).collect();
            let place = |part: &[u32]| {
                let [segment, offset, length] = *part else { return None };
                (segment > 0).then_some(Place { segment, offset, length })
            };
            Ok(numbers.chunks(3).map(place).collect())
        }
    }

    /// The size of the file, in bytes.
    pub async fn size(&self, segment: u32) -> DatabaseResult<u64> {
        let size = self.ask("size", &[segment.into()], None).await?;
        Ok(size.as_f64().unwrap_or_default() as u64)
    }

    /// What is appended after this call goes to another segment.
    pub fn seal(&self, segment: u32) {
        drop(self.ask("seal", &[segment.into()], None));
    }

    pub async fn remove(&self, segment: u32) -> DatabaseResult<()> {
        self.ask("remove", &[segment.into()], None).await.map(drop)
    }

    /// Lets go of the files, so that another may open the database.
    pub async fn close(&self) {
        let _ = self.ask("close", &[], None).await;
    }

    fn ask(
        &self,
        what: &str,
        arguments: &[JsValue],
        transfer: Option<&ArrayBuffer>,
    ) -> impl Future<Output = Answer> + use<> {
        let (reply, answer) = oneshot::channel();
        let id = self.shared.asked.get().wrapping_add(1);
        self.shared.asked.set(id);
        let message = Array::of2(&id.into(), &what.into());
        for argument in arguments {
            message.push(argument);
        }
        let transfer: Array = transfer.into_iter().collect();
        let posted = match self.shared.failed.get() {
            true => Err("the worker failed before".into()),
            false => self.worker.post_message_with_transfer(&message, &transfer),
        };
        match posted {
            Ok(()) => drop(self.shared.waiting.borrow_mut().insert(id, reply)),
            Err(thrown) => drop(reply.send(Err(failed(&thrown)))),
        }
        async move {
            let gone = |_| Err(DatabaseError::Failed("the worker of the segments failed".into()));
            answer.await.unwrap_or_else(gone)
        }
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.worker.set_onmessageerror(None);
        self.worker.terminate();
        self.shared.fail();
    }
}

impl Shared {
    fn answer(&self, data: &JsValue) {
        let answer = Array::from(data);
        let id = answer.get(0).as_f64().unwrap_or_default() as u32;
        let Some(reply) = self.waiting.borrow_mut().remove(&id) else { return };
        let error = answer.get(1);
        let _ = reply.send(match error.is_undefined() {
            true => Ok(answer.get(2)),
            false => Err(reported(&error)),
        });
    }

    fn fail(&self) {
        self.failed.set(true);
        self.waiting.borrow_mut().clear();
    }

    /// A buffer of at least `length` bytes.
    fn buffer(&self, length: u32) -> DatabaseResult<ArrayBuffer> {
        let mut buffers = self.buffers.borrow_mut();
        if let Some(at) = buffers.iter().position(|buffer| buffer.byte_length() >= length) {
            return Ok(buffers.swap_remove(at));
        }
        drop(buffers);
        let buffer = NewBuffer::new(length.next_multiple_of(BUFFER_STEP));
        Ok(buffer.map_err(|thrown| failed(&thrown))?.unchecked_into())
    }

    fn keep(&self, buffer: JsValue) {
        let Ok(buffer) = buffer.dyn_into::<ArrayBuffer>() else { return };
        if buffer.byte_length() > MAX_KEPT {
            return;
        }
        let mut buffers = self.buffers.borrow_mut();
        buffers.push(buffer);
        if buffers.len() > MAX_BUFFERS
            && let Some(smallest) = (0..buffers.len()).min_by_key(|&at| buffers[at].byte_length())
        {
            buffers.swap_remove(smallest);
        }
    }
}

/// As the worker takes places.
fn flat(places: &[Place]) -> JsValue {
    let numbers: Vec<u32> =
        places.iter().flat_map(|place| [place.segment, place.offset, place.length]).collect();
    Uint32Array::from(&numbers[..]).into()
}

/// From the name and the message of what the worker caught.
fn reported(error: &JsValue) -> DatabaseError {
    let field = |name: &str| Reflect::get(error, &name.into()).ok().and_then(|it| it.as_string());
    let (name, message) = (field("name"), field("message"));
    match name.as_deref() {
        Some("QuotaExceededError") => DatabaseError::QuotaExceeded,
        name => DatabaseError::Failed(format!(
            "{}: {}",
            name.unwrap_or("?"),
            message.unwrap_or_default()
        )),
    }
}

fn failed(thrown: &JsValue) -> DatabaseError {
    DatabaseError::Failed(super::describe(thrown))
}
