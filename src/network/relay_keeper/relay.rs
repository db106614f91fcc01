//! One relay of the keeper.

use std::collections::VecDeque;

use libp2p::{Multiaddr, PeerId};

use super::{
    ATTEMPT_TIMEOUT, HEAD_START, MAX_ADDRESSES, MAX_BACKOFF, MIN_BACKOFF, RelayAction, RelayEvent,
    RelayIndex, RelayTarget, STABLE_AFTER,
};
use crate::platform::time::Duration;
use crate::random::Random;

#[derive(Debug)]
pub(super) struct Relay {
    target: RelayTarget,
    /// Who the relay is, as far as it was learned.
    pub(super) known: Option<PeerId>,
    /// From the last record that could be fetched.
    recorded: Vec<Multiaddr>,
    pub(super) phase: Phase,
    attempt: u32,
    pub(super) failures: u32,
}

#[derive(Debug)]
pub(super) enum Phase {
    Waiting { until: Duration, reason: Option<String> },
    Resolving { deadline: Duration },
    Dialing { remaining: VecDeque<Multiaddr>, in_flight: u32, next: Duration, deadline: Duration },
    Reserving { peer: PeerId, address: Multiaddr, deadline: Duration },
    Reserved { peer: PeerId, address: Multiaddr, since: Duration },
    Failed { reason: String },
}

impl Relay {
    pub(super) fn new(target: RelayTarget) -> Self {
        let known = match &target {
            RelayTarget::Address { peer, .. } => *peer,
            RelayTarget::Record { .. } | RelayTarget::Unusable { .. } => None,
        };
        let (phase, failures) = match &target {
            RelayTarget::Unusable { reason } => (Phase::Failed { reason: reason.clone() }, 1),
            _ => (Phase::Waiting { until: Duration::ZERO, reason: None }, 0),
        };
        Self { target, known, recorded: Vec::new(), phase, attempt: 0, failures }
    }

    pub(super) fn wake(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Resolving { deadline } | Phase::Reserving { deadline, .. } => Some(*deadline),
            Phase::Dialing { remaining, next, deadline, .. } => {
                Some(if remaining.is_empty() { *deadline } else { (*next).min(*deadline) })
            }
            Phase::Reserved { .. } | Phase::Failed { .. } => None,
        }
    }

    pub(super) fn is_trying(&self) -> bool {
        matches!(
            self.phase,
            Phase::Waiting { .. } | Phase::Resolving { .. } | Phase::Dialing { .. }
        )
    }

    pub(super) fn tick(
        &mut self,
        index: RelayIndex,
        now: Duration,
        random: &mut Random,
        actions: &mut Vec<RelayAction>,
    ) {
        match &mut self.phase {
            Phase::Waiting { .. } => self.begin(index, now, random, actions),
            Phase::Resolving { .. } => {
                self.resolved(index, Err("its record did not come".into()), now, random, actions);
            }
            Phase::Dialing { deadline, .. } if *deadline <= now => {
                self.fail(format!("no connection after {ATTEMPT_TIMEOUT:?}"), now, random);
            }
            Phase::Dialing { .. } => self.dial_next(index, now, actions),
            Phase::Reserving { peer, .. } => {
                // Not only the listener: libp2p-relay 0.22 panics when an answer comes for a
                // reservation whose listener was removed.
                actions.push(RelayAction::Disconnect { peer: *peer });
                self.fail(format!("no reservation after {ATTEMPT_TIMEOUT:?}"), now, random);
            }
            Phase::Reserved { .. } | Phase::Failed { .. } => {}
        }
    }

    pub(super) fn handle(
        &mut self,
        index: RelayIndex,
        event: RelayEvent,
        now: Duration,
        random: &mut Random,
        actions: &mut Vec<RelayAction>,
    ) {
        match event {
            RelayEvent::Record(result) => {
                if matches!(self.phase, Phase::Resolving { .. }) {
                    self.resolved(index, result, now, random, actions);
                }
            }
            RelayEvent::Connected { peer, address, connection, shared } => match self.phase {
                Phase::Reserving { .. } | Phase::Reserved { .. } if shared => {}
                Phase::Reserving { .. } | Phase::Reserved { .. } => {
                    actions.push(RelayAction::CloseConnection { connection });
                }
                // A dial may succeed just after its attempt was given up: take it.
                Phase::Waiting { .. } | Phase::Resolving { .. } | Phase::Dialing { .. } => {
                    self.known = Some(peer);
                    let deadline = now + ATTEMPT_TIMEOUT;
                    self.phase = Phase::Reserving { peer, address: address.clone(), deadline };
                    actions.push(RelayAction::Listen { relay: index, peer, address });
                }
                Phase::Failed { .. } => {}
            },
            RelayEvent::DialFailed { attempt, reason } => {
                let Phase::Dialing { remaining, in_flight, .. } = &mut self.phase else { return };
                if attempt != self.attempt {
                    return;
                }
                *in_flight = in_flight.saturating_sub(1);
                if !remaining.is_empty() {
                    self.dial_next(index, now, actions);
                } else if *in_flight == 0 {
                    self.fail(reason, now, random);
                }
            }
            RelayEvent::Reserved => {
                if let Phase::Reserving { peer, address, .. } = &self.phase {
                    self.phase =
                        Phase::Reserved { peer: *peer, address: address.clone(), since: now };
                }
            }
            RelayEvent::ReservationLost { reason } | RelayEvent::Disconnected { reason } => {
                match self.phase {
                    Phase::Reserved { since, .. } => {
                        if now.saturating_sub(since) >= STABLE_AFTER {
                            self.failures = 0;
                        }
                        self.fail(reason, now, random);
                    }
                    Phase::Reserving { .. } => self.fail(reason, now, random),
                    _ => {}
                }
            }
        }
    }

    /// This relay turned out to be one that is connected under another name.
    pub(super) fn yield_to_twin(
        &mut self,
        event: RelayEvent,
        now: Duration,
        random: &mut Random,
        actions: &mut Vec<RelayAction>,
    ) {
        let RelayEvent::Connected { peer, connection, shared, .. } = event else { return };
        self.known = Some(peer);
        if !shared {
            actions.push(RelayAction::CloseConnection { connection });
        }
        self.fail(format!("it is {peer}, which is connected as another relay"), now, random);
    }

    pub(super) fn begin(
        &mut self,
        index: RelayIndex,
        now: Duration,
        random: &mut Random,
        actions: &mut Vec<RelayAction>,
    ) {
        self.attempt = self.attempt.wrapping_add(1);
        match &self.target {
            RelayTarget::Address { address, .. } => {
                let addresses = vec![address.clone()];
                self.dial(index, addresses, now, random, actions);
            }
            RelayTarget::Record { url } => {
                actions.push(RelayAction::FetchRecord { relay: index, url: url.clone() });
                self.phase = Phase::Resolving { deadline: now + ATTEMPT_TIMEOUT };
            }
            RelayTarget::Unusable { .. } => {}
        }
    }

    /// Goes on with the record's addresses, or with the last record's if this one did not come.
    fn resolved(
        &mut self,
        index: RelayIndex,
        result: Result<(PeerId, Vec<Multiaddr>), String>,
        now: Duration,
        random: &mut Random,
        actions: &mut Vec<RelayAction>,
    ) {
        match result {
            Ok((peer, addresses)) => {
                self.known = Some(peer);
                self.recorded = addresses;
                self.recorded.truncate(MAX_ADDRESSES);
            }
            Err(reason) if self.recorded.is_empty() => return self.fail(reason, now, random),
            Err(_) => {}
        }
        self.dial(index, self.recorded.clone(), now, random, actions);
    }

    fn dial(
        &mut self,
        index: RelayIndex,
        addresses: Vec<Multiaddr>,
        now: Duration,
        random: &mut Random,
        actions: &mut Vec<RelayAction>,
    ) {
        if addresses.is_empty() {
            let reason = "none of its addresses can be dialled from here".into();
            return self.fail(reason, now, random);
        }
        self.phase = Phase::Dialing {
            remaining: addresses.into(),
            in_flight: 0,
            next: now,
            deadline: now + ATTEMPT_TIMEOUT,
        };
        self.dial_next(index, now, actions);
    }

    fn dial_next(&mut self, index: RelayIndex, now: Duration, actions: &mut Vec<RelayAction>) {
        let Phase::Dialing { remaining, in_flight, next, .. } = &mut self.phase else { return };
        let Some(address) = remaining.pop_front() else { return };
        *in_flight += 1;
        *next = now + HEAD_START;
        let (attempt, peer) = (self.attempt, self.known);
        actions.push(RelayAction::Dial { relay: index, attempt, peer, address });
    }

    fn fail(&mut self, reason: String, now: Duration, random: &mut Random) {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let pause = MIN_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF);
        // Half of it is random, so that the peers of a relay that restarts do not come all at once.
        let until = now + pause.mul_f64(0.5 + 0.5 * random.fraction());
        self.phase = Phase::Waiting { until, reason: Some(reason) };
    }
}
