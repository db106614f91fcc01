//! Content-addressed data, pure: no I/O, no clock, no async. What needs a block asks for it by
//! returning its CID; what makes blocks hands them out.

pub mod block;
pub mod dagpb;
pub mod unixfs;
pub mod varint;
