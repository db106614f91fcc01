//! `third_party/futures-timer`: delays that share one timer of the browser's.
#![cfg(target_family = "wasm")]

use std::{
    cell::RefCell,
    future::Future as _,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures::future;
use futures_timer::Delay;
use tabpeer::platform::time::Instant;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn poll(delay: &mut Delay, waker: &Waker) -> bool {
    Pin::new(delay).poll(&mut Context::from_waker(waker)).is_ready()
}

#[wasm_bindgen_test]
async fn delays_end_in_their_order_and_not_too_early() {
    let started = Instant::now();
    let ended = RefCell::new(Vec::new());
    let each = [60, 20, 100, 40, 0].map(|wait| {
        let ended = &ended;
        async move {
            Delay::new(ms(wait)).await;
            assert!(started.elapsed() >= ms(wait));
            ended.borrow_mut().push(wait);
        }
    });
    future::join_all(each).await;
    assert_eq!(*ended.borrow(), [0, 20, 40, 60, 100]);
}

#[wasm_bindgen_test]
async fn a_delay_that_is_reset_starts_again() {
    let started = Instant::now();
    let mut delay = Delay::new(ms(20));
    assert!(!poll(&mut delay, Waker::noop()));
    delay.reset(ms(80));
    (&mut delay).await;
    assert!(started.elapsed() >= ms(80));
    delay.reset(ms(10));
    delay.await;
    assert!(started.elapsed() >= ms(90));
}

#[wasm_bindgen_test]
async fn who_waits_last_is_woken_and_who_is_gone_is_not_missed() {
    let mut kept = Delay::new(ms(30));
    assert!(!poll(&mut kept, Waker::noop()), "and again below, by the test's own waker");
    let mut many: Vec<Delay> = (0..1000).map(|at| Delay::new(ms(at % 40 + 1))).collect();
    for delay in &mut many {
        let _ = poll(delay, Waker::noop());
    }
    drop(many);
    kept.await;
}

/// A task that ends because its delay is dropped drops delays of its own.
#[wasm_bindgen_test]
async fn a_waker_may_hold_a_delay() {
    struct Task {
        _delay: Mutex<Delay>,
    }
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let holding = || {
        let mut inner = Delay::new(ms(50));
        assert!(!poll(&mut inner, Waker::noop()));
        Waker::from(Arc::new(Task { _delay: Mutex::new(inner) }))
    };
    let mut delay = Delay::new(ms(50));
    assert!(!poll(&mut delay, &holding()));
    assert!(!poll(&mut delay, &holding()), "the first waker goes");
    drop(delay);
    let mut delay = Delay::new(ms(1));
    assert!(!poll(&mut delay, &holding()));
    Delay::new(ms(20)).await;
    assert!(poll(&mut delay, Waker::noop()));
}
