//! One end of a connection between two tabs: a stream of bytes each way, over messages that arrive in
//! order or, when the other tab is gone, no more. Pure.
//!
//! Places in a stream are counted from its start. Each end may send up to [`WINDOW`] bytes beyond what
//! the other has read, so no more than that waits anywhere. What does not continue the stream, or goes
//! beyond what was allowed, is of neither end's making and is overlooked.

use std::{collections::VecDeque, io};

use super::frame::{CHUNK, HEADER, Kind, header, parse};

/// Bytes that were sent and not read yet. Several chunks, so that both tabs work at the same time.
pub const WINDOW: u64 = 16 * CHUNK as u64;
/// The sender is told when so much was read.
const CREDIT_STEP: u64 = WINDOW / 4;

#[derive(Debug)]
pub struct Link {
    /// The other end listens.
    open: bool,
    /// A data frame that is not sent yet: its header, and what was written.
    outgoing: Vec<u8>,
    sent: u64,
    /// May be sent.
    allowed: u64,
    finished: bool,
    /// Data frames that came, less than [`WINDOW`] of data in all.
    incoming: VecDeque<Piece>,
    received: u64,
    read: u64,
    /// The other end may send so far.
    granted: u64,
    /// The other end's stream is complete.
    complete: bool,
    broken: Option<Broken>,
}

#[derive(Debug)]
struct Piece {
    frame: Vec<u8>,
    at: usize,
}

/// Why there is no connection any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the other tab broke the connection off")]
    Reset,
    #[error("the other tab is gone")]
    Gone,
    #[error("the other tab does not answer")]
    Silent,
    #[error("this tab was put aside")]
    Aside,
    #[error("the browser did not take a message")]
    Refused,
}

/// What a look at the stream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// No more will come.
    End,
    /// Nothing is there yet.
    Wait,
}

impl Link {
    /// Of who opens the connection; nothing can be sent before the other end's [`Kind::Welcome`].
    pub fn dialler() -> Self {
        Self {
            open: false,
            outgoing: header(Kind::Data, 0).into(),
            sent: 0,
            allowed: WINDOW,
            finished: false,
            incoming: VecDeque::new(),
            received: 0,
            read: 0,
            granted: WINDOW,
            complete: false,
            broken: None,
        }
    }

    /// Of who takes it up, and what it says first.
    pub fn listener() -> (Self, [u8; HEADER]) {
        (Self { open: true, ..Self::dialler() }, header(Kind::Welcome, 0))
    }

    /// Whether both ends listen.
    pub fn opened(&self) -> Result<bool, Broken> {
        self.broken.map_or(Ok(self.open), Err)
    }

    /// Takes a message; whether that changed anything.
    pub fn hear(&mut self, frame: Vec<u8>) -> bool {
        let Some((kind, place)) = parse(&frame) else { return false };
        if self.broken.is_some() {
            return false;
        }
        match kind {
            Kind::Welcome if !self.open => self.open = true,
            Kind::Data => {
                let len = (frame.len() - HEADER) as u64;
                if place != self.received || self.complete || self.granted - self.received < len {
                    return false;
                }
                self.received += len;
                self.incoming.push_back(Piece { frame, at: HEADER });
            }
            Kind::Credit if place > self.allowed && place <= self.sent + WINDOW => {
                self.allowed = place;
            }
            Kind::Finish if place == self.received && !self.complete => self.complete = true,
            Kind::Reset => self.broken = Some(Broken::Reset),
            _ => return false,
        }
        true
    }

    /// Takes bytes that have come, and says what is to be sent because of that. What came before the
    /// connection broke can still be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<(Read, Option<[u8; HEADER]>), Broken> {
        let mut filled = 0;
        while let Some(piece) = self.incoming.front_mut() {
            let (came, room) = (piece.frame.get(piece.at..), buffer.get_mut(filled..));
            let (Some(came), Some(room)) = (came, room.filter(|room| !room.is_empty())) else {
                break;
            };
            let taken = came.len().min(room.len());
            room[..taken].copy_from_slice(&came[..taken]);
            filled += taken;
            piece.at += taken;
            if piece.at == piece.frame.len() {
                self.incoming.pop_front();
            }
        }
        if filled == 0 && !buffer.is_empty() {
            return match (self.complete, self.broken) {
                (true, _) => Ok((Read::End, None)),
                (false, Some(broken)) => Err(broken),
                (false, None) => Ok((Read::Wait, None)),
            };
        }
        self.read += filled as u64;
        let due = self.read + WINDOW - self.granted >= CREDIT_STEP;
        let credit = due && !self.complete && self.broken.is_none();
        let credit = credit.then(|| {
            self.granted = self.read + WINDOW;
            header(Kind::Credit, self.granted)
        });
        Ok((Read::Bytes(filled), credit))
    }

    /// Gathers bytes to be sent and says how many; none when a frame is full, see [`Self::frame`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        self.writable()?;
        let room = (HEADER + CHUNK).saturating_sub(self.outgoing.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.outgoing.extend_from_slice(taken);
        Ok(taken.len())
    }

    /// Whether something was written and not sent.
    pub fn unsent(&self) -> bool {
        self.outgoing.len() > HEADER
    }

    /// What was written, as a frame, once it may be sent; then say that it was ([`Self::posted`]).
    pub fn frame(&mut self) -> Option<&[u8]> {
        let len = self.outgoing.len().checked_sub(HEADER)? as u64;
        if len == 0 || self.allowed.saturating_sub(self.sent) < len {
            return None;
        }
        self.outgoing[..HEADER].copy_from_slice(&header(Kind::Data, self.sent));
        Some(&self.outgoing)
    }

    pub fn posted(&mut self) {
        self.sent += self.outgoing.len().saturating_sub(HEADER) as u64;
        self.outgoing.truncate(HEADER);
    }

    /// Everything was sent and no more will be: what to say, the first time.
    pub fn finish(&mut self) -> Option<[u8; HEADER]> {
        let first = !std::mem::replace(&mut self.finished, true) && self.broken.is_none();
        first.then(|| header(Kind::Finish, self.sent))
    }

    /// Nobody uses this end any more: what to say, if the other does not know.
    pub fn drop(&mut self) -> Option<[u8; HEADER]> {
        let known = self.broken.is_some() || (self.finished && self.complete);
        self.broken.get_or_insert(Broken::Reset);
        (!known).then(|| header(Kind::Reset, 0))
    }

    pub fn break_off(&mut self, why: Broken) {
        self.broken.get_or_insert(why);
    }

    pub fn writable(&self) -> Result<(), Broken> {
        match self.broken {
            Some(broken) => Err(broken),
            None if self.finished => Err(Broken::Reset),
            None => Ok(()),
        }
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, broken)
    }
}

#[cfg(test)]
mod tests;
