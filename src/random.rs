//! Numbers by chance from a seed: the same seed, the same run. Nothing that must not be guessed is made of
//! them.

use crate::platform::time::Duration;

/// The generator SplitMix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The pause, up to half of the share `jitter` longer or shorter, so that many who began together do
    /// not go on together.
    pub fn jittered(&mut self, pause: Duration, jitter: f64) -> Duration {
        pause.mul_f64(1.0 + jitter * (self.fraction() - 0.5))
    }

    #[cfg(test)]
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    #[cfg(test)]
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
