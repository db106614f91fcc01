//! Each rule of the client by itself.

use super::{
    simulation::{block, cid, number, peer_id},
    *,
};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A client with these peers connected.
fn client(peers: usize) -> Client {
    let mut client = Client::new(ClientConfig::default());
    (0..peers).for_each(|n| client.connected(peer_id(n), at(0)));
    client
}

/// A session with these providers, the first the best.
fn session(client: &mut Client, providers: &[usize]) -> SessionId {
    let id = client.open();
    for (place, n) in providers.iter().enumerate() {
        client.add_provider(id, peer_id(*n), 100.0 - place as f64, at(0));
    }
    id
}

fn cids(numbers: std::ops::Range<usize>) -> Vec<Cid> {
    numbers.map(cid).collect()
}

/// What came of the calls before, by kind.
#[derive(Debug, Default, PartialEq)]
struct Done {
    /// (peer, block)
    asked: Vec<(usize, usize)>,
    announced: Vec<(usize, usize)>,
    cancelled: Vec<(usize, usize)>,
    delivered: Vec<(u64, usize)>,
    exhausted: Vec<(u64, usize)>,
}

fn drain(client: &mut Client) -> Done {
    let mut done = Done::default();
    while let Some(action) = client.next_action() {
        match action {
            Action::Send { peer, wants, .. } => {
                let peer = (0..).find(|n| peer_id(*n) == peer).expect("one of ours");
                for want in wants {
                    let list = match (want.cancel, want.kind) {
                        (true, _) => &mut done.cancelled,
                        (false, WantKind::Block) => &mut done.asked,
                        (false, WantKind::Have) => &mut done.announced,
                    };
                    assert_eq!(want.send_dont_have, !want.cancel);
                    list.push((peer, number(&want.cid)));
                }
            }
            Action::Block { sessions, block, .. } => {
                let n = number(block.cid());
                done.delivered.extend(sessions.iter().map(|id| (id.0, n)));
            }
            Action::Exhausted { session, cids } => {
                done.exhausted.extend(cids.iter().map(|cid| (session.0, number(cid))));
            }
        }
    }
    done
}

fn deliver(client: &mut Client, peer: usize, n: usize, now: Duration) -> Done {
    client.received(peer_id(peer), vec![block(n, 1000)], Vec::new(), now);
    drain(client)
}

fn say(client: &mut Client, peer: usize, n: usize, presence: Presence, now: Duration) -> Done {
    client.received(peer_id(peer), Vec::new(), vec![(cid(n), presence)], now);
    drain(client)
}

/// Nobody owes or waits for anything.
fn assert_empty(client: &mut Client) {
    client.tick(at(0));
    drain(client);
    assert_eq!(client.load().1, 0);
    assert!(client.peers.values().all(|peer| peer.asked.is_empty() && peer.owed == 0));
    assert!(client.sessions.values().all(|session| session.queue.is_empty()));
}

#[test]
fn a_provider_is_asked_for_the_block_and_the_others_whether_they_have_it() {
    let mut client = client(3);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..1), at(0)).unwrap();
    let done = drain(&mut client);
    assert_eq!(done.asked, [(A, 0)]);
    assert_eq!(done.announced, [(B, 0), (C, 0)]);
    let done = deliver(&mut client, A, 0, at(10));
    assert_eq!(done.delivered, [(0, 0)]);
    assert_eq!(done.cancelled, [(B, 0), (C, 0)], "they need not look any further");
    assert_empty(&mut client);
}

#[test]
fn the_first_words_to_a_peer_replace_what_it_knew() {
    let mut client = client(1);
    let id = session(&mut client, &[A]);
    let mut fulls = Vec::new();
    for n in 0..2 {
        client.want(id, &cids(n..n + 1), at(0)).unwrap();
        while let Some(Action::Send { full, .. }) = client.next_action() {
            fulls.push(full);
        }
    }
    assert_eq!(fulls, [true, false]);
    client.disconnected(peer_id(A), at(1));
    client.connected(peer_id(A), at(2));
    let again = std::iter::from_fn(|| client.next_action());
    let fulls: Vec<_> = again
        .filter_map(|action| match action {
            Action::Send { full, wants, .. } => Some((full, wants.len())),
            _ => None,
        })
        .collect();
    assert_eq!(fulls, [(true, 2)]);
}

#[test]
fn the_best_provider_is_asked_first() {
    let mut client = client(3);
    let id = client.open();
    for (n, score) in [(A, 1.0), (B, 7.0), (C, 3.0)] {
        client.add_provider(id, peer_id(n), score, at(0));
    }
    client.want(id, &cids(0..1), at(0)).unwrap();
    assert_eq!(drain(&mut client).asked, [(B, 0)]);
}

#[test]
fn a_have_is_followed_by_asking_for_the_block() {
    let mut client = client(2);
    let id = session(&mut client, &[]);
    client.want(id, &cids(0..1), at(0)).unwrap();
    assert_eq!(drain(&mut client).announced, [(A, 0), (B, 0)]);
    assert_eq!(say(&mut client, B, 0, Presence::Have, at(5)).asked, [(B, 0)]);
    assert_eq!(say(&mut client, A, 0, Presence::Have, at(6)), Done::default());
    assert_eq!(say(&mut client, B, 0, Presence::DontHave, at(7)).asked, [(A, 0)]);
}

#[test]
fn a_dont_have_moves_the_want_on_at_once() {
    let mut client = client(2);
    let id = session(&mut client, &[A, B]);
    client.want(id, &cids(5..6), at(0)).unwrap();
    assert_eq!(drain(&mut client).asked, [(A, 5)]);
    let done = say(&mut client, A, 5, Presence::DontHave, at(1));
    assert_eq!((done.asked, done.exhausted.len()), (vec![(B, 5)], 0));
    assert_eq!(say(&mut client, B, 5, Presence::DontHave, at(2)).exhausted, [(0, 5)]);
}

#[test]
fn what_a_peer_owed_when_it_left_is_asked_of_another_in_order() {
    let mut client = client(1);
    let id = session(&mut client, &[A, B]);
    client.want(id, &cids(0..8), at(0)).unwrap();
    drain(&mut client);
    client.connected(peer_id(B), at(1));
    drain(&mut client);
    client.disconnected(peer_id(A), at(2));
    let asked: Vec<usize> = drain(&mut client).asked.into_iter().map(|(_, n)| n).collect();
    assert_eq!(asked, (0..8).collect::<Vec<_>>(), "a reader waits for the first");
}

#[test]
fn silence_moves_wants_on_and_the_peer_rests() {
    let mut client = client(2);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..2), at(0)).unwrap();
    drain(&mut client);
    client.tick(at(4999));
    assert_eq!(drain(&mut client), Done::default());
    client.tick(at(5000));
    let done = drain(&mut client);
    assert!(done.cancelled.contains(&(A, 0)) && done.cancelled.contains(&(A, 1)), "{done:?}");
    assert_eq!(client.stats(&peer_id(A)).unwrap().timeouts, 1);
    // It is tried again after its rest, which is longer each time.
    assert_eq!(client.peers[&peer_id(A)].rests_until(), Some(at(10_000)));
    client.tick(at(10_000));
    assert_eq!(drain(&mut client).asked, [(A, 0), (A, 1)]);
    client.tick(at(15_000));
    assert_eq!(client.peers[&peer_id(A)].rests_until(), Some(at(25_000)));
}

#[test]
fn silence_is_a_no_only_when_the_peer_was_asked_twice() {
    let mut client = client(1);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..1), at(0)).unwrap();
    client.tick(at(5000));
    assert_eq!(drain(&mut client).exhausted, [], "it may be busy");
    client.want(id, &cids(1..2), at(6000)).unwrap();
    assert_eq!(drain(&mut client).exhausted, [], "nor for what it was not asked yet");
    client.tick(at(10_000));
    assert_eq!(drain(&mut client).asked, [(A, 0), (A, 1)]);
    client.tick(at(15_000));
    assert_eq!(drain(&mut client).exhausted, [(0, 0), (0, 1)]);
    client.tick(at(25_000));
    client.tick(at(30_000));
    assert_eq!(drain(&mut client).exhausted, [], "told once");
    client.want(id, &cids(2..3), at(31_000)).unwrap();
    assert_eq!(
        drain(&mut client).exhausted,
        [(0, 2)],
        "a peer that is always silent is not awaited"
    );
}

#[test]
fn a_question_may_take_longer_than_a_block() {
    let mut client = client(1);
    let id = client.open();
    client.want(id, &cids(0..1), at(0)).unwrap();
    assert_eq!(drain(&mut client).announced, [(A, 0)]);
    client.tick(at(14_999));
    assert_eq!(drain(&mut client), Done::default());
    // Nobody waits for the block alone: the question has cost nothing but its time.
    assert_eq!(say(&mut client, A, 0, Presence::Have, at(14_999)).asked, [(A, 0)]);
}

#[test]
fn a_resting_peer_that_delivers_is_asked_again_at_once() {
    let mut client = client(1);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..2), at(0)).unwrap();
    client.tick(at(5000));
    drain(&mut client);
    let done = deliver(&mut client, A, 1, at(5100));
    assert_eq!((done.delivered, done.asked), (vec![(0, 1)], vec![(A, 0)]));
}

#[test]
fn bytes_on_their_way_are_no_silence_but_not_for_ever() {
    let mut client = client(1);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..1), at(0)).unwrap();
    drain(&mut client);
    for second in 1..60 {
        client.receiving(peer_id(A), at(second * 1000));
        client.tick(at(second * 1000));
        assert_eq!(drain(&mut client), Done::default());
    }
    client.receiving(peer_id(A), at(59_900));
    client.tick(at(60_000));
    assert_eq!(drain(&mut client).exhausted, [(0, 0)]);
}

#[test]
fn a_silent_peer_loses_its_blocks_to_an_idle_holder_after_a_second() {
    let mut client = client(2);
    let id = session(&mut client, &[A, B]);
    client.want(id, &cids(0..2), at(0)).unwrap();
    assert_eq!(drain(&mut client).asked, [(A, 0), (B, 1)]);
    deliver(&mut client, B, 1, at(50));
    client.tick(at(900));
    assert_eq!(drain(&mut client).asked, []);
    assert_eq!(client.deadline(), Some(at(1000)));
    client.tick(at(1000));
    let done = drain(&mut client);
    assert_eq!((done.asked, done.cancelled), (vec![(B, 0)], vec![(A, 0)]));
    // Whichever comes first.
    assert_eq!(deliver(&mut client, A, 0, at(1010)).delivered, [(0, 0)]);
    assert_eq!(deliver(&mut client, B, 0, at(1020)).delivered, []);
    assert_eq!(client.stats(&peer_id(B)).unwrap().useless, 1);
    assert_empty(&mut client);
}

#[test]
fn a_holder_of_a_part_takes_over_only_what_it_offers() {
    let mut client = client(2);
    let id = session(&mut client, &[A, B]);
    client.want(id, &cids(0..4), at(0)).unwrap();
    assert_eq!(drain(&mut client).asked, [(A, 0), (A, 2), (B, 1), (B, 3)]);
    assert_eq!(say(&mut client, B, 3, Presence::DontHave, at(40)).asked, [(A, 3)]);
    // Of all that it was asked whether it has it, too.
    say(&mut client, B, 0, Presence::Have, at(45));
    deliver(&mut client, B, 1, at(50));
    client.tick(at(1040));
    let done = drain(&mut client);
    assert_eq!((done.asked, done.cancelled), (vec![(B, 0)], vec![(A, 0)]));
}

#[test]
fn unasked_blocks_are_dropped_and_too_many_end_the_asking() {
    let mut client = client(1);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..1), at(0)).unwrap();
    drain(&mut client);
    let most = (16 + 1) * MAX_BREACHES as usize + 16;
    let needed = (0..most).find(|n| !deliver(&mut client, A, 100 + n, at(1)).exhausted.is_empty());
    assert!(needed.is_some_and(|needed| needed >= 48), "{needed:?}");
    client.want(id, &cids(1..2), at(2)).unwrap();
    assert_eq!(drain(&mut client).asked, []);
}

#[test]
fn three_breaches_end_the_asking_until_the_next_connection() {
    let mut client = client(1);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..1), at(0)).unwrap();
    drain(&mut client);
    for _ in 1..MAX_BREACHES {
        client.misbehaved(peer_id(A), at(1));
        assert_eq!(drain(&mut client), Done::default());
    }
    client.misbehaved(peer_id(A), at(1));
    assert_eq!(drain(&mut client).exhausted, [(0, 0)]);
    client.want(id, &cids(1..2), at(1)).unwrap();
    assert_eq!(drain(&mut client).exhausted, [(0, 1)]);
    client.disconnected(peer_id(A), at(2));
    client.connected(peer_id(A), at(3));
    assert_eq!(drain(&mut client).asked, [(A, 0), (A, 1)]);
}

#[test]
fn a_peer_that_declines_sixteen_in_a_row_is_left_alone() {
    let mut client = client(1);
    let id = session(&mut client, &[]);
    for n in 0..16 {
        client.want(id, &cids(n..n + 1), at(0)).unwrap();
        assert_eq!(drain(&mut client).announced, [(A, n)]);
        assert_eq!(say(&mut client, A, n, Presence::DontHave, at(1)).exhausted, [(0, n)]);
    }
    client.want(id, &cids(16..17), at(2)).unwrap();
    let done = drain(&mut client);
    assert_eq!((done.announced.len(), done.exhausted), (0, vec![(0, 16)]));
    // Another session makes its own experience.
    let other = session(&mut client, &[]);
    client.want(other, &cids(17..18), at(3)).unwrap();
    assert_eq!(drain(&mut client).announced, [(A, 17)]);
}

/// A has delivered one block and then declined sixteen, which are `elsewhere` or nowhere.
fn left_alone(peers: usize, elsewhere: Option<usize>) -> (Client, SessionId) {
    let mut client = client(peers);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..1), at(0)).unwrap();
    deliver(&mut client, A, 0, at(1));
    for n in 1..=16 {
        client.want(id, &cids(n..n + 1), at(2)).unwrap();
        say(&mut client, A, n, Presence::DontHave, at(2));
        if let Some(holder) = elsewhere {
            say(&mut client, holder, n, Presence::Have, at(2));
            deliver(&mut client, holder, n, at(2));
        }
    }
    (client, id)
}

#[test]
fn a_holder_left_alone_is_still_asked_whether_it_has_what_nobody_else_has() {
    let (mut client, id) = left_alone(2, Some(B));
    client.want(id, &cids(17..18), at(3)).unwrap();
    let done = drain(&mut client);
    assert_eq!((done.asked, done.announced), (vec![(B, 17)], vec![]));
    let done = say(&mut client, B, 17, Presence::DontHave, at(4));
    assert_eq!((done.announced, done.exhausted), (vec![(A, 17)], vec![]));
    assert_eq!(say(&mut client, A, 17, Presence::Have, at(5)).asked, [(A, 17)]);
    assert_eq!(say(&mut client, A, 17, Presence::DontHave, at(6)).exhausted, [(0, 17)]);
}

#[test]
fn a_holder_left_alone_that_does_not_answer_is_not_asked_for_ever() {
    let (mut client, id) = left_alone(1, None);
    client.want(id, &cids(17..18), at(3)).unwrap();
    assert_eq!(drain(&mut client).announced, [(A, 17)]);
    client.tick(at(15_003));
    let done = drain(&mut client);
    assert_eq!((done.announced, done.exhausted), (vec![], vec![(0, 17)]));
}

#[test]
fn cancelling_and_closing_leave_nothing() {
    let mut client = client(2);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..40), at(0)).unwrap();
    drain(&mut client);
    client.cancel(id, &cids(0..10));
    let cancelled = drain(&mut client).cancelled;
    assert!((0..10).all(|n| cancelled.contains(&(A, n))), "{cancelled:?}");
    client.close(id);
    drain(&mut client);
    assert_eq!(client.load(), (0, 0));
    assert_empty(&mut client);
}

#[test]
fn room_freed_by_a_cancel_is_used_by_others() {
    let mut client = client(1);
    let first = session(&mut client, &[A]);
    client.want(first, &cids(0..40), at(0)).unwrap();
    let second = session(&mut client, &[A]);
    client.want(second, &cids(100..101), at(0)).unwrap();
    assert!(!drain(&mut client).asked.contains(&(A, 100)), "there is no room");
    client.close(first);
    drain(&mut client);
    assert_eq!(client.deadline(), Some(at(0)), "due at once");
    client.tick(at(60_000));
    assert_eq!(drain(&mut client).asked, [(A, 100)]);
    assert!(client.deadline().is_some_and(|at| at > Duration::from_secs(60)));
}

#[test]
fn a_shared_want_survives_the_end_of_the_session_in_whose_queue_it_is() {
    let mut client = client(1);
    let first = session(&mut client, &[A]);
    let second = session(&mut client, &[A]);
    client.want(first, &cids(0..40), at(0)).unwrap();
    client.want(second, &cids(39..40), at(0)).unwrap();
    assert!(!drain(&mut client).asked.contains(&(A, 39)), "it is queued");
    client.close(first);
    client.tick(at(1));
    assert_eq!(drain(&mut client).asked.last(), Some(&(A, 39)));
    assert_eq!(deliver(&mut client, A, 39, at(2)).delivered, [(second.0, 39)]);
    assert_empty(&mut client);
}

#[test]
fn a_block_goes_to_all_that_want_it_under_their_own_cids() {
    let mut client = client(1);
    let (first, second) = (session(&mut client, &[A]), session(&mut client, &[A]));
    let other = Cid::new_v1(crate::content::block::DAG_PB, *cid(0).hash());
    client.want(first, &[cid(0)], at(0)).unwrap();
    client.want(second, &[other], at(0)).unwrap();
    while client.next_action().is_some() {}
    client.received(peer_id(A), vec![block(0, 10)], Vec::new(), at(1));
    let mut delivered = Vec::new();
    while let Some(action) = client.next_action() {
        if let Action::Block { sessions, block, .. } = action {
            delivered.push((sessions, *block.cid()));
        }
    }
    assert_eq!(delivered, [(vec![first], cid(0)), (vec![second], other)]);
}

#[test]
fn only_providers_are_asked_if_so_wished() {
    let mut client = client(3);
    let id = session(&mut client, &[B]);
    client.providers_only(id, true, at(0));
    client.want(id, &cids(0..3), at(0)).unwrap();
    let mut done = drain(&mut client);
    for n in 0..3 {
        let more = say(&mut client, B, n, Presence::DontHave, at(1));
        done.asked.extend(more.asked);
        done.announced.extend(more.announced);
        assert_eq!(more.exhausted, [(0, n)]);
    }
    client.connected(peer_id(3), at(2));
    done.announced.extend(drain(&mut client).announced);
    assert!(done.asked.iter().chain(&done.announced).all(|(peer, _)| *peer == B), "{done:?}");
    // When others may be asked, they are, and the session is told when they have nothing either.
    client.providers_only(id, false, at(3));
    assert_eq!(drain(&mut client).announced.len(), 3 * 3);
    for n in 0..3 {
        for peer in [A, C] {
            assert_eq!(say(&mut client, peer, n, Presence::DontHave, at(4)).exhausted, []);
        }
        assert_eq!(say(&mut client, 3, n, Presence::DontHave, at(4)).exhausted, [(0, n)]);
    }
}

#[test]
fn exhausted_is_told_once_to_each_session() {
    let mut client = client(0);
    let first = session(&mut client, &[]);
    client.want(first, &cids(0..1), at(0)).unwrap();
    assert_eq!(drain(&mut client).exhausted, [(0, 0)]);
    client.tick(at(1));
    client.want(first, &cids(0..1), at(1)).unwrap();
    assert_eq!(drain(&mut client).exhausted, []);
    let second = session(&mut client, &[]);
    client.want(second, &cids(0..1), at(2)).unwrap();
    assert_eq!(drain(&mut client).exhausted, [(1, 0)]);
    // A new peer is asked nevertheless.
    client.connected(peer_id(A), at(3));
    assert_eq!(drain(&mut client).announced, [(A, 0)]);
    assert_eq!(say(&mut client, A, 0, Presence::DontHave, at(4)).exhausted, []);
}

#[test]
fn a_provider_on_its_way_is_waited_for() {
    let mut client = client(0);
    let id = session(&mut client, &[A, B]);
    client.want(id, &cids(0..1), at(0)).unwrap();
    assert_eq!(drain(&mut client), Done::default());
    client.disconnected(peer_id(A), at(1));
    assert_eq!(drain(&mut client), Done::default());
    client.disconnected(peer_id(B), at(2));
    assert_eq!(drain(&mut client).exhausted, [(0, 0)]);
    // A further one makes a new attempt.
    client.add_provider(id, peer_id(C), 1.0, at(3));
    client.disconnected(peer_id(C), at(4));
    assert_eq!(drain(&mut client).exhausted, [(0, 0)]);
}

#[test]
fn a_peer_that_has_just_connected_is_awaited_for_a_moment() {
    let mut client = client(1);
    let id = client.open();
    client.met(peer_id(B), at(0));
    client.met(peer_id(C), at(0));
    client.want(id, &cids(0..1), at(0)).unwrap();
    say(&mut client, A, 0, Presence::DontHave, at(10));
    assert_eq!(drain(&mut client), Done::default());
    client.connected(peer_id(B), at(20));
    assert_eq!(drain(&mut client).announced, [(B, 0)]);
    assert_eq!(say(&mut client, B, 0, Presence::DontHave, at(30)).exhausted, []);
    assert_eq!(client.deadline(), Some(at(3000)), "C may have it");
    client.tick(at(3000));
    assert_eq!(drain(&mut client).exhausted, [(0, 0)]);
    // Who may not be asked is not awaited.
    client.met(peer_id(3), at(4000));
    client.providers_only(id, true, at(4000));
    assert_eq!(drain(&mut client).exhausted, [(0, 0)]);
    client.providers_only(id, false, at(4000));
    assert_eq!(drain(&mut client).exhausted, []);
    client.disconnected(peer_id(3), at(4010));
    assert_eq!(drain(&mut client).exhausted, [(0, 0)]);
    client.close(id);
    assert_empty(&mut client);
}

#[test]
fn bounds_hold() {
    let mut client = client(0);
    let id = session(&mut client, &[]);
    client.want(id, &cids(0..MAX_WANTS), at(0)).unwrap();
    assert_eq!(client.want(id, &cids(MAX_WANTS..MAX_WANTS + 1), at(0)), Err(TooManyWants));
    assert_eq!(client.load(), (1, MAX_WANTS));
    client.close(id);
    let id = session(&mut client, &[]);
    (0..MAX_PROVIDERS + 10).for_each(|n| client.add_provider(id, peer_id(n), 1.0, at(0)));
    assert_eq!(client.sessions[&id].peers.len(), MAX_PROVIDERS);
    (0..MAX_PEERS + 10).for_each(|n| client.connected(peer_id(n), at(0)));
    assert_eq!(client.peers.len(), MAX_PEERS);
}

#[test]
fn a_queue_does_not_grow_with_wants_taken_back() {
    let mut client = client(1);
    let id = session(&mut client, &[A]);
    client.want(id, &cids(0..20), at(0)).unwrap();
    for _ in 0..5000 {
        client.want(id, &cids(20..21), at(0)).unwrap();
        client.cancel(id, &cids(20..21));
        drain(&mut client);
    }
    assert!(client.sessions[&id].queue.len() < 2000);
}

#[test]
fn many_sessions_take_turns() {
    let mut client = client(1);
    let large = session(&mut client, &[A]);
    client.want(large, &cids(0..2000), at(0)).unwrap();
    drain(&mut client);
    let small = session(&mut client, &[A]);
    client.want(small, &cids(5000..5002), at(0)).unwrap();
    let asked: Vec<_> = (0..2).flat_map(|n| deliver(&mut client, A, n, at(10)).asked).collect();
    assert!(asked.contains(&(A, 5000)) && asked.contains(&(A, 5001)), "{asked:?}");
}
