//! The chain, pure: which source is asked for which block, and when the next one is (row C1: an
//! ordered, configurable chain of sources; C2: asked in parallel, first success wins, failure only
//! when all fail).
//!
//! Sources stand in stages. A want is asked of all sources of the first stage at once. It goes on to
//! the next stage when all that were asked have said no, or when the whole fetch has not moved for
//! [`ChainConfig::patience`]; then the earlier ones are still welcome to answer. The source that
//! delivered last *leads*: later wants are asked of it alone at first, so that nothing comes twice.

use std::collections::VecDeque;

use cid::Cid;

use crate::boxmap::{BoxMap, BoxSet};
use crate::platform::time::Duration;

/// Blocks wanted at a time; a fetch keeps far below it.
pub const MAX_WANTS: usize = 4096;
/// Sources in one chain.
pub const MAX_SOURCES: usize = 64;
/// Bytes kept of what a source gives as its reason.
const MAX_REASON: usize = 600;

/// A source, by its place in the list that the driver has.
pub type SourceId = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainConfig {
    /// Without any sign of life for this long, the next stage is asked as well.
    pub patience: Duration,
    /// A source that owes blocks and gives no sign of life for this long is left.
    pub source_timeout: Duration,
    /// For the whole fetch.
    pub timeout: Option<Duration>,
}

/// What the driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Comes before the source's first `Ask`.
    Open {
        source: SourceId,
    },
    Ask {
        source: SourceId,
        cids: Vec<Cid>,
    },
    /// They came from elsewhere, or nobody wants them any more.
    Cancel {
        source: SourceId,
        cids: Vec<Cid>,
    },
    /// The source is of no more use.
    Close {
        source: SourceId,
    },
    /// Every source has said no, failed or timed out. They are not wanted any more.
    NotFound {
        cids: Vec<Cid>,
    },
    /// The time for the whole fetch is up. Nothing is wanted any more.
    TimedOut,
}

/// The chain of one fetch. Times are durations since its start.
#[derive(Debug)]
pub struct Chain {
    config: ChainConfig,
    stages: Vec<Vec<SourceId>>,
    sources: BoxMap<SourceId, State>,
    wants: BoxMap<Cid, Want>,
    steps: VecDeque<Step>,
    lead: Option<SourceId>,
    /// When the fetch moved last.
    moved: Duration,
    ended: bool,
}

#[derive(Debug, Default)]
struct State {
    opened: bool,
    closed: bool,
    /// Wants that it has not answered.
    owes: usize,
    /// When it gave the last sign of life, or began to owe.
    alive: Duration,
    reason: Option<String>,
}

#[derive(Debug, Default)]
struct Want {
    /// Who was asked, and whether it still owes an answer.
    asked: BoxMap<SourceId, bool>,
    /// The next stage to ask.
    stage: usize,
    /// When it went to the last one.
    since: Duration,
}

impl Chain {
    /// `stages`: the sources, the first to be asked in front. A source stands in one of them.
    pub fn new(stages: Vec<Vec<SourceId>>, config: ChainConfig) -> Self {
        let ids = stages.iter().flatten().take(MAX_SOURCES);
        let sources = ids.map(|id| (*id, State::default())).collect();
        Self {
            config,
            stages,
            sources,
            wants: BoxMap::new(),
            steps: VecDeque::new(),
            lead: None,
            moved: Duration::ZERO,
            ended: false,
        }
    }

    /// Wants blocks. What is above [`MAX_WANTS`] counts as not found.
    pub fn want(&mut self, cids: &[Cid], now: Duration) {
        if self.ended {
            return;
        }
        let mut step = Batch::default();
        if self.wants.is_empty() {
            self.moved = now;
        }
        for cid in cids {
            if self.wants.contains_key(cid) {
                continue;
            }
            if self.wants.len() >= MAX_WANTS {
                step.not_found.push(*cid);
                continue;
            }
            self.wants.insert(*cid, Want { since: now, ..Want::default() });
            match self.lead {
                Some(lead) => self.ask(*cid, &[lead], now, &mut step),
                None => self.go_on(*cid, now, &mut step),
            }
        }
        self.carry_out(step);
    }

    /// Nobody wants these any more.
    pub fn cancel(&mut self, cids: &[Cid]) {
        let mut step = Batch::default();
        for cid in cids {
            if let Some(want) = self.wants.remove(cid) {
                self.let_go(cid, &want, None, &mut step);
            }
        }
        self.carry_out(step);
    }

    /// `source` delivered `cid`. Says whether it was wanted: the first to deliver wins.
    pub fn received(&mut self, source: SourceId, cid: &Cid, now: Duration) -> bool {
        self.alive(source, now);
        let Some(want) = self.wants.remove(cid) else { return false };
        let mut step = Batch::default();
        self.let_go(cid, &want, Some(source), &mut step);
        let lead_was_asked = self.lead.is_none_or(|lead| want.asked.contains_key(&lead));
        if lead_was_asked && self.sources.get(&source).is_some_and(|state| !state.closed) {
            self.lead = Some(source);
        }
        self.carry_out(step);
        true
    }

    /// A block came from somewhere that is no source of the chain.
    pub fn found_elsewhere(&mut self, cid: &Cid, now: Duration) {
        self.moved = self.moved.max(now);
        self.cancel(std::slice::from_ref(cid));
    }

    /// A sign of life other than a block that was wanted.
    pub fn alive(&mut self, source: SourceId, now: Duration) {
        self.moved = self.moved.max(now);
        if let Some(state) = self.sources.get_mut(&source) {
            state.alive = now;
        }
    }

    /// `source` says that it cannot bring these.
    pub fn missing(&mut self, source: SourceId, cids: &[Cid], reason: &str, now: Duration) {
        let Some(state) = self.sources.get_mut(&source).filter(|state| !state.closed) else {
            return;
        };
        state.alive = now;
        state.reason = Some(cut(reason));
        let mut step = Batch::default();
        for cid in cids {
            self.refuse(source, cid, now, &mut step);
        }
        self.carry_out(step);
    }

    /// `source` is of no use to this fetch any more.
    pub fn failed(&mut self, source: SourceId, reason: &str, now: Duration) {
        let Some(state) = self.sources.get_mut(&source).filter(|state| !state.closed) else {
            return;
        };
        (state.closed, state.reason) = (true, Some(cut(reason)));
        if state.opened {
            self.steps.push_back(Step::Close { source });
        }
        if self.lead == Some(source) {
            self.lead = None;
        }
        let mut step = Batch::default();
        let asked = |(cid, want): (&Cid, &Want)| want.asked.contains_key(&source).then_some(*cid);
        let asked: Vec<Cid> = self.wants.iter().filter_map(asked).collect();
        for cid in asked {
            self.refuse(source, &cid, now, &mut step);
        }
        self.carry_out(step);
    }

    /// Does what is due; see [`Chain::deadline`].
    pub fn tick(&mut self, now: Duration) {
        if self.ended || self.wants.is_empty() {
            return;
        }
        if self.config.timeout.is_some_and(|timeout| now >= timeout) {
            self.ended = true;
            self.wants.clear();
            self.steps.push_back(Step::TimedOut);
            return;
        }
        let limit = self.config.source_timeout;
        let late = |(id, state): (&SourceId, &State)| {
            (!state.closed && state.owes > 0 && now >= state.alive + limit).then_some(*id)
        };
        let late: Vec<SourceId> = self.sources.iter().filter_map(late).collect();
        for source in late {
            self.failed(source, &format!("nothing came for {} s", limit.as_secs_f32()), now);
        }
        let mut step = Batch::default();
        let due = |(cid, want): (&Cid, &Want)| {
            (self.may_go_on(want) && now >= self.moved.max(want.since) + self.config.patience)
                .then_some(*cid)
        };
        let due: Vec<Cid> = self.wants.iter().filter_map(due).collect();
        for cid in due {
            self.go_on(cid, now, &mut step);
        }
        self.carry_out(step);
    }

    /// When [`Chain::tick`] has something to do, if nothing else happens before.
    pub fn deadline(&self) -> Option<Duration> {
        if self.ended || self.wants.is_empty() {
            return None;
        }
        let owing = self.sources.values().filter(|state| !state.closed && state.owes > 0);
        let late = owing.map(|state| state.alive + self.config.source_timeout);
        let waiting = self.wants.values().filter(|want| self.may_go_on(want));
        let due = waiting.map(|want| self.moved.max(want.since) + self.config.patience);
        self.config.timeout.into_iter().chain(late).chain(due).min()
    }

    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Who was asked, and what it said last; `None`: nothing.
    pub fn asked(&self) -> impl Iterator<Item = (SourceId, Option<&str>)> {
        let asked = self.sources.iter().filter(|(_, state)| state.opened);
        asked.map(|(id, state)| (*id, state.reason.as_deref()))
    }

    pub fn is_wanted(&self, cid: &Cid) -> bool {
        self.wants.contains_key(cid)
    }

    pub fn wants(&self) -> usize {
        self.wants.len()
    }

    fn may_go_on(&self, want: &Want) -> bool {
        let rest = self.stages.get(want.stage..).unwrap_or_default();
        rest.iter().flatten().any(|source| self.may_ask(want, source))
    }

    fn may_ask(&self, want: &Want, source: &SourceId) -> bool {
        let open = self.sources.get(source).is_some_and(|state| !state.closed);
        open && !want.asked.contains_key(source)
    }

    /// Asks the next stage that has somebody to ask; without one, the want ends when nobody owes it.
    fn go_on(&mut self, cid: Cid, now: Duration, step: &mut Batch) {
        while let Some(want) = self.wants.get(&cid) {
            let Some(stage) = self.stages.get(want.stage) else {
                if !want.asked.values().any(|owes| *owes) {
                    if let Some(want) = self.wants.remove(&cid) {
                        self.let_go(&cid, &want, None, step);
                    }
                    step.not_found.push(cid);
                }
                return;
            };
            let sources: Vec<SourceId> =
                stage.iter().filter(|source| self.may_ask(want, source)).copied().collect();
            if let Some(want) = self.wants.get_mut(&cid) {
                want.stage += 1;
            }
            if !sources.is_empty() {
                return self.ask(cid, &sources, now, step);
            }
        }
    }

    fn ask(&mut self, cid: Cid, sources: &[SourceId], now: Duration, step: &mut Batch) {
        let Some(want) = self.wants.get_mut(&cid) else { return };
        want.since = now;
        for source in sources {
            let Some(state) = self.sources.get_mut(source) else { continue };
            want.asked.insert(*source, true);
            if !state.opened {
                state.opened = true;
                self.steps.push_back(Step::Open { source: *source });
            }
            if state.owes == 0 {
                state.alive = now;
            }
            state.owes += 1;
            step.ask.entry(*source).or_default().push(cid);
        }
    }

    /// `source` does not bring `cid`.
    fn refuse(&mut self, source: SourceId, cid: &Cid, now: Duration, step: &mut Batch) {
        let Some(want) = self.wants.get_mut(cid) else { return };
        let Some(owes) = want.asked.get_mut(&source).filter(|owes| **owes) else { return };
        *owes = false;
        if let Some(state) = self.sources.get_mut(&source) {
            state.owes = state.owes.saturating_sub(1);
        }
        let left = want.asked.values().any(|owes| *owes);
        if !left {
            self.go_on(*cid, now, step);
        }
    }

    /// A want has ended; all who were asked but `winner` hear of it, those too that have said no:
    /// a source may bring a block later all the same.
    fn let_go(&mut self, cid: &Cid, want: &Want, winner: Option<SourceId>, step: &mut Batch) {
        for (source, owes) in &want.asked {
            let Some(state) = self.sources.get_mut(source) else { continue };
            if *owes {
                state.owes = state.owes.saturating_sub(1);
            }
            if Some(*source) != winner && !state.closed {
                step.cancel.entry(*source).or_default().push(*cid);
            }
        }
    }

    fn carry_out(&mut self, step: Batch) {
        let cancels = step.cancel.into_iter();
        self.steps.extend(cancels.map(|(source, cids)| Step::Cancel { source, cids }));
        // A source may have been closed after the want was written down for it.
        let open: BoxSet<SourceId> =
            self.sources.iter().filter(|(_, state)| !state.closed).map(|(id, _)| *id).collect();
        let asks = step.ask.into_iter().filter(|(source, _)| open.contains(source));
        self.steps.extend(asks.map(|(source, cids)| Step::Ask { source, cids }));
        if !step.not_found.is_empty() {
            self.steps.push_back(Step::NotFound { cids: step.not_found });
        }
    }
}

/// What one call comes to, by source.
#[derive(Debug, Default)]
struct Batch {
    ask: BoxMap<SourceId, Vec<Cid>>,
    cancel: BoxMap<SourceId, Vec<Cid>>,
    not_found: Vec<Cid>,
}

fn cut(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
