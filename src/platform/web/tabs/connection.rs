//! A connection between two tabs as a stream of bytes.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncWrite};
use send_wrapper::SendWrapper;

use super::channel::Channel;
use crate::platform::tabs::{
    Token, channel_name,
    frame::MAX_FRAME,
    link::{Broken, Link, Read},
};

/// One end. Dropping it breaks the connection off, unless both ends have closed it.
pub struct Connection(SendWrapper<Rc<End>>);

/// What a connection shares with its channel and with the hub.
pub(super) struct End {
    link: RefCell<Link>,
    channel: Option<Channel>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Connection {
    /// Listens for the other end, which has to be told of `token`.
    pub(super) fn dial(token: &Token) -> Option<Self> {
        Self::new(Link::dialler(), token)
    }

    pub(super) fn accept(token: &Token) -> Option<Self> {
        let (link, welcome) = Link::listener();
        let connection = Self::new(link, token)?;
        connection.0.post(&welcome);
        Some(connection)
    }

    fn new(link: Link, token: &Token) -> Option<Self> {
        let end = Rc::new_cyclic(|end: &Weak<End>| {
            let end = end.clone();
            let heard = move |frame| {
                if let Some(end) = end.upgrade()
                    && end.link.borrow_mut().hear(frame)
                {
                    end.wake();
                }
            };
            End {
                link: RefCell::new(link),
                channel: Channel::open(&channel_name(token), MAX_FRAME, heard),
                reader: RefCell::default(),
                writer: RefCell::default(),
            }
        });
        let opened = end.channel.is_some();
        opened.then(|| Self(SendWrapper::new(end)))
    }

    pub(super) fn end(&self) -> Weak<End> {
        Rc::downgrade(&self.0)
    }

    /// Resolves when the other end listens.
    pub(super) async fn opened(&self) -> Result<(), Broken> {
        poll_fn(|cx| match self.0.link.borrow().opened() {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => wait(&self.0.writer, cx),
            Err(broken) => Poll::Ready(Err(broken)),
        })
        .await
    }
}

impl End {
    pub fn break_off(&self, why: Broken) {
        self.link.borrow_mut().break_off(why);
        self.wake();
    }

    /// Says that this end is no more, while there is time to say so.
    pub fn put_aside(&self) {
        let said = self.link.borrow_mut().drop();
        if let Some(said) = said {
            self.post(&said);
        }
        self.wake();
    }

    fn post(&self, frame: &[u8]) -> bool {
        self.channel.as_ref().is_some_and(|channel| channel.post(frame))
    }

    /// Sends what was written, once there is room.
    fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = &mut *self.link.borrow_mut();
        link.writable()?;
        if !link.unsent() {
            return Poll::Ready(Ok(()));
        }
        let Some(frame) = link.frame() else { return wait(&self.writer, cx) };
        if !self.post(frame) {
            link.break_off(Broken::Refused);
            return Poll::Ready(Err(Broken::Refused.into()));
        }
        link.posted();
        Poll::Ready(Ok(()))
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

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let end = &self.0;
        let (read, credit) = end.link.borrow_mut().read(buffer)?;
        if let Some(credit) = credit {
            end.post(&credit);
        }
        match read {
            Read::Bytes(len) => Poll::Ready(Ok(len)),
            Read::End => Poll::Ready(Ok(0)),
            Read::Wait => wait(&end.reader, cx),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let written = self.0.link.borrow_mut().write(bytes)?;
            if written > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(written));
            }
            std::task::ready!(self.0.poll_send(cx))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let end = &self.0;
        if end.link.borrow().writable().is_ok() {
            std::task::ready!(end.poll_send(cx))?;
            let said = end.link.borrow_mut().finish();
            if let Some(said) = said {
                end.post(&said);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.put_aside();
    }
}

fn wait<T>(place: &RefCell<Option<Waker>>, cx: &mut Context<'_>) -> Poll<T> {
    *place.borrow_mut() = Some(cx.waker().clone());
    Poll::Pending
}
