//! What chance does to the network.

/// What goes wrong, how often.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    pub cuts: usize,
    pub outages: usize,
    /// Streams that swallow everything from then on.
    pub stalls: usize,
    pub reloads: usize,
    pub stops: usize,
    /// Percent.
    pub lost_acks: u64,
    /// Milliseconds that the app takes for a message at most.
    pub slow_app: u64,
    /// Streams that bring nothing.
    pub spurious_streams: usize,
}
