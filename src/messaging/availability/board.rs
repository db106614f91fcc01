//! What was announced and who is told of it: which updates and notices are news, and which connected peers
//! are told what, when. A notice of a peer is never passed on. Pure.

use std::{collections::VecDeque, sync::Arc};

use libp2p::PeerId;

use super::{
    AUTHOR_FLOW, INTERVAL, MAX_AUTHORS, MAX_LISTENERS, MAX_PENDING, MAX_SEEN, MAX_TELLING,
    MAX_TRIES, NEIGHBOUR_FLOW, NEWS_FOR, TOTAL_FLOW,
    message::{MAX_BATCH, Notice},
};
use crate::{
    boxmap::BoxMap,
    messaging::topics::rate::{Meter, Meters},
    platform::time::Duration,
};

#[derive(Debug)]
pub struct Board {
    /// Heard on topics, where the author is proven.
    heard: Seen,
    /// Told by neighbours, whose word it is.
    claimed: Seen,
    authors: Meters,
    neighbours: Meters,
    total: Meter,
    listeners: BoxMap<PeerId, Listener>,
    telling: usize,
}

/// A connected peer that speaks the protocol.
#[derive(Debug, Default)]
struct Listener {
    /// What it is to be told, the oldest first.
    pending: VecDeque<Arc<Notice>>,
    /// What it is being told.
    telling: Option<Vec<Arc<Notice>>>,
    not_before: Duration,
    /// Attempts in a row that failed.
    failed: u32,
    /// Left while it was told.
    gone: bool,
}

/// What is no news any more, and until when.
#[derive(Debug, Default)]
struct Seen(BoxMap<Notice, Duration>);

impl Board {
    pub fn new(now: Duration) -> Self {
        Self {
            heard: Seen::default(),
            claimed: Seen::default(),
            authors: Meters::new(AUTHOR_FLOW, MAX_AUTHORS),
            neighbours: Meters::new(NEIGHBOUR_FLOW, MAX_AUTHORS),
            total: Meter::new(TOTAL_FLOW, now),
            listeners: BoxMap::new(),
            telling: 0,
        }
    }

    /// A peer that speaks the protocol is connected. Says nothing new of one that was.
    pub fn connected(&mut self, peer: PeerId) {
        if self.listeners.len() < MAX_LISTENERS || self.listeners.contains_key(&peer) {
            self.listeners.entry(peer).or_default().gone = false;
        }
    }

    /// Those who are not `connected` any more have left.
    pub fn retain(&mut self, connected: &dyn Fn(&PeerId) -> bool) {
        self.listeners.retain(|peer, listener| {
            if connected(peer) {
                return true;
            }
            listener.pending.clear();
            listener.gone = true;
            listener.telling.is_some()
        });
    }

    /// `notice.source` has published it on a topic. Whether it is news, and not too much; then those who
    /// did not hear it are [told](Self::pass_on).
    pub fn heard(&mut self, notice: Notice, now: Duration) -> bool {
        if self.heard.is_known(&notice, now) {
            return false;
        }
        let taken = self.authors.take(notice.source, 0, now) && self.total.take(TOTAL_FLOW, 0, now);
        if taken {
            self.heard.note(notice, now);
        }
        taken
    }

    /// Puts what was heard on a topic down for the connected peers. `members` are on the topic themselves.
    pub fn pass_on(&mut self, notice: Notice, members: &[PeerId]) {
        let shared = Arc::new(notice);
        for (peer, listener) in &mut self.listeners {
            if listener.gone || *peer == notice.source || members.contains(peer) {
                continue;
            }
            listener.put(shared.clone());
        }
    }

    /// Whether a stream of `neighbour` is read now; each takes of its allowance.
    pub fn admit(&mut self, neighbour: PeerId, now: Duration) -> bool {
        self.neighbours.take(neighbour, 0, now)
    }

    /// `neighbour` says so. What of it is news for the app; it goes nowhere else.
    pub fn told_by(
        &mut self,
        neighbour: PeerId,
        notices: Vec<Notice>,
        now: Duration,
    ) -> Vec<Notice> {
        let mut news = Vec::new();
        for notice in notices {
            if let Some(listener) = self.listeners.get_mut(&neighbour) {
                // It need not be told what it knows.
                listener.pending.retain(|pending| **pending != notice);
            }
            let known = self.heard.is_known(&notice, now) || self.claimed.is_known(&notice, now);
            if !known && self.admit(neighbour, now) {
                self.claimed.note(notice, now);
                news.push(notice);
            }
        }
        news
    }

    /// Who is to be told what, now. Each must be answered with [`told`](Self::told).
    pub fn due(&mut self, now: Duration) -> Vec<(PeerId, Vec<Arc<Notice>>)> {
        let mut due = Vec::new();
        for (peer, listener) in &mut self.listeners {
            if self.telling >= MAX_TELLING {
                break;
            }
            if listener.due().is_some_and(|at| at <= now) {
                let batch = listener.pending.len().min(MAX_BATCH);
                let batch: Vec<_> = listener.pending.drain(..batch).collect();
                listener.telling = Some(batch.clone());
                self.telling += 1;
                due.push((*peer, batch));
            }
        }
        due
    }

    /// What became of telling `peer`.
    pub fn told(&mut self, peer: &PeerId, succeeded: bool, now: Duration) {
        let Some(listener) = self.listeners.get_mut(peer) else { return };
        let Some(batch) = listener.telling.take() else { return };
        self.telling = self.telling.saturating_sub(1);
        if listener.gone {
            self.listeners.remove(peer);
            return;
        }
        listener.not_before = now + INTERVAL;
        listener.failed = if succeeded { 0 } else { listener.failed + 1 };
        if listener.failed >= MAX_TRIES {
            // Whatever is wrong with it, this is old by now.
            listener.failed = 0;
        } else if !succeeded {
            for notice in batch.into_iter().rev() {
                listener.pending.push_front(notice);
            }
            listener.shorten();
        }
    }

    /// When [`due`](Self::due) has somebody next, if nothing else happens.
    pub fn deadline(&self) -> Option<Duration> {
        if self.telling >= MAX_TELLING {
            return None;
        }
        self.listeners.values().filter_map(Listener::due).min()
    }
}

impl Listener {
    fn put(&mut self, notice: Arc<Notice>) {
        self.pending.push_back(notice);
        self.shorten();
    }

    /// The oldest give way.
    fn shorten(&mut self) {
        let excess = self.pending.len().saturating_sub(MAX_PENDING);
        self.pending.drain(..excess);
    }

    fn due(&self) -> Option<Duration> {
        let waits = self.gone || self.telling.is_some() || self.pending.is_empty();
        (!waits).then_some(self.not_before)
    }
}

impl Seen {
    fn is_known(&self, notice: &Notice, now: Duration) -> bool {
        self.0.get(notice).is_some_and(|until| now < *until)
    }

    fn note(&mut self, notice: Notice, now: Duration) {
        if self.0.len() >= MAX_SEEN {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.len() >= MAX_SEEN {
            // What is forgotten may be told once more.
            let oldest = self.0.iter().min_by_key(|(_, until)| **until).map(|(notice, _)| *notice);
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        self.0.insert(notice, now + NEWS_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::block::{RAW, cid_of, sha256};

    const NOW: Duration = Duration::from_secs(100);

    fn notice(n: usize, source: PeerId) -> Notice {
        let hash = cid_of(cid::Version::V1, RAW, &sha256(&n.to_be_bytes()));
        Notice { hash, source }
    }

    fn peers<const N: usize>() -> [PeerId; N] {
        std::array::from_fn(|_| PeerId::random())
    }

    fn board(listeners: &[PeerId]) -> Board {
        let mut board = Board::new(NOW);
        listeners.iter().for_each(|peer| board.connected(*peer));
        board
    }

    /// Who is told how much, and all of it arrives.
    fn tell(board: &mut Board, now: Duration) -> Vec<(PeerId, usize)> {
        let due = board.due(now);
        due.iter().for_each(|(peer, _)| board.told(peer, true, now));
        due.into_iter().map(|(peer, batch)| (peer, batch.len())).collect()
    }

    #[test]
    fn an_update_is_news_once_and_those_who_did_not_hear_it_are_told() {
        let [author, member, other] = peers();
        let mut board = board(&[author, member, other]);
        assert_eq!((board.deadline(), board.due(NOW)), (None, vec![]));
        let update = notice(1, author);
        assert!(board.heard(update, NOW));
        board.pass_on(update, &[member]);
        assert_eq!(board.deadline(), Some(Duration::ZERO));
        assert_eq!(board.due(NOW), [(other, vec![Arc::new(update)])]);
        board.told(&other, true, NOW);
        assert!(!board.heard(update, NOW + NEWS_FOR / 2), "it is known");
        assert!(board.heard(notice(1, member), NOW), "somebody else says it");
        assert!(board.heard(notice(2, author), NOW), "it is something else");
        assert!(board.heard(update, NOW + NEWS_FOR), "it is so long ago that it is said again");
        assert_eq!(board.deadline(), None);
    }

    #[test]
    fn what_a_neighbour_says_is_for_the_app_only() {
        let [author, neighbour, other] = peers();
        let mut board = board(&[neighbour, other]);
        let claim = notice(1, author);
        assert_eq!(board.told_by(neighbour, vec![claim, claim], NOW), [claim]);
        assert_eq!(board.told_by(other, vec![claim], NOW), []);
        assert_eq!((board.deadline(), board.due(NOW)), (None, vec![]));
        // The author itself says it: that is worth more than a claim, and goes on.
        assert!(board.heard(claim, NOW));
        board.pass_on(claim, &[]);
        assert_eq!(board.told_by(other, vec![claim], NOW), [], "it was heard");
        assert_eq!(tell(&mut board, NOW), [(neighbour, 1)], "the other has just said it");
    }

    #[test]
    fn a_neighbour_is_told_in_batches_with_a_pause_between() {
        let [author, neighbour] = peers();
        let mut board = board(&[neighbour]);
        for n in 0..MAX_BATCH + 3 {
            board.pass_on(notice(n, author), &[]);
        }
        let due = board.due(NOW);
        assert_eq!(due[0].1.len(), MAX_BATCH);
        assert_eq!((board.due(NOW), board.deadline()), (vec![], None), "it is being told");
        board.told(&neighbour, true, NOW);
        assert_eq!(board.deadline(), Some(NOW + INTERVAL));
        assert_eq!(board.due(NOW), []);
        assert_eq!(tell(&mut board, NOW + INTERVAL), [(neighbour, 3)]);
    }

    #[test]
    fn what_could_not_be_told_is_told_again_a_few_times_and_in_order() {
        let [author, neighbour] = peers();
        let mut board = board(&[neighbour]);
        board.pass_on(notice(0, author), &[]);
        for n in 1..=MAX_TRIES {
            let at = NOW + INTERVAL * n;
            let due = board.due(at);
            assert_eq!(due[0].1.first().map(|first| first.hash), Some(notice(0, author).hash));
            assert_eq!(due[0].1.len(), n as usize);
            board.pass_on(notice(n as usize, author), &[]);
            board.told(&neighbour, false, at);
        }
        // All that was tried is given up; what came meanwhile is not.
        assert_eq!(tell(&mut board, NOW * 2), [(neighbour, 1)]);
        assert_eq!(board.deadline(), None);
    }

    #[test]
    fn who_leaves_is_told_no_more_and_who_comes_back_only_what_is_new() {
        let [author, neighbour] = peers();
        let mut board = board(&[neighbour]);
        board.pass_on(notice(1, author), &[]);
        board.retain(&|_| false);
        assert_eq!((board.due(NOW), board.listeners.len()), (vec![], 0));
        board.connected(neighbour);
        assert_eq!(board.due(NOW), []);
        // Left, and back, while it is told.
        board.pass_on(notice(2, author), &[]);
        assert_eq!(board.due(NOW).len(), 1);
        board.retain(&|_| false);
        board.pass_on(notice(3, author), &[]);
        board.connected(neighbour);
        board.told(&neighbour, false, NOW);
        assert_eq!(tell(&mut board, NOW + INTERVAL), [(neighbour, 1)]);
        // Left for good.
        board.pass_on(notice(4, author), &[]);
        assert_eq!(board.due(NOW * 2).len(), 1);
        board.retain(&|_| false);
        board.told(&neighbour, true, NOW * 2);
        assert_eq!((board.listeners.len(), board.telling), (0, 0));
    }

    #[test]
    fn an_author_who_floods_is_cut_and_others_are_not() {
        let [flooder, other] = peers();
        let mut board = board(&[]);
        let taken = (0..5000).filter(|n| board.heard(notice(*n, flooder), NOW)).count();
        assert_eq!(taken, AUTHOR_FLOW.messages.burst as usize);
        assert!(board.heard(notice(0, other), NOW));
        let later = NOW + Duration::from_secs(1);
        let taken = (5000..9000).filter(|n| board.heard(notice(*n, flooder), later)).count();
        assert_eq!(taken, AUTHOR_FLOW.messages.per_second as usize);
        // Nor are many authors heard more than all may say.
        let taken = (0..9000).filter(|n| board.heard(notice(*n, PeerId::random()), later)).count();
        assert!(taken <= TOTAL_FLOW.messages.burst as usize, "{taken}");
    }

    #[test]
    fn a_neighbour_who_floods_is_cut_and_all_that_is_kept_is_bounded() {
        let [neighbour, author] = peers();
        let crowd: Vec<PeerId> = (0..MAX_LISTENERS + 9).map(|_| PeerId::random()).collect();
        let mut board = board(&crowd);
        let mut told = 0;
        for n in 0..200 {
            if board.admit(neighbour, NOW) {
                let batch = (0..MAX_BATCH).map(|m| notice(n * MAX_BATCH + m, author)).collect();
                told += board.told_by(neighbour, batch, NOW).len();
            }
        }
        assert!(told <= NEIGHBOUR_FLOW.messages.burst as usize, "{told}");
        let minute = Duration::from_secs(60);
        for n in 0..3 * MAX_SEEN {
            let (hint, now) = (notice(n, PeerId::random()), NOW + minute * n as u32);
            assert!(board.heard(hint, now));
            board.claimed.note(hint, now);
            board.pass_on(hint, &[]);
            board.admit(hint.source, now);
        }
        assert_eq!(board.listeners.len(), MAX_LISTENERS);
        let pending = board.listeners.values().map(|listener| listener.pending.len());
        assert_eq!(pending.max(), Some(MAX_PENDING));
        assert!(board.heard.0.len() <= MAX_SEEN && board.claimed.0.len() <= MAX_SEEN);
        assert!(
            board.authors.remembered() <= MAX_AUTHORS
                && board.neighbours.remembered() <= MAX_AUTHORS
        );
    }

    #[test]
    fn with_all_places_taken_the_oldest_is_forgotten() {
        let author = PeerId::random();
        let mut seen = Seen::default();
        for n in 0..MAX_SEEN + 2 {
            seen.note(notice(n, author), NOW + Duration::from_millis(n as u64));
        }
        let known: Vec<bool> =
            [0, 1, 2, MAX_SEEN + 1].map(|n| seen.is_known(&notice(n, author), NOW)).into();
        assert_eq!((known, seen.0.len()), (vec![false, false, true, true], MAX_SEEN));
    }

    #[test]
    fn few_are_told_at_a_time() {
        let crowd: Vec<PeerId> = (0..2 * MAX_TELLING).map(|_| PeerId::random()).collect();
        let mut board = board(&crowd);
        board.pass_on(notice(1, PeerId::random()), &[]);
        let first = board.due(NOW);
        assert_eq!((first.len(), board.deadline(), board.due(NOW).len()), (MAX_TELLING, None, 0));
        board.told(&first[0].0, true, NOW);
        assert_eq!(board.due(NOW).len(), 1);
    }
}
