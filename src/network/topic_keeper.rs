//! Keeps topics in the DHT: decides when each is advertised and when its providers are looked
//! for. Pure: events and the time in, decisions out, jitter from a seed.
//!
//! A topic is advertised while it is subscribed to, and this peer itself, so that others find out where it
//! is: when the DHT can be asked and others can reach this peer, again before the record expires, and soon
//! when the addresses in it are no longer true. Providers are looked for on subscribing, when the way is
//! open again after it was not, and ever more seldom while this peer is alone on the topic; when it has
//! company, only now and then: two parties that do not know each other are found in the end, too.

use super::peer_keeper::JITTER;
use crate::boxmap::BoxMap;
use crate::platform::time::Duration;
use crate::random::Random;

/// Queries under way at a time.
pub const MAX_TOPIC_QUERIES: usize = 8;
/// After how long a topic is advertised again. Records live for a day (our relay) or two (Kubo,
/// js-libp2p); those of the servers that come nearer to the key meanwhile have none.
pub const ADVERTISE_INTERVAL: Duration = Duration::from_secs(3 * 3600);
/// The same when it did not succeed.
pub const ADVERTISE_RETRY: Duration = Duration::from_secs(60);
/// How long addresses that have changed are waited for to settle.
pub const ADDRESSES_SETTLE: Duration = Duration::from_secs(2);
/// The first pause between two searches while alone; doubles up to [`LAST_SEARCH_PAUSE`].
pub const FIRST_SEARCH_PAUSE: Duration = Duration::from_secs(5);
pub const LAST_SEARCH_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The pause between two searches in company.
pub const COMPANY_SEARCH_PAUSE: Duration = Duration::from_secs(15 * 60);

/// What is to be asked of the DHT. Each task is to be answered by [`TopicKeeper::advertised`] or
/// [`TopicKeeper::searched`], once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `None`: this peer itself.
    Advertise(Option<String>),
    Search(String),
}

/// The machine.
#[derive(Debug)]
pub struct TopicKeeper {
    own: Next,
    topics: BoxMap<String, Kept>,
    /// The DHT can be asked.
    ready: bool,
    /// Others can reach this peer.
    reachable: bool,
    running: usize,
    random: Random,
}

#[derive(Debug)]
struct Kept {
    advertise: Next,
    search: Next,
    pause: Duration,
    alone: bool,
}

/// When something is done the next time; `None`: it is under way.
type Next = Option<Duration>;

impl TopicKeeper {
    pub fn new(seed: u64) -> Self {
        Self {
            own: Some(Duration::ZERO),
            topics: BoxMap::new(),
            ready: false,
            reachable: false,
            running: 0,
            random: Random(seed),
        }
    }

    /// This peer has subscribed to the topic and knows nobody on it.
    pub fn subscribed(&mut self, topic: &str, now: Duration) {
        let (advertise, search) = (Some(now), Some(now));
        let kept = Kept { advertise, search, pause: FIRST_SEARCH_PAUSE, alone: true };
        self.topics.insert(topic.to_owned(), kept);
    }

    pub fn unsubscribed(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Whether the DHT can be asked.
    pub fn ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// The addresses at which others reach this peer have changed; `reachable`: there are some.
    pub fn addresses(&mut self, reachable: bool, now: Duration) {
        self.reachable = reachable;
        let at = now + self.jittered(ADDRESSES_SETTLE);
        let all = self.topics.values_mut().map(|kept| &mut kept.advertise);
        for next in all.chain([&mut self.own]).flatten() {
            *next = at.min(*next);
        }
    }

    /// There may be a way to others that was not there before.
    pub fn way_opened(&mut self, now: Duration) {
        for kept in self.topics.values_mut() {
            kept.pause = FIRST_SEARCH_PAUSE;
            if let Some(next) = &mut kept.search {
                *next = now.min(*next);
            }
        }
    }

    /// Whether nobody else is known on the topic.
    pub fn alone(&mut self, topic: &str, alone: bool, now: Duration) {
        let Some(kept) = self.topics.get_mut(topic) else { return };
        if kept.alone == alone {
            return;
        }
        kept.alone = alone;
        kept.pause = FIRST_SEARCH_PAUSE;
        // The first search is made in any case.
        if kept.search.is_some_and(|next| next > now) {
            kept.search = Some(now + kept.next_pause(&mut self.random));
        }
    }

    /// What to ask now.
    pub fn due(&mut self, now: Duration) -> Vec<Task> {
        let mut tasks = Vec::new();
        if !self.ready {
            return tasks;
        }
        let room = MAX_TOPIC_QUERIES.saturating_sub(self.running);
        let mut take = |next: &mut Next, task: &dyn Fn() -> Task| {
            if tasks.len() < room && next.is_some_and(|at| at <= now) {
                *next = None;
                tasks.push(task());
            }
        };
        if self.reachable {
            take(&mut self.own, &|| Task::Advertise(None));
        }
        for (topic, kept) in &mut self.topics {
            if self.reachable {
                take(&mut kept.advertise, &|| Task::Advertise(Some(topic.clone())));
            }
            take(&mut kept.search, &|| Task::Search(topic.clone()));
        }
        self.running += tasks.len();
        tasks
    }

    pub fn advertised(&mut self, topic: Option<&str>, succeeded: bool, now: Duration) {
        self.running = self.running.saturating_sub(1);
        let pause = if succeeded { ADVERTISE_INTERVAL } else { ADVERTISE_RETRY };
        let again = Some(now + self.jittered(pause));
        match topic {
            None => self.own = again,
            Some(topic) => {
                if let Some(kept) = self.topics.get_mut(topic) {
                    kept.advertise = again;
                }
            }
        }
    }

    pub fn searched(&mut self, topic: &str, now: Duration) {
        self.running = self.running.saturating_sub(1);
        if let Some(kept) = self.topics.get_mut(topic) {
            kept.search = Some(now + kept.next_pause(&mut self.random));
        }
    }

    pub fn next_wake(&self) -> Option<Duration> {
        if !self.ready || self.running >= MAX_TOPIC_QUERIES {
            return None;
        }
        let advertise = self.topics.values().map(|kept| kept.advertise).chain([self.own]);
        let advertise = advertise.filter(|_| self.reachable);
        let search = self.topics.values().map(|kept| kept.search);
        advertise.chain(search).flatten().min()
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        self.random.jittered(pause, JITTER)
    }
}

impl Kept {
    /// How long until the next search; the one after it comes later.
    fn next_pause(&mut self, random: &mut Random) -> Duration {
        if !self.alone {
            return random.jittered(COMPANY_SEARCH_PAUSE, JITTER);
        }
        let pause = self.pause;
        self.pause = (2 * pause).min(LAST_SEARCH_PAUSE);
        random.jittered(pause, JITTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn ready() -> TopicKeeper {
        let mut keeper = TopicKeeper::new(7);
        keeper.ready(true);
        keeper.addresses(true, at(0.0));
        assert_eq!(keeper.due(at(0.0)), [Task::Advertise(None)]);
        keeper.advertised(None, true, at(0.0));
        keeper
    }

    fn advertise(topic: &str) -> Task {
        Task::Advertise(Some(topic.to_owned()))
    }

    fn search(topic: &str) -> Task {
        Task::Search(topic.to_owned())
    }

    fn is_about(pause: Duration, meant: Duration) -> bool {
        let (low, high) = (1.0 - JITTER / 2.0, 1.0 + JITTER / 2.0);
        (meant.mul_f64(low)..=meant.mul_f64(high)).contains(&pause)
    }

    /// The pauses before the next tasks, each answered at once.
    fn pauses(
        keeper: &mut TopicKeeper,
        mut now: Duration,
        wanted: &Task,
        n: usize,
    ) -> Vec<Duration> {
        let mut last = now;
        let mut pauses = Vec::new();
        while pauses.len() < n {
            now = keeper.next_wake().expect("something is due some time");
            for task in keeper.due(now) {
                if task == *wanted {
                    pauses.push(now - last);
                    last = now;
                }
                match task {
                    Task::Advertise(topic) => keeper.advertised(topic.as_deref(), true, now),
                    Task::Search(topic) => keeper.searched(&topic, now),
                }
            }
        }
        pauses
    }

    #[test]
    fn nothing_is_asked_before_the_dht_is_ready_and_nothing_advertised_before_one_is_reachable() {
        let mut keeper = TopicKeeper::new(7);
        keeper.subscribed("a", at(1.0));
        assert_eq!((keeper.due(at(1.0)), keeper.next_wake()), (vec![], None));
        keeper.ready(true);
        assert_eq!(keeper.next_wake(), Some(at(1.0)));
        assert_eq!(keeper.due(at(1.0)), [search("a")]);
        keeper.addresses(true, at(2.0));
        assert_eq!(keeper.due(at(2.0)), [Task::Advertise(None), advertise("a")]);
        assert_eq!((keeper.due(at(99.0)), keeper.next_wake()), (vec![], None), "under way");
    }

    #[test]
    fn a_topic_is_advertised_again_before_the_record_expires_and_no_longer_when_it_is_left() {
        let mut keeper = ready();
        keeper.subscribed("a", at(0.0));
        let pauses = pauses(&mut keeper, at(0.0), &advertise("a"), 5);
        assert_eq!(pauses[0], at(0.0));
        assert!(pauses[1..].iter().all(|pause| is_about(*pause, ADVERTISE_INTERVAL)), "{pauses:?}");
        keeper.unsubscribed("a");
        let rest = keeper.due(at(1e9));
        assert_eq!(rest, [Task::Advertise(None)], "this peer itself is there still");
        // What was under way when it was left changes nothing.
        keeper.subscribed("b", at(1e9));
        assert_eq!(keeper.due(at(1e9)), [advertise("b"), search("b")]);
        keeper.unsubscribed("b");
        keeper.advertised(Some("b"), true, at(1e9));
        keeper.searched("b", at(1e9));
        keeper.advertised(None, true, at(1e9));
        assert!(keeper.topics.is_empty() && keeper.running == 0);
    }

    #[test]
    fn what_failed_is_tried_again_soon_and_new_addresses_are_told() {
        let mut keeper = ready();
        keeper.subscribed("a", at(0.0));
        keeper.due(at(0.0));
        keeper.searched("a", at(0.0));
        keeper.alone("a", false, at(0.0));
        keeper.advertised(Some("a"), false, at(0.0));
        let wake = keeper.next_wake().expect("again");
        assert!(is_about(wake, ADVERTISE_RETRY), "{wake:?}");
        assert_eq!(keeper.due(wake), [advertise("a")]);
        keeper.advertised(Some("a"), true, wake);
        keeper.addresses(true, wake);
        let settled = keeper.next_wake().expect("again") - wake;
        assert!(is_about(settled, ADDRESSES_SETTLE), "{settled:?}");
        assert_eq!(keeper.due(wake + settled), [Task::Advertise(None), advertise("a")]);
    }

    #[test]
    fn who_is_alone_looks_ever_more_seldom_and_who_is_not_hardly() {
        let mut keeper = ready();
        keeper.subscribed("a", at(0.0));
        let alone = pauses(&mut keeper, at(0.0), &search("a"), 9);
        for (pause, meant) in
            alone.iter().zip([0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0])
        {
            assert!(is_about(*pause, at(meant)), "{pause:?} instead of {meant} s");
        }
        let now = alone.iter().sum();
        keeper.alone("a", false, now);
        let company = pauses(&mut keeper, now, &search("a"), 2);
        assert!(company.iter().all(|pause| is_about(*pause, COMPANY_SEARCH_PAUSE)), "{company:?}");
        let now = now + company[0] + company[1];
        keeper.alone("a", true, now);
        assert!(is_about(pauses(&mut keeper, now, &search("a"), 1)[0], FIRST_SEARCH_PAUSE));
    }

    #[test]
    fn back_online_it_looks_at_once() {
        let mut keeper = ready();
        keeper.subscribed("a", at(0.0));
        let now = pauses(&mut keeper, at(0.0), &search("a"), 6).iter().sum();
        keeper.way_opened(now);
        assert_eq!(keeper.due(now), [search("a")]);
        keeper.searched("a", now);
        let next = keeper.next_wake().expect("again") - now;
        assert!(is_about(next, FIRST_SEARCH_PAUSE), "{next:?}");
    }

    #[test]
    fn company_before_the_first_search_does_not_put_it_off() {
        let mut keeper = ready();
        keeper.subscribed("a", at(1.0));
        keeper.alone("a", false, at(1.0));
        assert_eq!(keeper.due(at(1.0)), [advertise("a"), search("a")]);
    }

    #[test]
    fn only_some_queries_run_at_a_time_and_all_in_the_end() {
        let mut keeper = ready();
        let topics: Vec<String> = (0..50).map(|n| format!("{n:03}")).collect();
        topics.iter().for_each(|topic| keeper.subscribed(topic, at(0.0)));
        let mut asked = 0;
        loop {
            let due = keeper.due(at(0.0));
            assert!(keeper.running <= MAX_TOPIC_QUERIES);
            if due.is_empty() {
                break;
            }
            for task in due {
                asked += 1;
                match task {
                    Task::Advertise(topic) => keeper.advertised(topic.as_deref(), true, at(0.0)),
                    Task::Search(topic) => keeper.searched(&topic, at(0.0)),
                }
            }
        }
        assert_eq!(asked, 100);
    }
}
