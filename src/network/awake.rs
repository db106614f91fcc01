//! Notices that this peer was not running for a while: the laptop slept, the tab was frozen. Pure.
//!
//! The clock that timers go by may stand still meanwhile, so it is the time of day that tells. No
//! event of the browser says so in every case: a desktop that wakes fires none in a visible tab.

use crate::platform::time::Duration;

/// Longer than a peer with a connection or something to wait for is quiet: a hidden tab gets one timer
/// a minute, and pings every connection more often than that.
pub const SLEPT_AFTER: Duration = Duration::from_secs(150);

/// When the event loop was last seen at work.
#[derive(Debug, Default)]
pub struct Awake(Option<Duration>);

impl Awake {
    /// Takes the time of day, whenever there is something to do; says whether there was a gap. A clock
    /// that was set forward looks the same, and does no harm.
    pub fn slept(&mut self, time_of_day: Duration) -> bool {
        let last = self.0.replace(time_of_day);
        last.is_some_and(|last| time_of_day.saturating_sub(last) >= SLEPT_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_noticed_once_and_a_hidden_tabs_minute_is_none() {
        let minute = Duration::from_secs(60);
        let mut awake = Awake::default();
        let mut now = Duration::from_secs(1_800_000_000);
        assert!(!awake.slept(now), "the first time is no gap");
        for _ in 0..3 {
            now += 2 * minute;
            assert!(!awake.slept(now));
        }
        now += 60 * minute;
        assert!(awake.slept(now));
        assert!(!awake.slept(now));
        // The clock was set back.
        assert!(!awake.slept(now - 600 * minute));
        assert!(!awake.slept(now - 599 * minute));
    }
}
