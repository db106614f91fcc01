//! Many messages, many subscribers, many topics, and a reader that is too slow.

use std::collections::BTreeSet;

use futures::future;
use tabpeer::{
    messaging::{
        direct::Value,
        topics::{MAX_QUEUED_BYTES, MAX_TOPICS, Queue, TopicError, TopicEvent},
    },
    platform::time::{self, Duration, Instant},
};

use crate::{
    PATIENCE, ROOM, json, listening, message, next, nodes, present, publish, subscribe,
    support::{by_websocket, relay},
};

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_arrive_through_the_relay_none_lost_and_in_order() {
    // Few: what is not optimised takes milliseconds to sign and to check one.
    const MESSAGES: usize = 300;
    let (relay, _data) = relay().await;
    let [a, b] = nodes(&by_websocket(&relay)).await;
    let (at_a, mut at_b) = future::join(subscribe(&a, ROOM), subscribe(&b, ROOM)).await;
    let mut times = Vec::new();
    for n in 0..50 {
        let started = Instant::now();
        publish(&a, ROOM, json(&n.to_string())).await;
        assert_eq!(message(&mut at_b).await, (a.peer_id(), json(&n.to_string())));
        times.push(started.elapsed());
    }
    times.sort();
    println!("one way through the relay: p50 {:?}, p90 {:?}", times[25], times[45]);
    let started = Instant::now();
    let text = |n: usize| json(&format!("\"{n:01022}\""));
    let sends = future::join_all((0..MESSAGES).map(|n| publish(&a, ROOM, text(n))));
    let receives = async {
        for n in 0..MESSAGES {
            let (from, value) = message(&mut at_b).await;
            let Value::Json(came) = &value else { panic!("bytes") };
            assert!(value == text(n), "{} comes as number {n}", came.trim_matches(['"', '0']));
            assert_eq!(from, a.peer_id());
        }
    };
    let (sent, ()) = future::join(sends, receives).await;
    assert!(sent.into_iter().all(|sent| sent));
    println!("1 KiB: {:.0} messages/s", MESSAGES as f64 / started.elapsed().as_secs_f64());
    drop(at_a);
    tokio::join!(a.close(), b.close());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_subscribers_hear_at_once() {
    let (relay, _data) = relay().await;
    let all: [_; 20] = nodes(&by_websocket(&relay)).await;
    let mut subscriptions = future::join_all(all.iter().map(|node| subscribe(node, ROOM))).await;
    let mut there = BTreeSet::new();
    let others: Vec<_> = all[1..].iter().collect();
    present(&mut subscriptions[0], &mut there, &others).await;
    let started = Instant::now();
    publish(&all[0], ROOM, json("1")).await;
    future::join_all(subscriptions[1..].iter_mut().map(message)).await;
    println!("20 subscribers heard within {:?}", started.elapsed());
    future::join_all(all.iter().map(|node| node.close())).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_misses_the_oldest_and_is_told_how_many() {
    let ((a, address), (b, _)) = future::join(listening(), listening()).await;
    b.dial(address).await.expect("connects");
    let (mut at_a, mut slow) = future::join(subscribe(&a, ROOM), subscribe(&b, ROOM)).await;
    let mut quick = subscribe(&b, ROOM).await;
    present(&mut at_a, &mut BTreeSet::new(), &[&b]).await;
    let value = Value::Bytes(vec![0; 120 << 10].into());
    let held = MAX_QUEUED_BYTES / value.size();
    let count = held + 20;
    let sending = async {
        for _ in 0..count {
            publish(&a, ROOM, value.clone()).await;
        }
    };
    let receiving = async {
        for _ in 0..count {
            message(&mut quick).await;
        }
    };
    time::timeout(2 * PATIENCE, future::join(sending, receiving)).await.expect("all arrive");
    let TopicEvent::Peer(_) = next(&mut slow).await else { panic!("who is there comes first") };
    assert_eq!(next(&mut slow).await, TopicEvent::Lagged(20));
    for _ in 0..held {
        assert_eq!(message(&mut slow).await.1, value);
    }
    tokio::join!(a.close(), b.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_topics_are_too_many_for_one_peer_and_nobody_else_notices() {
    let (relay, _data) = relay().await;
    let [greedy, a, b] = nodes(&by_websocket(&relay)).await;
    let each = (0..10_000).map(|n| {
        let greedy = &greedy;
        async move { greedy.subscribe(&format!("test/{n}")).await }
    });
    let all = time::timeout(PATIENCE, future::join_all(each)).await.expect("all answer");
    let (got, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!(got.len(), MAX_TOPICS);
    let limit = MAX_TOPICS;
    let too_many = TopicError::TooMany { what: "topics", limit };
    assert!(refused.into_iter().all(|refused| refused.is_err_and(|error| error == too_many)));
    assert_eq!(greedy.subscribed_topics().borrow().len(), MAX_TOPICS);

    let (mut at_a, at_b) = future::join(subscribe(&a, ROOM), subscribe(&b, ROOM)).await;
    let mut by_a = BTreeSet::new();
    present(&mut at_a, &mut by_a, &[&b]).await;
    publish(&b, ROOM, json("1")).await;
    assert_eq!(message(&mut at_a).await, (b.peer_id(), json("1")));
    // One that is given up makes room for another.
    drop(got);
    let again = async {
        while greedy.subscribed_topics().borrow().len() >= MAX_TOPICS {
            time::sleep(Duration::from_millis(10)).await;
        }
        subscribe(&greedy, ROOM).await
    };
    let at_greedy = time::timeout(PATIENCE, again).await.expect("there is room");
    present(&mut at_a, &mut by_a, &[&b, &greedy]).await;
    let queue: std::sync::Arc<Queue> = at_greedy.queue();
    queue.close();
    present(&mut at_a, &mut by_a, &[&b]).await;
    drop((at_b, at_greedy));
    tokio::join!(greedy.close(), a.close(), b.close());
    relay.stop().await;
}
