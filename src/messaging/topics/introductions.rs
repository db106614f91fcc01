//! Who on a topic is told about whom ([`super::exchange`]). Pure: who is there and the time in, decisions
//! out.
//!
//! Relays tell their clients of each other, so there is nothing to say as long as one relay names
//! everybody. But somebody at one relay does not know who is at another, nor who is at none: whoever knows
//! both tells them, at whichever relay they are. Direct neighbours tell each other once at any rate: who
//! else they know shows only then.

use libp2p::PeerId;

use super::{
    exchange::MAX_NAMED,
    presence::{Presence, Source},
};
use crate::boxmap::BoxMap;
use crate::platform::time::Duration;

/// Exchanges that we begin at a time, on all topics together.
pub const MAX_EXCHANGES: usize = 4;
/// How long somebody must be there before we begin an exchange with a neighbour,
pub const NEIGHBOUR_SETTLE: Duration = Duration::from_millis(500);
/// and with somebody else: a relay may be about to name them. So long, too, one neighbour leaves it to the
/// other to begin.
pub const SETTLE: Duration = Duration::from_secs(3);
/// The shortest pause between two exchanges with the same peer; doubles when one fails, up to
/// [`RENEW`].
pub const INTERVAL: Duration = Duration::from_secs(30);
/// When neighbours ask each other again although there is nothing to tell.
pub const RENEW: Duration = Duration::from_secs(10 * 60);
/// The shortest pause between two looks at who is there.
const LOOK: Duration = Duration::from_secs(1);

/// An exchange to begin; to be answered by [`Introductions::done`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    pub peer: PeerId,
    /// Whom it is told about.
    pub others: Vec<PeerId>,
}

/// What an exchange with somebody takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It is connected, and speaks the protocol.
    Connected,
    /// It has to be dialled first.
    Dial,
}

/// How much may begin now.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub exchanges: usize,
    /// When the next one may begin whose peer has to be dialled; one at each look.
    pub dial_at: Duration,
}

/// The exchanges about one topic.
#[derive(Debug, Default)]
pub struct Introductions {
    /// The state of the presence that was looked at last, and when.
    looked: Option<(u64, Duration)>,
    next: Option<Duration>,
    met: BoxMap<PeerId, Met>,
}

#[derive(Debug)]
struct Met {
    since: Duration,
    /// When the last exchange was.
    last: Option<Duration>,
    /// What it told.
    told: u64,
    failures: u32,
    running: bool,
}

impl Introductions {
    /// What to begin now. `reach`: how a peer that may understand us is reached.
    pub fn due(
        &mut self,
        presence: &Presence,
        own: PeerId,
        reach: impl Fn(PeerId) -> Option<Reach>,
        may: Allowance,
        now: Duration,
    ) -> Vec<Introduction> {
        let mut due = Vec::new();
        if self.next_wake(presence).is_none_or(|at| at > now) {
            return due;
        }
        self.looked = Some((presence.revision(), now));
        self.next = None;
        let mut dial_at = may.dial_at;
        self.met.retain(|peer, _| presence.contains(*peer));
        for (relays, members) in groups(presence) {
            let strangers = strangers(presence, &relays);
            for peer in members {
                let neighbour = presence.sources_of(peer).contains(&Source::Itself);
                let others = pick(&strangers, peer, &[]);
                if others.is_empty() && !neighbour {
                    continue;
                }
                let Some(reach) = reach(peer) else { continue };
                let new = || Met { since: now, last: None, told: 0, failures: 0, running: false };
                let met = self.met.entry(peer).or_insert_with(new);
                let Some(at) = met.due_at(neighbour, own < peer, fingerprint(&others)) else {
                    continue;
                };
                let at = if reach == Reach::Dial { at.max(dial_at) } else { at };
                let full = due.len() >= may.exchanges;
                if at > now || full {
                    // Who ends makes room, of whatever topic; it is looked at that with the next.
                    let at = if full { at.max(now + LOOK) } else { at };
                    self.next = Some(self.next.map_or(at, |next| next.min(at)));
                } else {
                    if reach == Reach::Dial {
                        dial_at = now + LOOK;
                    }
                    met.running = true;
                    met.told = fingerprint(&others);
                    due.push(Introduction { peer, others });
                }
            }
        }
        due
    }

    /// An exchange that we began has ended.
    pub fn done(&mut self, peer: PeerId, succeeded: bool, now: Duration) {
        let Some(met) = self.met.get_mut(&peer) else { return };
        met.running = false;
        met.last = Some(now);
        if succeeded {
            met.failures = 0;
        } else {
            met.failures = met.failures.saturating_add(1);
            met.told = 0;
        }
        // There may be more to tell by now.
        self.looked = self.looked.map(|(_, at)| (u64::MAX, at));
    }

    /// `peer` has begun an exchange and named these: whom to tell it about.
    pub fn answer(
        &mut self,
        presence: &Presence,
        peer: PeerId,
        named: &[PeerId],
        now: Duration,
    ) -> Vec<PeerId> {
        let relays = relays(presence.sources_of(peer));
        let others = pick(&strangers(presence, &relays), peer, named);
        if presence.contains(peer) {
            let told = fingerprint(&pick(&strangers(presence, &relays), peer, &[]));
            let new = || Met { since: now, last: None, told, failures: 0, running: false };
            let met = self.met.entry(peer).or_insert_with(new);
            (met.last, met.told) = (Some(now), told);
        }
        others
    }

    pub fn next_wake(&self, presence: &Presence) -> Option<Duration> {
        match self.looked {
            None if presence.is_empty() => None,
            None => Some(Duration::ZERO),
            Some((revision, at)) if revision != presence.revision() => Some(at + LOOK),
            Some(_) => self.next,
        }
    }
}

impl Met {
    /// When the next exchange is due, if there is this to tell; `None`: not before something changes.
    fn due_at(&self, neighbour: bool, first: bool, tells: u64) -> Option<Duration> {
        if self.running {
            return None;
        }
        let Some(last) = self.last else {
            let settle = if neighbour && first { NEIGHBOUR_SETTLE } else { SETTLE };
            return Some(self.since + settle);
        };
        let pause = INTERVAL.saturating_mul(1 << self.failures.min(8)).min(RENEW);
        if self.failures > 0 || (tells != self.told && tells != NOTHING) {
            Some(last + pause)
        } else {
            neighbour.then_some(last + RENEW)
        }
    }
}

/// The relays that name somebody, sorted.
fn relays(sources: &[Source]) -> Vec<PeerId> {
    let mut relays: Vec<PeerId> = sources.iter().filter_map(Source::relay).collect();
    relays.sort_unstable();
    relays
}

/// Those who are there, by the relays that name them.
fn groups(presence: &Presence) -> Vec<(Vec<PeerId>, Vec<PeerId>)> {
    let mut groups: Vec<(Vec<PeerId>, Vec<PeerId>)> = Vec::new();
    // Of whom nobody speaks any more, nobody knows the way to either.
    for (peer, sources) in presence.sources().filter(|(_, sources)| !sources.is_empty()) {
        let relays = relays(sources);
        match groups.iter_mut().find(|(known, _)| *known == relays) {
            Some((_, members)) => members.push(peer),
            None => groups.push((relays, vec![peer])),
        }
    }
    groups
}

/// Those whom none of these relays names, in the order of their ids.
fn strangers(presence: &Presence, relays: &[PeerId]) -> Vec<PeerId> {
    let names = |source: &Source| matches!(source, Source::Relay(relay) if relays.contains(relay));
    let unknown = presence.sources().filter(|(_, sources)| !sources.iter().any(names));
    unknown.map(|(peer, _)| peer).collect()
}

/// Whom to tell `peer` about: others for each, so that the crowd as a whole hears of everybody.
fn pick(strangers: &[PeerId], peer: PeerId, named: &[PeerId]) -> Vec<PeerId> {
    let start = strangers.partition_point(|stranger| *stranger < peer);
    let (before, after) = strangers.split_at(start);
    let others = after.iter().chain(before).copied();
    others.filter(|other| *other != peer && !named.contains(other)).take(MAX_NAMED).collect()
}

/// That of nobody.
const NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: it is compared with what we made ourselves.
fn fingerprint(peers: &[PeerId]) -> u64 {
    let bytes = peers.iter().flat_map(|peer| peer.to_bytes());
    bytes.fold(NOTHING, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
