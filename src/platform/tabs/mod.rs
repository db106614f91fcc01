//! Tabs of one origin that find each other and talk without any network: the pure parts, by what they
//! hear and what they say. What carries it is a BroadcastChannel (`platform::web::tabs`).
//!
//! A tab holds a lock while it is there, whose name says which tab it is and of which peer. On one
//! channel that all of the origin listen to, it says that it came ([`notice`]); the others then look which
//! locks are held ([`roll`]), and wait for each. The browser grants them when the tab was closed, crashed
//! or let go of it: that is how it is known to be gone, and it cannot be forged.
//!
//! To connect, a tab names a fresh channel, which only the two then listen to, and both speak [`frame`]s
//! on it, each with a window of bytes that may be under way ([`link`]). Above that come Noise and yamux as
//! over any other transport. So the identity of the other end is proven, and a script of the same origin
//! that speaks on these channels is a stranger like any other: it can disturb, as it could by much else
//! (no web page is safe from scripts of its own origin), and it can neither read nor pretend.

pub mod frame;
pub mod link;
pub mod notice;
pub mod roll;

/// Other tabs that a tab knows of at once.
pub const MAX_TABS: usize = 32;
/// Connections that others opened and nobody has taken up yet.
pub const MAX_INCOMING: usize = 32;
/// Connections with one of them.
pub const MAX_CONNECTIONS_PER_TAB: usize = 4;
/// The channel that all tabs listen to. Versions that do not understand each other have other names.
pub const NOTICES: &str = "tabpeer/tabs/1";

/// A tab, or a worker; another one each time a peer is opened or comes back.
pub type Tab = u64;

/// What the channel of a connection is named by. Nobody else chooses the same.
pub type Token = [u8; 16];

/// The channel of a connection.
pub fn channel_name(token: &Token) -> String {
    format!("{NOTICES}/{:032x}", u128::from_be_bytes(*token))
}
