use super::*;

const NOW: Duration = Duration::from_secs(100);

fn sorted<const N: usize>() -> [PeerId; N] {
    let mut peers = [(); N].map(|()| PeerId::random());
    peers.sort_unstable();
    peers
}

fn at(relay: PeerId) -> Source {
    Source::Relay(relay)
}

fn presence(members: &[(PeerId, &[Source])]) -> Presence {
    let mut presence = Presence::default();
    for (peer, sources) in members {
        for source in *sources {
            presence.seen(*peer, *source);
        }
    }
    presence
}

fn connected(_: PeerId) -> Option<Reach> {
    Some(Reach::Connected)
}

fn may(exchanges: usize) -> Allowance {
    Allowance { exchanges, dial_at: Duration::ZERO }
}

fn everybody(
    introductions: &mut Introductions,
    presence: &Presence,
    own: PeerId,
    now: Duration,
) -> Vec<Introduction> {
    introductions.due(presence, own, connected, may(usize::MAX), now)
}

/// Looks again and again; what is begun is done at once.
fn run(
    introductions: &mut Introductions,
    presence: &Presence,
    own: PeerId,
    (mut now, until): (Duration, Duration),
) -> Vec<(Duration, Introduction)> {
    let start = now;
    let mut all = Vec::new();
    while now <= until {
        for introduction in everybody(introductions, presence, own, now) {
            introductions.done(introduction.peer, true, now);
            all.push((now - start, introduction));
        }
        match introductions.next_wake(presence) {
            Some(next) => now = next.max(now + Duration::from_millis(1)),
            None => break,
        }
    }
    all
}

#[test]
fn whom_one_relay_names_need_not_be_introduced() {
    let [own, r, s, a, b] = sorted();
    let mut introductions = Introductions::default();
    let presence = presence(&[(a, &[at(r)]), (b, &[at(r), at(s)])]);
    let all = run(&mut introductions, &presence, own, (NOW, NOW + 2 * RENEW));
    assert_eq!((all, introductions.next_wake(&presence)), (vec![], None));
}

#[test]
fn who_is_at_different_relays_is_introduced_once() {
    let [own, r, s, a, b, c] = sorted();
    let mut introductions = Introductions::default();
    let mut presence = presence(&[(a, &[at(r)]), (b, &[at(r), at(s)])]);
    assert_eq!(run(&mut introductions, &presence, own, (NOW, NOW + SETTLE)), []);
    presence.seen(c, at(s));
    let all = run(&mut introductions, &presence, own, (NOW + SETTLE, NOW + 2 * RENEW));
    let told = |peer, other| (LOOK + SETTLE, Introduction { peer, others: vec![other] });
    assert!(all.iter().all(|(after, _)| *after <= LOOK + SETTLE), "{all:?}");
    let all: Vec<Introduction> = all.into_iter().map(|(_, introduction)| introduction).collect();
    assert_eq!(all, [told(a, c).1, told(c, a).1]);
    assert_eq!(introductions.next_wake(&presence), None);
}

#[test]
fn somebody_new_is_told_of_but_not_too_often() {
    let [own, r, s, a, c, d, e] = sorted();
    let mut introductions = Introductions::default();
    let mut presence = presence(&[(a, &[at(r)]), (c, &[at(s)])]);
    let mut now = NOW + SETTLE;
    assert_eq!(run(&mut introductions, &presence, own, (NOW, now)).len(), 2);
    for other in [d, e] {
        now += LOOK;
        presence.seen(other, at(s));
        let all = run(&mut introductions, &presence, own, (now, now + LOOK));
        assert!(all.iter().all(|(_, introduction)| introduction.peer != a), "{all:?}");
    }
    let all = run(&mut introductions, &presence, own, (now, now + INTERVAL));
    let told = all.into_iter().find(|(_, introduction)| introduction.peer == a).expect("told");
    assert_eq!(told.1.others, [c, d, e]);
}

#[test]
fn neighbours_ask_each_other_once_the_first_of_them_first_and_again_after_a_long_while() {
    let [low, high] = sorted();
    let pauses = |own, other| {
        let presence = presence(&[(other, &[Source::Itself])]);
        let all = run(&mut Introductions::default(), &presence, own, (NOW, NOW + RENEW + INTERVAL));
        assert!(all.iter().all(|(_, i)| i.peer == other && i.others.is_empty()));
        all.into_iter().map(|(after, _)| after).collect::<Vec<_>>()
    };
    assert_eq!(pauses(low, high), [NEIGHBOUR_SETTLE, NEIGHBOUR_SETTLE + RENEW]);
    assert_eq!(pauses(high, low), [SETTLE, SETTLE + RENEW]);
}

#[test]
fn who_was_answered_is_not_asked() {
    let [other, own, r, a] = sorted();
    let mut introductions = Introductions::default();
    let presence = presence(&[(other, &[Source::Itself]), (a, &[at(r)])]);
    everybody(&mut introductions, &presence, own, NOW);
    assert_eq!(introductions.answer(&presence, other, &[], NOW), [a]);
    assert_eq!(introductions.answer(&presence, other, &[a], NOW), []);
    let all = run(&mut introductions, &presence, own, (NOW + LOOK, NOW + RENEW / 2));
    assert!(all.iter().all(|(_, introduction)| introduction.peer == a), "{all:?}");
    // Somebody who is not there, as far as we know, gets an answer, too, and leaves no trace.
    let answer = introductions.answer(&presence, PeerId::random(), &[], NOW);
    assert_eq!(answer.len(), 2);
    assert!(introductions.met.len() <= 2);
}

#[test]
fn what_failed_is_tried_again_ever_more_seldom() {
    let [own, r, s, a, c] = sorted();
    let mut introductions = Introductions::default();
    let presence = presence(&[(a, &[at(r)]), (c, &[at(s)])]);
    let (mut now, mut last, mut pauses) = (NOW, NOW, Vec::new());
    while pauses.len() < 8 {
        for Introduction { peer, .. } in everybody(&mut introductions, &presence, own, now) {
            introductions.done(peer, false, now);
            if peer == a {
                pauses.push(now - last);
                last = now;
            }
        }
        now = introductions.next_wake(&presence).expect("again").max(now);
    }
    let expected = [3, 60, 120, 240, 480, 600, 600, 600].map(Duration::from_secs);
    assert_eq!(pauses, expected);
}

#[test]
fn only_some_begin_at_a_time_and_the_others_when_there_is_room() {
    let [own, r, s, a, b, c] = sorted();
    let mut introductions = Introductions::default();
    let presence = presence(&[(a, &[at(r)]), (b, &[at(r)]), (c, &[at(s)])]);
    let now = NOW + SETTLE;
    everybody(&mut introductions, &presence, own, NOW);
    let mut due = |room, now| introductions.due(&presence, own, connected, may(room), now);
    assert_eq!(due(2, now).iter().map(|i| i.peer).collect::<Vec<_>>(), [a, b]);
    assert_eq!(due(1, now), [], "not so soon again");
    assert_eq!(due(0, now + LOOK), []);
    let rest = due(1, now + 2 * LOOK);
    assert_eq!(rest.iter().map(|i| i.peer).collect::<Vec<_>>(), [c]);
    assert_eq!(rest[0].others, [a, b]);
    // Who does not speak this is left alone.
    let mut introductions = Introductions::default();
    let speaks = |peer| (peer != c).then_some(Reach::Connected);
    introductions.due(&presence, own, speaks, may(9), NOW);
    let due = introductions.due(&presence, own, speaks, may(9), now);
    assert_eq!(due.len(), 2);
}

#[test]
fn who_has_to_be_dialled_waits_for_leave_and_one_at_a_time_is() {
    let [own, r, s, a, b, c] = sorted();
    let mut introductions = Introductions::default();
    let presence = presence(&[(a, &[at(r)]), (b, &[at(r)]), (c, &[at(s)])]);
    let dial = |peer| Some(if peer == c { Reach::Connected } else { Reach::Dial });
    let mut begun = |dial_at, now| {
        let may = Allowance { exchanges: 9, dial_at };
        let due = introductions.due(&presence, own, dial, may, now);
        due.into_iter().map(|introduction| introduction.peer).collect::<Vec<_>>()
    };
    let (now, late) = (NOW + SETTLE, NOW + 10 * SETTLE);
    assert_eq!(begun(late, NOW), []);
    assert_eq!(begun(late, now), [c]);
    assert_eq!(begun(late, late - LOOK), []);
    assert_eq!(begun(late, late), [a]);
    assert_eq!(begun(late, late + LOOK), [b]);
}

#[test]
fn of_whom_nobody_speaks_any_more_nobody_is_told_and_they_are_not_asked() {
    let [own, r, s, a, c] = sorted();
    let mut introductions = Introductions::default();
    let mut presence = presence(&[(a, &[at(r)]), (c, &[at(s)])]);
    presence.lost(at(r), NOW);
    presence.lost(at(s), NOW);
    assert!(presence.contains(a) && presence.contains(c), "they may be named again");
    assert_eq!(run(&mut introductions, &presence, own, (NOW, NOW + RENEW)), []);
}

#[test]
fn of_a_crowd_each_hears_of_others() {
    let (r, s, own) = (PeerId::random(), PeerId::random(), PeerId::random());
    let mut presence = Presence::default();
    for n in 0..400 {
        presence.seen(PeerId::random(), at(if n % 2 == 0 { r } else { s }));
    }
    let mut introductions = Introductions::default();
    everybody(&mut introductions, &presence, own, NOW);
    let due = everybody(&mut introductions, &presence, own, NOW + SETTLE);
    assert_eq!(due.len(), 400);
    assert!(due.iter().all(|introduction| introduction.others.len() == MAX_NAMED));
    let mut heard_of: Vec<PeerId> = due.into_iter().flat_map(|i| i.others).collect();
    heard_of.sort_unstable();
    heard_of.dedup();
    assert!(heard_of.len() > 300, "{}", heard_of.len());
}
