//! The original with the signature of 3.x.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// Resolves when its time has come.
#[derive(Debug)]
pub struct Delay(original::Delay);

impl Delay {
    pub fn new(duration: Duration) -> Self {
        Self(original::Delay::new(duration))
    }

    /// Starts again from now.
    pub fn reset(&mut self, duration: Duration) {
        self.0 = original::Delay::new(duration);
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}
