//! What tabs say to all: version, kind, from whom; with a connection to take up also to whom (8 bytes
//! each), and what its channel is named by.

use super::{Tab, Token};

/// Longer messages are none.
pub const MAX_NOTICE: usize = 2 + 8 + 8 + 16;

const VERSION: u8 = 1;
const HELLO: u8 = 1;
const OPEN: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    pub from: Tab,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A tab is there.
    Hello,
    /// There is a connection to take up.
    Open { to: Tab, token: Token },
}

impl Notice {
    pub fn encode(&self) -> Vec<u8> {
        let from = self.from.to_be_bytes();
        match &self.what {
            What::Hello => [&[VERSION, HELLO][..], &from].concat(),
            What::Open { to, token } => {
                [&[VERSION, OPEN][..], &from, &to.to_be_bytes(), token].concat()
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([VERSION, kind], rest) = bytes.split_first_chunk()? else { return None };
        let (from, rest) = rest.split_first_chunk()?;
        let what = match *kind {
            HELLO if rest.is_empty() => What::Hello,
            OPEN => {
                let (to, token) = rest.split_first_chunk()?;
                What::Open { to: Tab::from_be_bytes(*to), token: token.try_into().ok()? }
            }
            _ => return None,
        };
        Some(Self { from: Tab::from_be_bytes(*from), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn what_is_said_is_understood() {
        for what in [What::Hello, What::Open { to: 5, token: [7; 16] }] {
            let notice = Notice { from: 1 << 60, what };
            let bytes = notice.encode();
            assert!(bytes.len() <= MAX_NOTICE);
            assert_eq!(Notice::decode(&bytes), Some(notice));
            for len in 0..bytes.len() {
                assert_eq!(Notice::decode(&bytes[..len]), None, "cut to {len}");
            }
            assert_eq!(Notice::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn garbage_is_nothing() {
        let mut random = Random(3);
        for _ in 0..20_000 {
            let len = random.below(2 * MAX_NOTICE as u64);
            let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            if let Some(start) = bytes.first_chunk_mut().filter(|_| random.chance(80)) {
                *start = [VERSION, 1 + random.below(3) as u8];
            }
            if let Some(notice) = Notice::decode(&bytes) {
                assert_eq!(notice.encode(), bytes);
            }
        }
    }
}
