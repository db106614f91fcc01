use super::{outbox::id_of, *};
use crate::messaging::direct::{MAX_QUEUED, MAX_UNTAKEN, MAX_VALUE, WINDOW, frame::encode_data};

const EPOCH: u64 = 7;
const OURS: u64 = 100;
const THEIRS: u64 = 200;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn value() -> Value {
    Value::Json("1".to_owned())
}

fn steps(link: &mut Link) -> Vec<Step> {
    std::iter::from_fn(|| link.next_step()).collect()
}

fn data(seq: u64) -> Step {
    let frame = encode_data(&id_of(EPOCH, seq), &value());
    Step::WriteData { stream: OURS, seq, frame }
}

fn ack(link: &mut Link, seq: u64, now: Duration) {
    link.frame(OURS, Frame::Ack { id: id_of(EPOCH, seq) }, now);
}

fn arrives(link: &mut Link, stream: u64, id: &str) -> Vec<Step> {
    link.frame(stream, Frame::Data { id: id.to_owned(), value: value() }, secs(0));
    steps(link)
}

fn done(seq: u64) -> Step {
    Step::Done { seq, outcome: Ok(()) }
}

fn failed(seq: u64, why: Failure, attempts: u32) -> Step {
    Step::Done { seq, outcome: Err(GivenUp { why, attempts }) }
}

fn unreachable() -> Failure {
    Failure::Unreachable { reason: "gone".to_owned() }
}

/// With its stream open and `seqs` written on it.
fn open(seqs: std::ops::RangeInclusive<u64>) -> Link {
    let mut link = Link::new(EPOCH);
    for seq in seqs.clone() {
        assert!(link.send(seq, &value(), secs(0)));
    }
    link.opened(OURS, secs(0));
    assert_eq!(steps(&mut link)[0], Step::Open);
    seqs.for_each(|seq| link.written(OURS, seq, secs(0)));
    link
}

#[test]
fn a_window_of_messages_goes_ahead_of_its_acks() {
    let mut link = Link::new(EPOCH);
    for seq in 1..=WINDOW as u64 + 2 {
        assert!(link.send(seq, &value(), secs(0)));
    }
    assert_eq!(steps(&mut link), [Step::Open]);
    link.opened(OURS, secs(1));
    let window: Vec<Step> = (1..=WINDOW as u64).map(data).collect();
    assert_eq!(steps(&mut link), window);
    ack(&mut link, 1, secs(2));
    assert_eq!(steps(&mut link), [done(1), data(WINDOW as u64 + 1)]);
    // Twice is nothing new.
    ack(&mut link, 1, secs(2));
    assert_eq!(steps(&mut link), []);
}

#[test]
fn large_messages_go_one_by_one_and_the_queue_is_bounded() {
    let large = Value::Bytes(vec![0; MAX_VALUE].into());
    let mut link = Link::new(EPOCH);
    let room = (1..).take_while(|seq| link.send(*seq, &large, secs(0))).count();
    assert_eq!(room, super::super::MAX_QUEUED_BYTES / encode_data("", &large).len());
    link.opened(OURS, secs(0));
    assert_eq!(steps(&mut link).len(), 2, "a stream and a message");
    let mut link = Link::new(EPOCH);
    let room = (1..).take_while(|seq| link.send(*seq, &value(), secs(0))).count();
    assert_eq!(room, MAX_QUEUED);
}

#[test]
fn three_attempts_and_then_it_and_those_behind_it_are_given_up() {
    let mut link = open(1..=2);
    assert_eq!(link.deadline(), Some(secs(5)));
    link.tick(secs(5));
    assert_eq!(steps(&mut link), [Step::Reset { stream: OURS }]);
    for (until, next) in [(7, 11), (15, 99)] {
        if next == 11 {
            // A frame from a peer that is there does not make it faster: the message was not taken.
            link.heard(secs(until - 1));
        }
        assert_eq!(link.deadline(), Some(secs(until)));
        link.tick(secs(until));
        assert_eq!(steps(&mut link), [Step::Open]);
        if next == 11 {
            link.open_failed(unreachable(), secs(11));
            assert_eq!(steps(&mut link), []);
        }
    }
    link.open_failed(unreachable(), secs(16));
    assert_eq!(steps(&mut link), [failed(1, unreachable(), 3), failed(2, unreachable(), 3)]);
    // One attempt only.
    assert!(link.send(3, &value(), secs(20)));
    link.open_failed(Failure::Unsupported, secs(20));
    assert_eq!(steps(&mut link), [Step::Open, failed(3, Failure::Unsupported, 1)]);
    // Until something is heard of it.
    link.heard(secs(21));
    assert!(link.send(4, &value(), secs(21)));
    link.open_failed(unreachable(), secs(21));
    assert_eq!(steps(&mut link), [Step::Open]);
    assert_eq!(link.deadline(), Some(secs(23)));
    // And a wait for somebody unreachable ends with it.
    link.heard(secs(22));
    assert_eq!(link.deadline(), Some(secs(22)));
}

#[test]
fn the_time_for_an_ack_begins_when_the_message_is_out_and_with_each_ack() {
    let mut link = Link::new(EPOCH);
    link.send(1, &value(), secs(0));
    link.opened(OURS, secs(0));
    link.send(2, &value(), secs(0));
    assert_eq!(link.deadline(), None, "the writer has a time-out of its own");
    link.written(OURS, 1, secs(10));
    link.written(OURS, 2, secs(10));
    assert_eq!(link.deadline(), Some(secs(15)));
    ack(&mut link, 1, secs(14));
    assert_eq!(link.deadline(), Some(secs(19)));
    ack(&mut link, 2, secs(18));
    assert_eq!(link.deadline(), Some(secs(18) + IDLE_TIMEOUT));
    steps(&mut link);
    link.tick(secs(18) + IDLE_TIMEOUT);
    assert_eq!(steps(&mut link), [Step::Close { stream: OURS }]);
    assert!(link.is_idle());
}

#[test]
fn a_stream_that_was_good_is_replaced_at_once() {
    let mut link = open(1..=3);
    ack(&mut link, 1, secs(1));
    steps(&mut link);
    link.ended(OURS, secs(2));
    assert_eq!(steps(&mut link), [Step::Open]);
    link.opened(OURS, secs(2));
    assert_eq!(steps(&mut link), [data(2), data(3)]);
    // This one acknowledges nothing.
    link.ended(OURS, secs(3));
    assert_eq!((steps(&mut link), link.deadline()), (vec![], Some(secs(5))));
    // An ack of before may still come, on any stream.
    ack(&mut link, 2, secs(3));
    assert_eq!(steps(&mut link), [done(2)]);
}

#[test]
fn forged_acks_are_nothing() {
    let mut link = open(1..=1);
    link.ended(OURS, secs(0));
    assert!(link.send(2, &value(), secs(0)));
    steps(&mut link);
    // Not sent yet, of another epoch, never given out, none of ours, odd.
    let ids =
        [id_of(EPOCH, 2), id_of(8, 1), id_of(EPOCH, 99), "x".into(), format!("{EPOCH:016X}.01")];
    for id in ids {
        link.frame(OURS, Frame::Ack { id }, secs(0));
        assert_eq!(steps(&mut link), []);
    }
}

#[test]
fn what_is_cancelled_is_not_sent_or_not_again() {
    let mut link = Link::new(EPOCH);
    link.send(1, &value(), secs(0));
    link.send(2, &value(), secs(0));
    link.cancel(1);
    link.opened(OURS, secs(0));
    assert_eq!(steps(&mut link), [Step::Open, data(2)]);
    link.cancel(2);
    ack(&mut link, 2, secs(0));
    assert_eq!(steps(&mut link), []);
    link.send(3, &value(), secs(0));
    link.cancel(3);
    steps(&mut link);
    link.ended(OURS, secs(0));
    assert_eq!((steps(&mut link), link.deadline(), link.is_idle()), (vec![], None, true));
}

#[test]
fn a_message_is_delivered_once_and_acknowledged_when_taken() {
    let mut link = Link::new(EPOCH);
    link.accepted(THEIRS, secs(0));
    assert_eq!(steps(&mut link), [Step::Reset { stream: THEIRS }], "not started");
    link.start();
    link.accepted(THEIRS, secs(0));
    let deliver = |number| vec![Step::Deliver { number, value: value() }];
    assert_eq!(arrives(&mut link, THEIRS, "a"), deliver(1));
    assert_eq!(arrives(&mut link, THEIRS, "a"), []);
    link.accepted(THEIRS + 1, secs(0));
    assert_eq!(arrives(&mut link, THEIRS + 1, "a"), []);
    assert_eq!(arrives(&mut link, THEIRS + 1, "b"), deliver(2));
    link.taken(1);
    let ack = |stream, id: &str| vec![Step::WriteAck { stream, id: id.to_owned() }];
    assert_eq!(steps(&mut link), ack(THEIRS + 1, "a"));
    assert_eq!(arrives(&mut link, THEIRS, "a"), ack(THEIRS, "a"));
    // Where the message came from is gone.
    link.ended(THEIRS + 1, secs(0));
    link.taken(2);
    assert_eq!(steps(&mut link), ack(THEIRS, "b"));
    // A stream that is unknown brings nothing.
    assert_eq!(arrives(&mut link, 999, "c"), []);
    // What waits when the protocol is stopped was never received.
    assert_eq!(arrives(&mut link, THEIRS, "c"), deliver(3));
    link.stop();
    assert_eq!(steps(&mut link), [Step::Reset { stream: THEIRS }]);
    link.taken(3);
    link.start();
    link.accepted(THEIRS, secs(0));
    assert_eq!(arrives(&mut link, THEIRS, "c"), deliver(4));
    assert_eq!(arrives(&mut link, THEIRS, "a"), ack(THEIRS, "a"));
}

#[test]
fn one_that_its_sender_gave_up_does_not_come_after_a_later_one() {
    let mut link = Link::new(EPOCH);
    link.start();
    link.accepted(THEIRS, secs(0));
    let deliver = |number| vec![Step::Deliver { number, value: value() }];
    assert_eq!(arrives(&mut link, THEIRS, &id_of(1, 5)), deliver(1));
    assert_eq!(arrives(&mut link, THEIRS, &id_of(1, 4)), []);
    link.taken(1);
    steps(&mut link);
    assert_eq!(arrives(&mut link, THEIRS, &id_of(1, 4)), []);
    // The page was reloaded.
    assert_eq!(arrives(&mut link, THEIRS, &id_of(2, 1)), deliver(2));
}

#[test]
fn a_sender_that_does_not_wait_for_acks_loses_its_stream() {
    let mut link = Link::new(EPOCH);
    link.start();
    link.accepted(THEIRS, secs(0));
    for at in 0..MAX_UNTAKEN {
        assert_eq!(arrives(&mut link, THEIRS, &at.to_string()).len(), 1);
    }
    assert_eq!(arrives(&mut link, THEIRS, "more"), [Step::Reset { stream: THEIRS }]);
    link.taken(1);
    assert_eq!(arrives(&mut link, THEIRS, "and more"), [], "nothing after a gap");
    for stream in 300..310 {
        link.accepted(stream, secs(0));
    }
    let resets = steps(&mut link).len();
    assert_eq!(resets, 10 - MAX_INBOUND_STREAMS);
}
