//! The contract between the peer and where it runs, and its two implementations: a browser
//! ([`web`]) and a native process ([`native`]). Nothing else in the crate asks which one it is.

#[cfg(not(target_family = "wasm"))]
pub mod native;
#[cfg(target_family = "wasm")]
pub mod web;

#[cfg(not(target_family = "wasm"))]
use native as imp;
#[cfg(target_family = "wasm")]
use web as imp;

pub mod carrier;
pub mod database;
pub mod gather;
pub mod http;
pub mod memory;
pub mod nearby;
pub mod one_way;
pub mod tabs;
pub mod task;
pub mod transport;
pub mod yamux;

/// Futures and timers that work on both: tokio's natively, the page's event loop in a browser.
pub use n0_future::{
    boxed::{BoxFuture, BoxStream},
    time,
};

/// SHA-256 of `data`, off the calling thread where the platform can: WebCrypto in a browser for
/// 16 KiB and more.
pub use imp::sha256;

/// An exclusive lock by name: across the tabs of an origin in a browser, within the process natively.
pub use imp::Lock;

/// Finds peers that nobody has named; see [`nearby`].
pub use imp::Finder;

/// Locks cannot be had here at all; that another holds one is not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lock {name:?} could not be asked for: {reason}")]
pub struct LockError {
    pub name: String,
    pub reason: String,
}
/// Which transports there are here.
pub use carrier::{Carrier, Dialer, is_local};
/// HTTP GET, whole and bounded or as a stream.
pub use http::{http_get, http_stream};
pub use imp::dialer;
/// How the swarm runs its tasks here.
pub use imp::swarm_config;
/// The time since 1970, for what is dated by others. To measure, use [`time`].
pub use imp::unix_time;

/// `Send` where threads exist, nothing in a browser.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_family = "wasm"))]
impl<T: Send> MaybeSend for T {}
#[cfg(target_family = "wasm")]
pub trait MaybeSend {}
#[cfg(target_family = "wasm")]
impl<T> MaybeSend for T {}

/// `Sync` where threads exist, nothing in a browser.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSync: Sync {}
#[cfg(not(target_family = "wasm"))]
impl<T: Sync> MaybeSync for T {}
#[cfg(target_family = "wasm")]
pub trait MaybeSync {}
#[cfg(target_family = "wasm")]
impl<T> MaybeSync for T {}
