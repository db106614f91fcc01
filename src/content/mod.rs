//! Content-addressed data, pure: no I/O, no clock, no async. What needs a block asks for it by
//! returning its CID; what makes blocks hands them out.

pub mod block;
pub mod car;
pub mod dagpb;
pub mod directory;
pub mod hamt;
pub mod import;
pub mod layout;
pub mod mime;
pub mod path;
pub mod profile;
pub mod read;
pub mod unixfs;
pub mod varint;
pub mod walk;
