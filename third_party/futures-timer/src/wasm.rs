//! A time, and while it is waited for a place in the list that one timer serves.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use wasm_bindgen::prelude::*;
use web_time::Instant;

/// The longest time that `setTimeout` takes.
const MAX_TIMEOUT: u128 = i32::MAX as u128;
/// A timer that has not fired so long after its time is being held back.
const LATE: Duration = Duration::from_secs(1);

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &Closure<dyn Fn()>, milliseconds: i32) -> JsValue;
    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(id: &JsValue);
}

thread_local! {
    static TIMERS: RefCell<Timers> = const { RefCell::new(Timers { waiting: Vec::new(), armed: None, last: 0 }) };
    static ON_TIME: Closure<dyn Fn()> = Closure::new(on_time);
}

/// Resolves when its time has come.
#[derive(Debug)]
pub struct Delay {
    due: Instant,
    /// Its place among those that wait.
    place: Option<u64>,
}

struct Timers {
    waiting: Vec<Waiting>,
    /// The timer that runs, and when it fires.
    armed: Option<(Instant, JsValue)>,
    last: u64,
}

struct Waiting {
    place: u64,
    due: Instant,
    waker: Waker,
}

impl Delay {
    pub fn new(duration: Duration) -> Self {
        Self { due: after(duration), place: None }
    }

    /// Starts again from now.
    pub fn reset(&mut self, duration: Duration) {
        self.leave();
        self.due = after(duration);
    }

    fn leave(&mut self) {
        if let Some(place) = self.place.take() {
            // With its waker a task may end, and other delays with that.
            drop(TIMERS.with_borrow_mut(|timers| timers.leave(place)));
        }
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.due {
            self.leave();
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        match self.place {
            Some(place) => drop(TIMERS.with_borrow_mut(|timers| timers.replace(place, waker))),
            None => {
                self.place = Some(TIMERS.with_borrow_mut(|timers| timers.wait(self.due, waker)))
            }
        }
        Poll::Pending
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Timers {
    fn wait(&mut self, due: Instant, waker: Waker) -> u64 {
        self.last += 1;
        self.waiting.push(Waiting { place: self.last, due, waker });
        self.arm(due);
        self.last
    }

    /// Gives back the waker that is not wanted any more.
    fn replace(&mut self, place: u64, waker: Waker) -> Waker {
        match self.waiting.iter_mut().find(|waiting| waiting.place == place) {
            Some(waiting) => std::mem::replace(&mut waiting.waker, waker),
            None => waker,
        }
    }

    /// The timer that runs is left: it finds nothing to do.
    fn leave(&mut self, place: u64) -> Option<Waiting> {
        let at = self.waiting.iter().position(|waiting| waiting.place == place)?;
        Some(self.waiting.swap_remove(at))
    }

    /// Sees to it that the timer fires at `due` or before.
    fn arm(&mut self, due: Instant) {
        let (now, mut due) = (Instant::now(), due);
        match &self.armed {
            // A hidden page's timers are held back when they come of timers, for up to a minute, and
            // not when they come of something else, as this one may.
            Some((at, id)) if now.saturating_duration_since(*at) > LATE => {
                clear_timeout(id);
                due = now;
            }
            Some((at, _)) if *at <= due => return,
            Some((_, id)) => clear_timeout(id),
            None => {}
        }
        // Rounded up: a timer that fires too early would be set again.
        let wait = due.saturating_duration_since(now).as_micros().div_ceil(1000);
        let id = ON_TIME.with(|on_time| set_timeout(on_time, wait.min(MAX_TIMEOUT) as i32));
        self.armed = Some((due, id));
    }
}

fn on_time() {
    let now = Instant::now();
    let due = TIMERS.with_borrow_mut(|timers| {
        timers.armed = None;
        let due: Vec<Waiting> = timers.waiting.extract_if(.., |w| w.due <= now).collect();
        if let Some(next) = timers.waiting.iter().map(|waiting| waiting.due).min() {
            timers.arm(next);
        }
        due
    });
    for waiting in due {
        waiting.waker.wake();
    }
}

fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    // As good as never.
    now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(1 << 31))
}
