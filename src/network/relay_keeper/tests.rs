//! The keeper without a network, a clock or a random number.

use super::*;

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn address(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}/ws").parse().expect("an address")
}

fn by_address(peer: Option<PeerId>) -> RelayTarget {
    RelayTarget::Address { address: address(1), peer }
}

fn by_record() -> RelayTarget {
    RelayTarget::Record { url: "http://localhost:1".into() }
}

fn keeper(target: RelayTarget) -> RelayKeeper {
    RelayKeeper::new(vec![target], 1)
}

const R: RelayIndex = RelayIndex(0);

fn connection(n: usize) -> ConnectionId {
    ConnectionId::new_unchecked(n)
}

fn connected(peer: PeerId, port: u16, n: usize) -> RelayEvent {
    RelayEvent::Connected { peer, address: address(port), connection: connection(n), shared: false }
}

fn failed(attempt: u32) -> RelayEvent {
    RelayEvent::DialFailed { attempt, reason: "refused".into() }
}

fn lost() -> RelayEvent {
    RelayEvent::Disconnected { reason: "gone".into() }
}

#[test]
fn the_way_to_a_reservation() {
    let peer = PeerId::random();
    let mut keeper = keeper(by_address(Some(peer)));
    assert_eq!(keeper.next_wake(), Some(Duration::ZERO));
    let dial = RelayAction::Dial { relay: R, attempt: 1, peer: Some(peer), address: address(1) };
    assert_eq!(keeper.tick(Duration::ZERO), [dial]);
    assert_eq!(keeper.phase(R), Some(RelayPhase::Connecting));
    assert_eq!(keeper.connected().count(), 0);

    let listen = RelayAction::Listen { relay: R, peer, address: address(1) };
    assert_eq!(keeper.handle(R, connected(peer, 1, 1), at(0.1)), [listen]);
    assert_eq!(keeper.phase(R), Some(RelayPhase::Connected));
    assert_eq!(keeper.handle(R, RelayEvent::Reserved, at(0.2)), []);
    assert_eq!(keeper.phase(R), Some(RelayPhase::Reserved));
    assert_eq!(keeper.next_wake(), None);
    assert_eq!(keeper.connected().next(), Some((R, peer, &address(1))));
}

#[test]
fn an_id_is_learned_from_whoever_answers() {
    let peer = PeerId::random();
    let mut keeper = keeper(by_address(None));
    let actions = keeper.tick(Duration::ZERO);
    assert!(matches!(actions.as_slice(), [RelayAction::Dial { peer: None, .. }]));
    keeper.handle(R, connected(peer, 1, 1), at(0.1));
    assert_eq!((keeper.peer(R), keeper.index_of(peer)), (Some(peer), Some(R)));
}

#[test]
fn pauses_grow_to_a_minute_and_are_never_zero() {
    let mut keeper = keeper(by_address(None));
    let mut now = Duration::ZERO;
    let mut pauses = Vec::new();
    for attempt in 1..=12 {
        let actions = keeper.tick(now);
        assert!(matches!(actions.as_slice(), [RelayAction::Dial { .. }]), "attempt {attempt}");
        keeper.handle(R, failed(attempt), now);
        let Some(RelayPhase::Backoff { until, reason }) = keeper.phase(R) else {
            panic!("waits after attempt {attempt}")
        };
        assert_eq!(reason, "refused");
        assert_eq!(keeper.tick(now), [], "nothing before the pause is over");
        pauses.push(until - now);
        now = until;
    }
    for (i, pause) in pauses.iter().enumerate() {
        let full = MIN_BACKOFF.saturating_mul(1 << i).min(MAX_BACKOFF);
        assert!(*pause >= full / 2 && *pause <= full, "{i}: {pause:?} of {full:?}");
    }
    assert_eq!(keeper.failures(R), 12);
}

#[test]
fn the_same_seed_gives_the_same_pauses() {
    let run = |seed| {
        let mut keeper = RelayKeeper::new(vec![by_address(None)], seed);
        keeper.tick(Duration::ZERO);
        keeper.handle(R, failed(1), Duration::ZERO);
        keeper.next_wake()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_lost_relay_is_dialled_again_soon() {
    let peer = PeerId::random();
    let mut keeper = keeper(by_address(Some(peer)));
    keeper.tick(Duration::ZERO);
    for attempt in 1..=5 {
        let now = keeper.next_wake().expect("waits");
        keeper.tick(now);
        keeper.handle(R, failed(attempt), now);
    }
    let now = keeper.next_wake().expect("waits");
    keeper.tick(now);
    keeper.handle(R, connected(peer, 1, 1), now);
    keeper.handle(R, RelayEvent::Reserved, now);
    let later = now + STABLE_AFTER;
    keeper.handle(R, lost(), later);
    let wake = keeper.next_wake().expect("tries again");
    assert!(wake - later <= MIN_BACKOFF, "{:?}", wake - later);
    // The listener's end, which follows the connection's, changes nothing.
    keeper.handle(R, RelayEvent::ReservationLost { reason: "closed".into() }, later);
    assert_eq!(keeper.next_wake(), Some(wake));
}

#[test]
fn a_relay_that_comes_and_goes_is_not_hammered() {
    let peer = PeerId::random();
    let mut keeper = keeper(by_address(Some(peer)));
    let mut now = Duration::ZERO;
    for n in 0..8 {
        keeper.tick(now);
        keeper.handle(R, connected(peer, 1, n), now);
        keeper.handle(R, RelayEvent::Reserved, now);
        keeper.handle(R, lost(), now);
        now = keeper.next_wake().expect("waits");
    }
    assert!(now > at(60.0), "eight rounds took only {now:?}");
}

#[test]
fn a_reservation_that_never_comes_is_given_up() {
    let peer = PeerId::random();
    let mut keeper = keeper(by_address(Some(peer)));
    keeper.tick(Duration::ZERO);
    keeper.handle(R, connected(peer, 1, 1), Duration::ZERO);
    let deadline = keeper.next_wake().expect("a deadline");
    assert_eq!(deadline, ATTEMPT_TIMEOUT);
    assert_eq!(keeper.tick(deadline), [RelayAction::Disconnect { peer }]);
    assert!(matches!(keeper.phase(R), Some(RelayPhase::Backoff { .. })));
}

#[test]
fn the_addresses_of_a_record_are_tried_one_after_the_other() {
    let peer = PeerId::random();
    let mut keeper = keeper(by_record());
    let fetch = RelayAction::FetchRecord { relay: R, url: "http://localhost:1".into() };
    assert_eq!(keeper.tick(Duration::ZERO), [fetch]);
    let record = RelayEvent::Record(Ok((peer, vec![address(1), address(2), address(3)])));
    let dial =
        |port| RelayAction::Dial { relay: R, attempt: 1, peer: Some(peer), address: address(port) };
    assert_eq!(keeper.handle(R, record, at(0.1)), [dial(1)]);
    assert_eq!(keeper.tick(at(0.2)), [], "the first one has a head start");
    assert_eq!(keeper.next_wake(), Some(at(0.1) + HEAD_START));
    assert_eq!(keeper.tick(at(0.1) + HEAD_START), [dial(2)]);
    // A failure does not wait for the head start of the next.
    assert_eq!(keeper.handle(R, failed(1), at(0.9)), [dial(3)]);
    assert_eq!(keeper.handle(R, failed(1), at(1.0)), []);
    assert_eq!(keeper.phase(R), Some(RelayPhase::Connecting), "one is under way");

    let listen = RelayAction::Listen { relay: R, peer, address: address(3) };
    assert_eq!(keeper.handle(R, connected(peer, 3, 3), at(1.1)), [listen]);
    let close = RelayAction::CloseConnection { connection: connection(1) };
    assert_eq!(keeper.handle(R, connected(peer, 1, 1), at(1.2)), [close]);
}

#[test]
fn without_a_new_record_the_old_one_serves() {
    let peer = PeerId::random();
    let mut keeper = keeper(by_record());
    keeper.tick(Duration::ZERO);
    keeper.handle(R, RelayEvent::Record(Ok((peer, vec![address(1)]))), Duration::ZERO);
    keeper.handle(R, failed(1), at(1.0));
    let now = keeper.next_wake().expect("waits");
    assert!(matches!(keeper.tick(now).as_slice(), [RelayAction::FetchRecord { .. }]));
    let actions = keeper.handle(R, RelayEvent::Record(Err("offline".into())), now);
    assert!(matches!(actions.as_slice(), [RelayAction::Dial { attempt: 2, .. }]));
    // A late failure of the first attempt does not end the second.
    keeper.handle(R, failed(1), now);
    assert_eq!(keeper.phase(R), Some(RelayPhase::Connecting));
}

#[test]
fn a_nudge_ends_the_waiting_and_probes_what_stands() {
    let peers = [PeerId::random(), PeerId::random()];
    let target = |peer| RelayTarget::Address { address: address(1), peer: Some(peer) };
    let mut keeper = RelayKeeper::new(peers.map(target).to_vec(), 1);
    keeper.tick(Duration::ZERO);
    keeper.handle(RelayIndex(0), failed(1), Duration::ZERO);
    keeper.handle(RelayIndex(1), connected(peers[1], 1, 1), Duration::ZERO);
    keeper.handle(RelayIndex(1), RelayEvent::Reserved, Duration::ZERO);
    let actions = keeper.nudge(at(0.01));
    assert_eq!(
        actions,
        [
            RelayAction::Dial {
                relay: RelayIndex(0),
                attempt: 2,
                peer: Some(peers[0]),
                address: address(1)
            },
            RelayAction::Probe { relay: RelayIndex(1), peer: peers[1] },
        ]
    );
}

#[test]
fn a_nudge_begins_an_old_attempt_anew() {
    let peer = PeerId::random();
    let mut keeper = keeper(by_address(Some(peer)));
    keeper.tick(Duration::ZERO);
    assert_eq!(keeper.nudge(STALE_AFTER - at(0.1)), [], "it may get there yet");
    let again = RelayAction::Dial { relay: R, attempt: 2, peer: Some(peer), address: address(1) };
    assert_eq!(keeper.nudge(STALE_AFTER), [again]);
    assert_eq!(keeper.nudge(STALE_AFTER), []);
    // The old dial's end is no matter, unless it gets through.
    keeper.handle(R, failed(1), STALE_AFTER);
    assert_eq!(keeper.phase(R), Some(RelayPhase::Connecting));
    let actions = keeper.handle(R, connected(peer, 1, 1), STALE_AFTER);
    assert!(matches!(actions.as_slice(), [RelayAction::Listen { .. }]));
}

#[test]
fn what_cannot_be_reached_from_here_is_not_tried() {
    let mut keeper = keeper(RelayTarget::Unusable { reason: "tcp in a browser".into() });
    assert_eq!(keeper.next_wake(), None);
    assert_eq!(keeper.tick(at(100.0)), []);
    assert_eq!(keeper.nudge(at(100.0)), []);
    assert!(!keeper.is_trying());
    let reason = "tcp in a browser".into();
    assert_eq!(keeper.phase(R), Some(RelayPhase::Failed { reason }));
}

#[test]
fn one_relay_under_two_names_is_reserved_once() {
    let peer = PeerId::random();
    let mut keeper = RelayKeeper::new(vec![by_address(Some(peer)), by_record()], 1);
    keeper.tick(Duration::ZERO);
    keeper.handle(R, connected(peer, 1, 1), at(0.1));
    let twin = RelayIndex(1);
    keeper.handle(twin, RelayEvent::Record(Ok((peer, vec![address(1)]))), at(0.2));
    let shared = RelayEvent::Connected {
        peer,
        address: address(1),
        connection: connection(1),
        shared: true,
    };
    assert_eq!(keeper.handle(twin, shared, at(0.2)), []);
    assert!(matches!(keeper.phase(twin), Some(RelayPhase::Backoff { .. })));
    let now = keeper.next_wake().expect("tries again");
    keeper.tick(now);
    let close = RelayAction::CloseConnection { connection: connection(2) };
    assert_eq!(keeper.handle(twin, connected(peer, 1, 2), now), [close]);
    assert_eq!(keeper.phase(R), Some(RelayPhase::Connected));
}

#[test]
fn relays_do_not_disturb_each_other() {
    let mut keeper = RelayKeeper::new(vec![by_address(None), by_record()], 1);
    assert_eq!(keeper.tick(Duration::ZERO).len(), 2);
    keeper.handle(RelayIndex(0), failed(1), Duration::ZERO);
    assert!(keeper.is_trying());
    assert_eq!(keeper.phase(RelayIndex(1)), Some(RelayPhase::Connecting));
    assert_eq!(keeper.handle(RelayIndex(9), lost(), Duration::ZERO), []);
}
