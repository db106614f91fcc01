use super::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn actions(coordinator: &mut Coordinator) -> Vec<Action> {
    std::iter::from_fn(|| coordinator.next_action()).collect()
}

/// One chunk and so many seeders, without URLs.
fn one_chunk(seeders: usize) -> Coordinator {
    let mut coordinator = Coordinator::new(vec![false; seeders]);
    assert_eq!(coordinator.add(100 * KIB, false), Some(0));
    coordinator.tick(at(0));
    coordinator
}

fn ask(seeder: SeederId, via: Via) -> Action {
    Action::Ask { chunk: 0, seeder, via }
}

fn no(reason: &str) -> Failure {
    Failure::Attempt(reason.to_owned())
}

#[test]
fn three_attempts_with_pauses_then_the_next_seeder() {
    let mut coordinator = one_chunk(2);
    let begin = |seeder| Action::Begin { chunk: 0, seeder };
    assert_eq!(actions(&mut coordinator), [begin(0), ask(0, Via::Bitswap)]);
    coordinator.failed(0, 0, no("a"), at(10));
    assert_eq!((actions(&mut coordinator), coordinator.deadline()), (vec![], Some(at(260))));
    coordinator.tick(at(259));
    assert_eq!(actions(&mut coordinator), []);
    coordinator.tick(at(260));
    assert_eq!(actions(&mut coordinator), [ask(0, Via::Bitswap)]);
    coordinator.failed(0, 0, no("b"), at(300));
    assert_eq!(coordinator.deadline(), Some(at(800)));
    coordinator.tick(at(800));
    assert_eq!(actions(&mut coordinator), [ask(0, Via::Bitswap)]);
    coordinator.failed(0, 0, no("c"), at(900));
    let gave_up = Action::GaveUp { chunk: 0, seeder: 0, reason: "c".into() };
    assert_eq!(actions(&mut coordinator), [gave_up, begin(1), ask(1, Via::Bitswap)]);
    // What comes too late from the first is of no account.
    coordinator.failed(0, 0, no("late"), at(901));
    coordinator.succeeded(0, 1, at(1000));
    assert_eq!(actions(&mut coordinator), [Action::Done { chunk: 0 }]);
    assert_eq!(coordinator.outcome(), &Outcome::Complete);
    coordinator.succeeded(0, 0, at(1001));
    assert_eq!(actions(&mut coordinator), []);
}

#[test]
fn the_file_fails_when_a_chunk_failed_at_every_seeder() {
    let mut coordinator = one_chunk(2);
    let mut now = 0;
    for seeder in [0, 1] {
        for _ in 0..ATTEMPTS {
            coordinator.failed(0, seeder, no("has it not"), at(now));
            now += 1000;
            coordinator.tick(at(now));
        }
    }
    let reasons = vec![(0, "has it not".to_owned()), (1, "has it not".to_owned())];
    assert_eq!(coordinator.outcome(), &Outcome::Failed { chunk: 0, reasons });
    assert_eq!(coordinator.deadline(), None);
}

#[test]
fn http_follows_bitswap_within_an_attempt_and_both_reasons_are_told() {
    let mut coordinator = Coordinator::new([true]);
    coordinator.add(100, false);
    coordinator.tick(at(0));
    actions(&mut coordinator);
    for attempt in 1..=ATTEMPTS {
        coordinator.failed(0, 0, no("bitswap"), at(10_000 * u64::from(attempt)));
        assert_eq!(actions(&mut coordinator), [ask(0, Via::Http)]);
        coordinator.failed(0, 0, no("http"), at(10_000 * u64::from(attempt)));
        let last = actions(&mut coordinator);
        coordinator.tick(at(10_000 * u64::from(attempt) + 500));
        if attempt < ATTEMPTS {
            assert_eq!((last, actions(&mut coordinator)), (vec![], vec![ask(0, Via::Bitswap)]));
        } else {
            let reason = "bitswap; http".to_owned();
            assert_eq!(last, [Action::GaveUp { chunk: 0, seeder: 0, reason }]);
        }
    }
}

#[test]
fn a_seeder_that_delivers_by_http_only_is_asked_by_http_only() {
    let mut coordinator = Coordinator::new([true]);
    assert!((0..40).all(|_| coordinator.add(2 * MIB, false).is_some()));
    coordinator.tick(at(0));
    let mut ways = Vec::new();
    let mut now = 0;
    while coordinator.outcome() == &Outcome::Running {
        now += 100;
        for action in actions(&mut coordinator) {
            if let Action::Ask { chunk, via, .. } = action {
                ways.push(via);
                match via {
                    Via::Bitswap => coordinator.failed(chunk, 0, no("no"), at(now)),
                    Via::Http => coordinator.succeeded(chunk, 0, at(now)),
                }
            }
        }
        coordinator.tick(at(now));
    }
    // Three, and those that were under way.
    assert!(ways.iter().filter(|via| **via == Via::Bitswap).count() <= 3 + 8);
    assert_eq!(ways.iter().filter(|via| **via == Via::Http).count(), 40);
}

#[test]
fn silence_is_a_failure_and_progress_gives_more_time() {
    let mut coordinator = one_chunk(1);
    actions(&mut coordinator);
    let first = coordinator.deadline().expect("a deadline");
    assert!(first > seeder::PATIENCE && first < at(5500), "{first:?}");
    coordinator.progress(0, 0, at(5000));
    let later = coordinator.deadline().expect("a deadline");
    assert_eq!(later, at(5000) + seeder::PATIENCE);
    coordinator.tick(later);
    assert_eq!(actions(&mut coordinator), [Action::Stop { chunk: 0, seeder: 0 }]);
    assert_eq!(coordinator.deadline(), Some(later + BACKOFF[0]));
    // The next attempt may take longer.
    coordinator.tick(later + BACKOFF[0]);
    assert!(coordinator.deadline().expect("one") - later - BACKOFF[0] > first);
}

#[test]
fn trickling_does_not_go_on_for_ever() {
    let mut coordinator = one_chunk(1);
    actions(&mut coordinator);
    let mut now = 0;
    while actions(&mut coordinator).is_empty() {
        now += 1000;
        coordinator.progress(0, 0, at(now));
        coordinator.tick(at(now));
        assert!(now < 100_000);
    }
}

#[test]
fn a_url_that_lies_is_not_asked_again() {
    let mut coordinator = Coordinator::new([true]);
    coordinator.add(100, false);
    coordinator.tick(at(0));
    coordinator.failed(0, 0, no("bitswap"), at(1));
    coordinator.failed(0, 0, Failure::Url("lie".into()), at(2));
    coordinator.tick(at(252));
    coordinator.failed(0, 0, no("bitswap"), at(253));
    assert_eq!(coordinator.deadline(), Some(at(753)));
    let ways: Vec<_> = actions(&mut coordinator)
        .into_iter()
        .filter_map(|action| if let Action::Ask { via, .. } = action { Some(via) } else { None })
        .collect();
    assert_eq!(ways, [Via::Bitswap, Via::Http, Via::Bitswap]);
}

#[test]
fn paused_nothing_is_asked_and_resumed_all_goes_on() {
    let mut coordinator = one_chunk(1);
    actions(&mut coordinator);
    coordinator.pause(at(1));
    assert_eq!(actions(&mut coordinator), [Action::Stop { chunk: 0, seeder: 0 }]);
    coordinator.tick(at(100_000));
    assert_eq!((actions(&mut coordinator), coordinator.deadline()), (vec![], None));
    coordinator.resume(at(100_000));
    assert_eq!(actions(&mut coordinator).len(), 2);
    coordinator.pause(at(100_001));
    // It was on its way into the store.
    coordinator.succeeded(0, 0, at(100_002));
    assert_eq!(coordinator.outcome(), &Outcome::Complete);
}

#[test]
fn cancelled_it_stays_cancelled() {
    let mut coordinator = one_chunk(1);
    actions(&mut coordinator);
    coordinator.cancel(at(1));
    assert_eq!(actions(&mut coordinator), [Action::Stop { chunk: 0, seeder: 0 }]);
    coordinator.resume(at(2));
    coordinator.tick(at(100_000));
    assert_eq!((actions(&mut coordinator), coordinator.deadline()), (vec![], None));
    assert_eq!(coordinator.outcome(), &Outcome::Cancelled);
}

#[test]
fn what_is_stored_is_done_at_once_and_never_asked_for() {
    let mut coordinator = Coordinator::new([false]);
    assert!((0..3).all(|_| coordinator.add(MIB, true).is_some()));
    coordinator.tick(at(0));
    let done: Vec<Action> = (0..3).map(|chunk| Action::Done { chunk }).collect();
    assert_eq!(actions(&mut coordinator), done);
    assert_eq!((coordinator.outcome(), coordinator.counts()), (&Outcome::Complete, (3, 3)));
}

#[test]
fn without_seeders_it_fails_and_too_much_is_refused() {
    let mut coordinator = one_chunk(0);
    assert_eq!(coordinator.outcome(), &Outcome::Failed { chunk: 0, reasons: vec![] });
    assert!((1..MAX_CHUNKS).all(|_| coordinator.add(1, true).is_some()));
    assert_eq!(coordinator.add(1, true), None);
    assert_eq!(Coordinator::new(vec![true; 1000]).seeders.len(), MAX_SEEDERS);
}

#[test]
fn what_is_asked_for_at_a_time_is_bounded() {
    let mut coordinator = Coordinator::new(vec![false; 60]);
    assert!((0..1000).all(|_| coordinator.add(2 * MIB, false).is_some()));
    coordinator.tick(at(0));
    assert!(coordinator.in_flight <= MAX_IN_FLIGHT);
    assert_eq!(coordinator.held.len() as u64, MAX_IN_FLIGHT / (2 * MIB));
}
