//! One WebSocket as a stream of bytes.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncWrite};
use js_sys::{ArrayBuffer, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, WebSocket};

use super::WebSocketError;
use crate::platform::time::{Duration, Sleep, sleep};

/// What may wait here to be read. The remote's windows end far below it unless the page stands
/// still for long.
const MAX_RECEIVED: usize = 64 * 1024 * 1024;
/// What a message that waits is charged besides its bytes, so that many small ones count too.
const MESSAGE_COST: usize = 64;
/// Above this many bytes in the browser's own buffer, writers wait.
const HIGH_WATER: u32 = 1024 * 1024;
/// Writes are gathered up to this size and sent as one message.
const MESSAGE_SIZE: usize = 128 * 1024;
/// The first wait for the browser's buffer to fall; doubles up to [`MAX_DRAIN_WAIT`].
const MIN_DRAIN_WAIT: Duration = Duration::from_millis(1);
/// The longest wait between two looks at the browser's buffer.
const MAX_DRAIN_WAIT: Duration = Duration::from_millis(8);
/// "Normal closure", the only status of the protocol that a page may give.
const NORMAL_CLOSURE: u16 = 1000;
/// Of the reason in a close event.
const MAX_REASON: usize = 123;

/// An open WebSocket. Dropping it closes the socket.
#[derive(Debug)]
pub struct Connection(SendWrapper<Inner>);

#[derive(Debug)]
struct Inner {
    socket: Socket,
    /// Written and not yet sent.
    outgoing: Vec<u8>,
    drain: Option<Drain>,
}

/// Waits for the browser's buffer to fall.
#[derive(Debug)]
struct Drain {
    timer: Pin<Box<Sleep>>,
    wait: Duration,
}

/// The browser's socket with our handlers on it, which are taken off when it is dropped: the
/// browser would else call into closures that no longer exist.
#[derive(Debug)]
struct Socket {
    socket: WebSocket,
    url: String,
    state: Rc<State>,
    _on_event: Closure<dyn FnMut(Event)>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

/// What the handlers share with the stream.
#[derive(Debug, Default)]
struct State {
    received: RefCell<VecDeque<Received>>,
    received_bytes: Cell<usize>,
    end: RefCell<Option<End>>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Received {
    bytes: Vec<u8>,
    read: usize,
}

#[derive(Debug, Clone)]
enum End {
    Closed,
    Failed(String),
}

impl Connection {
    /// Resolves when the socket is open. Dropping the future closes the socket.
    pub async fn open(url: String) -> Result<Self, WebSocketError> {
        let socket = Socket::new(url)?;
        poll_fn(|cx| socket.poll_open(cx)).await?;
        let outgoing = Vec::with_capacity(MESSAGE_SIZE);
        Ok(Self(SendWrapper::new(Inner { socket, outgoing, drain: None })))
    }
}

impl Inner {
    fn send(&mut self) -> io::Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        self.socket.send(&self.outgoing)?;
        self.outgoing.clear();
        Ok(())
    }

    /// Ready once the browser's buffer has room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.socket.socket.buffered_amount() < HIGH_WATER {
                self.drain = None;
                return Poll::Ready(());
            }
            let drain = self.drain.get_or_insert_with(|| Drain::new(MIN_DRAIN_WAIT));
            if drain.timer.as_mut().poll(cx).is_pending() {
                *self.socket.state.writer.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            *drain = Drain::new((drain.wait * 2).min(MAX_DRAIN_WAIT));
        }
    }
}

impl Drain {
    fn new(wait: Duration) -> Self {
        Self { timer: Box::pin(sleep(wait)), wait }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let state = &self.0.socket.state;
        let read = state.read(buf);
        if read > 0 || buf.is_empty() {
            return Poll::Ready(Ok(read));
        }
        match &*state.end.borrow() {
            Some(End::Closed) => Poll::Ready(Ok(0)),
            Some(End::Failed(reason)) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, reason.clone())))
            }
            None => {
                *state.reader.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.get_mut().0;
        inner.socket.state.writable()?;
        if inner.outgoing.len() >= MESSAGE_SIZE {
            if inner.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            inner.send()?;
        }
        let taken = buf.len().min(MESSAGE_SIZE - inner.outgoing.len());
        inner.outgoing.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Hands everything to the browser, which sends it without further help. Waits for room, so that
    /// a writer that flushes often cannot fill the browser's buffer without bound.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.get_mut().0;
        inner.socket.state.writable()?;
        if !inner.outgoing.is_empty() {
            if inner.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            inner.send()?;
        }
        Poll::Ready(Ok(()))
    }

    /// The browser sends what it holds before it closes, so there is nothing to wait for.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.get_mut().0;
        if inner.socket.state.end.borrow().is_none() {
            inner.send()?;
            inner.socket.close();
        }
        Poll::Ready(Ok(()))
    }
}

impl Socket {
    fn new(url: String) -> Result<Self, WebSocketError> {
        let socket = WebSocket::new(&url).map_err(|error| {
            let reason = crate::platform::web::describe(&error);
            WebSocketError(format!("the browser refuses to open {url}: {reason}"))
        })?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let state = Rc::new(State::default());

        let on_event = Closure::<dyn FnMut(Event)>::new({
            let state = state.clone();
            move |_| state.wake()
        });
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new({
            let (state, socket, url) = (state.clone(), socket.clone(), url.clone());
            move |message: MessageEvent| {
                if let Err(reason) = state.receive(&message) {
                    state.finish(End::Failed(format!("{url}: {reason}")));
                    close(&socket);
                }
            }
        });
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new({
            let (state, url) = (state.clone(), url.clone());
            move |event: CloseEvent| state.finish(end_of(&event, &url))
        });
        socket.set_onopen(Some(on_event.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        // An error event says nothing and a close event always follows it.
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        let (_on_event, _on_message, _on_close) = (on_event, on_message, on_close);
        Ok(Self { socket, url, state, _on_event, _on_message, _on_close })
    }

    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        if let Some(end) = &*self.state.end.borrow() {
            let reason = match end {
                End::Closed => "it was closed at once",
                End::Failed(reason) => reason,
            };
            return Poll::Ready(Err(WebSocketError(format!("no connection: {reason}"))));
        }
        if self.socket.ready_state() == WebSocket::OPEN {
            return Poll::Ready(Ok(()));
        }
        *self.state.writer.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_with_u8_array(bytes).map_err(|error| {
            let reason = crate::platform::web::describe(&error);
            io::Error::new(io::ErrorKind::BrokenPipe, format!("{}: {reason}", self.url))
        })
    }

    fn close(&self) {
        close(&self.socket);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        self.close();
    }
}

impl State {
    fn receive(&self, message: &MessageEvent) -> Result<(), String> {
        if self.end.borrow().is_some() {
            return Ok(());
        }
        let buffer: ArrayBuffer =
            message.data().dyn_into().map_err(|_| "a message that is not binary".to_owned())?;
        if buffer.byte_length() == 0 {
            return Ok(());
        }
        let waiting = self.received_bytes.get() + buffer.byte_length() as usize + MESSAGE_COST;
        if waiting > MAX_RECEIVED {
            return Err(format!("more than {MAX_RECEIVED} bytes came before they could be read"));
        }
        self.received_bytes.set(waiting);
        let bytes = Uint8Array::new(&buffer).to_vec();
        self.received.borrow_mut().push_back(Received { bytes, read: 0 });
        self.wake();
        Ok(())
    }

    fn read(&self, buf: &mut [u8]) -> usize {
        let mut received = self.received.borrow_mut();
        let (mut filled, mut freed) = (0, 0);
        while filled < buf.len()
            && let Some(front) = received.front_mut()
        {
            let rest = &front.bytes[front.read..];
            let taken = rest.len().min(buf.len() - filled);
            buf[filled..filled + taken].copy_from_slice(&rest[..taken]);
            filled += taken;
            front.read += taken;
            if front.read == front.bytes.len() {
                received.pop_front();
                freed += MESSAGE_COST;
            }
        }
        self.received_bytes.set(self.received_bytes.get().saturating_sub(filled + freed));
        filled
    }

    fn writable(&self) -> io::Result<()> {
        match &*self.end.borrow() {
            None => Ok(()),
            Some(End::Closed) => Err(io::ErrorKind::BrokenPipe.into()),
            Some(End::Failed(reason)) => {
                Err(io::Error::new(io::ErrorKind::BrokenPipe, reason.clone()))
            }
        }
    }

    fn finish(&self, end: End) {
        self.end.borrow_mut().get_or_insert(end);
        self.wake();
    }

    fn wake(&self) {
        for waiting in [&self.reader, &self.writer] {
            let waker = waiting.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

fn close(socket: &WebSocket) {
    // Fails only for codes and reasons that are not allowed.
    let _ = socket.close_with_code(NORMAL_CLOSURE);
}

fn end_of(event: &CloseEvent, url: &str) -> End {
    if event.was_clean() && event.code() == NORMAL_CLOSURE {
        return End::Closed;
    }
    let reason: String = event.reason().chars().take(MAX_REASON).collect();
    let reason = match (reason.is_empty(), event.code()) {
        (false, code) => format!("closed with the status {code}: {reason}"),
        // What the browser makes of everything from a refused connection to a wrong certificate; it
        // does not tell a page which.
        (true, 1006) => "unreachable, broken off, or not allowed (status 1006)".to_owned(),
        (true, code) => format!("closed with the status {code}"),
    };
    End::Failed(format!("{url}: {reason}"))
}
