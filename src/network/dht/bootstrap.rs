//! Whether the DHT can be asked yet, and the operations that wait until it can. Pure.
//!
//! It can once the routing table has a peer. Until then operations wait, at most [`BOOTSTRAP_TIME`]
//! from the start of the network: after it, and when nobody is left who could turn out to serve the DHT,
//! they run and say that there is none. A peer that serves it may come at any later time.

use std::collections::VecDeque;

use crate::platform::time::Duration;

/// How long operations wait for the DHT after the start.
pub const BOOTSTRAP_TIME: Duration = Duration::from_secs(30);
/// Operations that wait, for the DHT or for their turn.
pub const MAX_WAITING: usize = 128;

/// How this peer stands with the DHT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DhtState {
    /// No peer that serves it is known yet; operations wait.
    #[default]
    Bootstrapping,
    /// The routing table is not empty.
    Ready,
    /// There was none in time. One may still come.
    Unavailable,
}

/// The machine. `T`: an operation.
#[derive(Debug)]
pub struct Bootstrap<T> {
    state: DhtState,
    waiting: VecDeque<T>,
}

impl<T> Default for Bootstrap<T> {
    fn default() -> Self {
        Self { state: DhtState::default(), waiting: VecDeque::new() }
    }
}

impl<T> Bootstrap<T> {
    /// `servers`: there are some in the routing table; `hope`: somebody may still turn out to be one. Time
    /// is counted from the start of the network.
    pub fn look(&mut self, servers: bool, hope: bool, now: Duration) {
        self.state = match (servers, hope && now < BOOTSTRAP_TIME) {
            (true, _) => DhtState::Ready,
            (false, true) => DhtState::Bootstrapping,
            (false, false) => DhtState::Unavailable,
        };
    }

    pub fn state(&self) -> DhtState {
        self.state
    }

    /// When there is something to decide although nothing happens.
    pub fn next_wake(&self) -> Option<Duration> {
        (self.state == DhtState::Bootstrapping).then_some(BOOTSTRAP_TIME)
    }

    /// The operation waits for its turn; it is given back if too many do.
    pub fn push(&mut self, operation: T) -> Result<(), T> {
        if self.is_full() {
            return Err(operation);
        }
        self.waiting.push_back(operation);
        Ok(())
    }

    /// The operation whose turn it is, if it need not wait any longer.
    pub fn pop(&mut self) -> Option<T> {
        match self.state {
            DhtState::Bootstrapping => None,
            DhtState::Ready | DhtState::Unavailable => self.waiting.pop_front(),
        }
    }

    /// Forgets those that nobody waits for any more.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.waiting.retain(keep);
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    fn popped(bootstrap: &mut Bootstrap<u32>) -> Vec<u32> {
        std::iter::from_fn(|| bootstrap.pop()).collect()
    }

    #[test]
    fn operations_wait_until_there_is_a_server_and_run_in_order() {
        let mut bootstrap = Bootstrap::default();
        bootstrap.look(false, true, SOON);
        for n in 0..3 {
            assert_eq!(bootstrap.push(n), Ok(()));
        }
        assert_eq!((popped(&mut bootstrap), bootstrap.state()), (vec![], DhtState::Bootstrapping));
        assert_eq!(bootstrap.next_wake(), Some(BOOTSTRAP_TIME));
        bootstrap.retain(|n| *n != 1);
        bootstrap.look(true, true, SOON);
        assert_eq!(popped(&mut bootstrap), [0, 2]);
        assert_eq!((bootstrap.state(), bootstrap.next_wake()), (DhtState::Ready, None));
        assert!(bootstrap.is_empty());
    }

    #[test]
    fn after_its_time_nothing_waits_and_a_late_server_counts() {
        let mut bootstrap = Bootstrap::default();
        assert_eq!(bootstrap.push(1), Ok(()));
        bootstrap.look(false, true, BOOTSTRAP_TIME - SOON);
        assert_eq!(popped(&mut bootstrap), [0; 0]);
        bootstrap.look(false, true, BOOTSTRAP_TIME);
        assert_eq!((popped(&mut bootstrap), bootstrap.state()), (vec![1], DhtState::Unavailable));
        assert_eq!(bootstrap.next_wake(), None);
        assert_eq!(bootstrap.push(2), Ok(()));
        assert_eq!(popped(&mut bootstrap), [2], "it is not waited for once more");
        bootstrap.look(true, false, 9 * BOOTSTRAP_TIME);
        assert_eq!(bootstrap.state(), DhtState::Ready);
    }

    #[test]
    fn without_hope_nothing_waits() {
        let mut bootstrap = Bootstrap::default();
        assert_eq!(bootstrap.push(1), Ok(()));
        bootstrap.look(false, false, SOON);
        assert_eq!((popped(&mut bootstrap), bootstrap.state()), (vec![1], DhtState::Unavailable));
        // Somebody was dialled who may be one.
        bootstrap.look(false, true, SOON);
        assert_eq!(bootstrap.state(), DhtState::Bootstrapping);
    }

    #[test]
    fn the_number_that_waits_is_bounded() {
        let mut bootstrap = Bootstrap::default();
        let refused: Vec<_> =
            (0..MAX_WAITING + 2).filter_map(|n| bootstrap.push(n).err()).collect();
        assert_eq!(refused, [MAX_WAITING, MAX_WAITING + 1]);
    }
}
