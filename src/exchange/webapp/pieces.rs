//! Content that has arrived and is not cut yet.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A queue of bytes in pieces of any size, taken in whatever sizes are needed.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    queue: VecDeque<Bytes>,
    len: usize,
}

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.queue.push_back(piece);
    }

    /// The next `len` bytes, if there are as many: a slice if one piece holds them all.
    pub(super) fn take(&mut self, len: usize) -> Option<Bytes> {
        if len > self.len {
            return None;
        }
        self.len -= len;
        if let Some(front) = self.queue.front_mut()
            && front.len() >= len
        {
            return Some(front.split_to(len));
        }
        let mut out = BytesMut::with_capacity(len);
        while out.len() < len {
            let mut piece = self.queue.pop_front()?;
            out.extend_from_slice(&piece.split_to(piece.len().min(len - out.len())));
            if !piece.is_empty() {
                self.queue.push_front(piece);
            }
        }
        Some(out.freeze())
    }

    /// Everything that is left.
    pub(super) fn take_all(&mut self) -> Bytes {
        self.take(self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_taken_do_not_depend_on_sizes_pushed() {
        for size in 1..12 {
            let mut pieces = Pieces::default();
            for piece in b"abcdefghijk".chunks(size) {
                pieces.push(Bytes::copy_from_slice(piece));
            }
            assert_eq!(pieces.take(12), None);
            assert_eq!(pieces.take(0).as_deref(), Some(&b""[..]));
            assert_eq!(pieces.take(4).as_deref(), Some(&b"abcd"[..]));
            assert_eq!(pieces.take(1).as_deref(), Some(&b"e"[..]));
            assert_eq!((pieces.len(), &pieces.take_all()[..]), (6, &b"fghijk"[..]));
            assert_eq!((pieces.len(), pieces.take(1)), (0, None));
        }
    }
}
