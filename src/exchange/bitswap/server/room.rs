//! The memory that answers may take, of all peers together: blocks that are being read from the
//! store, and blocks that were read and wait for a peer to take them.
//!
//! What one peer may have waiting shrinks with what is left (an eighth of it), so that peers which
//! take nothing can never have it all between them: whoever comes next still gets a share.

use super::{Ledger, MAX_OUTSTANDING};
use crate::content::block::MAX_BLOCK;

/// Bytes of blocks for all peers together, read and not sent yet. A tab has some hundred MiB to live
/// in, a relay's link is busy with less; and it is sixteen times what one peer may have.
pub const MAX_HELD: usize = 64 << 20;
/// Bytes that one lookup may have in memory while it reads.
pub const MAX_READ: usize = 16 << 20;
/// One peer may have waiting a part of what is left: one in so many.
const SHARES: usize = 8;

/// Counts what is held.
#[derive(Debug, Default)]
pub struct Room {
    /// Waits to be sent.
    held: usize,
    /// Set aside for lookups that run.
    reading: usize,
}

impl Room {
    /// What one peer may have waiting now.
    pub fn share(&self) -> usize {
        (MAX_HELD.saturating_sub(self.held) / SHARES).min(MAX_OUTSTANDING)
    }

    /// Whether at least one block can be read.
    pub fn has_some(&self) -> bool {
        self.left() >= MAX_BLOCK
    }

    /// Sets aside what reading `blocks` may take. Given back with [`Room::end_reading`].
    pub fn start_reading(&mut self, blocks: usize) -> usize {
        let bytes = blocks.saturating_mul(MAX_BLOCK).min(MAX_READ).min(self.left());
        self.reading += bytes;
        bytes
    }

    pub fn end_reading(&mut self, bytes: usize) {
        self.reading = self.reading.saturating_sub(bytes);
    }

    /// These answers wait for the peer of `ledger`.
    pub fn hold(&mut self, ledger: &mut Ledger, bytes: usize) {
        ledger.outstanding += bytes;
        self.held += bytes;
    }

    /// So much of them was sent, or never will be.
    pub fn release(&mut self, ledger: &mut Ledger, bytes: usize) {
        let bytes = bytes.min(ledger.outstanding);
        ledger.outstanding -= bytes;
        self.held = self.held.saturating_sub(bytes);
    }

    #[cfg(test)]
    pub fn counts(&self) -> (usize, usize) {
        (self.held, self.reading)
    }

    fn left(&self) -> usize {
        MAX_HELD.saturating_sub(self.held + self.reading)
    }
}
