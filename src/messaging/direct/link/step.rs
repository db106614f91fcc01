//! What a link decides.

use bytes::Bytes;

use crate::messaging::direct::value::Value;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::messaging::direct) enum Step {
    /// Open a stream; [`opened`] or [`open_failed`] follows.
    ///
    /// [`opened`]: super::Link::opened
    /// [`open_failed`]: super::Link::open_failed
    Open,
    /// Write a message; [`written`](super::Link::written) follows, or the stream ends.
    WriteData {
        stream: u64,
        seq: u64,
        frame: Bytes,
    },
    WriteAck {
        stream: u64,
        id: String,
    },
    /// Close it when all is written. It is forgotten here.
    Close {
        stream: u64,
    },
    /// It is forgotten here.
    Reset {
        stream: u64,
    },
    /// Hand a message on; [`taken`](super::Link::taken) follows when it was taken.
    Deliver {
        number: u64,
        value: Value,
    },
    /// What became of a message.
    Done {
        seq: u64,
        outcome: Result<(), GivenUp>,
    },
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::messaging::direct) struct GivenUp {
    pub why: Failure,
    /// In a row, the last for the reason given.
    pub attempts: u32,
}

/// Why an attempt came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::messaging::direct) enum Failure {
    Unreachable { reason: String },
    Unsupported,
    Unacknowledged,
}
