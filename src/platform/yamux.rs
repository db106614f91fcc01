//! Yamux that takes frames of any size (spec: hashicorp yamux, whose only bound is the receive
//! window).
//!
//! The `yamux` crate (0.14) ends a connection on a data frame of more than 1 MiB. Its receive
//! window grows beyond that, and js-libp2p fills a window with one frame. So large data frames are
//! cut before it sees them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite, future::Ready};
use libp2p::{
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    yamux,
};

/// Version, type, flags (2), stream (4), length (4).
const HEADER: usize = 12;
/// A larger frame is cut into frames of this size; what arrives of it is delivered at once.
const LARGEST: u32 = 64 << 10;
/// The type of frame that has a body.
const DATA: u8 = 0;
/// Flags of a frame that opens a stream: SYN, ACK.
const OPENING: u16 = 1 | 2;
/// Flags of a frame that ends a stream: FIN, RST.
const ENDING: u16 = 4 | 8;

/// Speaks yamux over a connection of bytes.
#[derive(Clone)]
pub struct Config(yamux::Config);

impl Config {
    /// The receive windows grow by themselves; only the number of streams bounds what a remote can
    /// make us hold.
    pub fn new(max_streams: usize) -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(max_streams);
        Self(config)
    }
}

impl UpgradeInfo for Config {
    type Info = <yamux::Config as UpgradeInfo>::Info;
    type InfoIter = <yamux::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Config {
    type Output = yamux::Muxer<SmallFrames<C>>;
    type Error = io::Error;
    type Future = Ready<Result<Self::Output, io::Error>>;

    fn upgrade_inbound(self, bytes: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(SmallFrames::new(bytes), info)
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Config {
    type Output = yamux::Muxer<SmallFrames<C>>;
    type Error = io::Error;
    type Future = Ready<Result<Self::Output, io::Error>>;

    fn upgrade_outbound(self, bytes: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(SmallFrames::new(bytes), info)
    }
}

/// The bytes of a yamux connection, with no data frame larger than [`LARGEST`] when reading.
pub struct SmallFrames<C> {
    bytes: C,
    /// Of the frame that is read or handed out.
    header: [u8; HEADER],
    state: State,
    /// What is left of the body under the header that was handed out last.
    body: u32,
    /// What is left of a large frame after that.
    rest: u32,
    /// Flags that belong on the last piece of a large frame.
    ending: u16,
}

enum State {
    /// So many bytes of a header have been read.
    Reading(usize),
    /// So many bytes of a header have been handed out.
    Handing(usize),
    Body,
}

impl<C> SmallFrames<C> {
    fn new(bytes: C) -> Self {
        let header = [0; HEADER];
        Self { bytes, header, state: State::Reading(0), body: 0, rest: 0, ending: 0 }
    }

    /// A whole header has come: cuts the frame if it is large.
    fn begin(&mut self) {
        let [_, kind, flags0, flags1, .., len0, len1, len2, len3] = self.header;
        let len = u32::from_be_bytes([len0, len1, len2, len3]);
        self.body = if kind == DATA { len } else { 0 };
        if self.body > LARGEST {
            let flags = u16::from_be_bytes([flags0, flags1]);
            self.ending = flags & ENDING;
            self.rest = len;
            self.next_piece(flags & OPENING);
        }
    }

    /// The header of the next piece of a large frame.
    fn next_piece(&mut self, flags: u16) {
        self.body = self.rest.min(LARGEST);
        self.rest -= self.body;
        let flags = if self.rest == 0 { flags | self.ending } else { flags };
        self.header[2..4].copy_from_slice(&flags.to_be_bytes());
        self.header[8..].copy_from_slice(&self.body.to_be_bytes());
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for SmallFrames<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            match this.state {
                State::Reading(at) => {
                    let (_, missing) = this.header.split_at_mut(at);
                    let read = ready!(Pin::new(&mut this.bytes).poll_read(cx, missing))?;
                    if read == 0 {
                        return Poll::Ready(Ok(0));
                    }
                    this.state = State::Reading(at + read);
                    if at + read >= HEADER {
                        this.begin();
                        this.state = State::Handing(0);
                    }
                }
                State::Handing(at) => {
                    let (_, left) = this.header.split_at(at);
                    let len = left.len().min(buffer.len());
                    buffer[..len].copy_from_slice(&left[..len]);
                    let whole = at + len >= HEADER;
                    this.state = if whole { State::Body } else { State::Handing(at + len) };
                    return Poll::Ready(Ok(len));
                }
                State::Body if this.body > 0 => {
                    let len = buffer.len().min(this.body as usize);
                    let read = ready!(Pin::new(&mut this.bytes).poll_read(cx, &mut buffer[..len]))?;
                    this.body = this.body.saturating_sub(read as u32);
                    return Poll::Ready(Ok(read));
                }
                State::Body if this.rest > 0 => {
                    this.next_piece(0);
                    this.state = State::Handing(0);
                }
                State::Body => this.state = State::Reading(0),
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for SmallFrames<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, executor::block_on};

    use super::*;

    fn frame(kind: u8, flags: u16, len: u32, body: &[u8]) -> Vec<u8> {
        let header = [&[0, kind][..], &flags.to_be_bytes(), &[0, 0, 0, 7], &len.to_be_bytes()];
        [&header.concat(), body].concat()
    }

    /// What is read of `bytes`, in reads of `at_a_time`.
    fn through(bytes: &[u8], at_a_time: usize) -> Vec<u8> {
        let mut frames = SmallFrames::new(bytes);
        let mut all = Vec::new();
        let mut buffer = vec![0; at_a_time];
        loop {
            match block_on(frames.read(&mut buffer)).unwrap() {
                0 => return all,
                len => all.extend_from_slice(&buffer[..len]),
            }
        }
    }

    #[test]
    fn a_large_frame_is_cut_and_the_others_are_as_they_were() {
        let body: Vec<u8> = (0..2 * LARGEST + 5).map(|at| (at % 251) as u8).collect();
        let largest = LARGEST as usize;
        let update = frame(1, 0, u32::MAX, &[]);
        let small = frame(DATA, 5, 3, b"abc");
        let full = frame(DATA, 0, LARGEST, &body[..largest]);
        let large = frame(DATA, 1 | 4, body.len() as u32, &body);
        let ping = frame(2, 1, u32::MAX, &[]);
        let sent = [&update, &small, &full, &large, &ping].map(|frame| &frame[..]).concat();
        let pieces = [
            frame(DATA, 1, LARGEST, &body[..largest]),
            frame(DATA, 0, LARGEST, &body[largest..2 * largest]),
            frame(DATA, 4, 5, &body[2 * largest..]),
        ];
        let expected = [update, small, full, pieces.concat(), ping].concat();
        for at_a_time in [1, 12, 13, 4096, 1 << 20] {
            assert!(through(&sent, at_a_time) == expected, "in reads of {at_a_time}");
        }
    }

    #[test]
    fn the_end_may_be_anywhere() {
        let sent = frame(DATA, 0, LARGEST + 1, &[7; LARGEST as usize]);
        // With the whole first piece comes the header of the second.
        for (len, read) in [(0, 0), (5, 0), (12, 12), (13, 13), (sent.len(), sent.len() + 12)] {
            assert_eq!(through(&sent[..len], 1 << 20).len(), read);
        }
    }
}
