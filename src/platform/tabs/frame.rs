//! What the two ends of a connection say to each other: a kind, a place in the stream of bytes (8
//! bytes), and with data the bytes that begin there.

/// Kind and place.
pub const HEADER: usize = 1 + 8;
/// Bytes in one frame.
pub const CHUNK: usize = 64 << 10;
/// Longer messages are none.
pub const MAX_FRAME: usize = HEADER + CHUNK;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The other end listens now.
    Welcome,
    Data,
    /// As far as one may send now.
    Credit,
    /// Here the stream ends.
    Finish,
    /// It is broken off, both ways.
    Reset,
}

const KINDS: [Kind; 5] = [Kind::Welcome, Kind::Data, Kind::Credit, Kind::Finish, Kind::Reset];

pub fn header(kind: Kind, place: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = kind as u8;
    header[1..].copy_from_slice(&place.to_be_bytes());
    header
}

/// Kind and place of a frame; `None`: it is none. Only data has a body, and always one.
pub fn parse(frame: &[u8]) -> Option<(Kind, u64)> {
    let (header, body) = frame.split_first_chunk::<HEADER>()?;
    let [kind, place @ ..] = *header;
    let kind = *KINDS.get(usize::from(kind))?;
    let has_body = kind == Kind::Data;
    let fits = body.is_empty() != has_body && body.len() <= CHUNK;
    fits.then_some((kind, u64::from_be_bytes(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_they_were_made_as() {
        for kind in KINDS {
            for place in [0, 7, u64::MAX] {
                let frame = header(kind, place);
                let data = [&frame[..], b"x"].concat();
                let (bare, with_body) = (Some((kind, place)), Kind::Data == kind);
                assert_eq!(parse(&frame), bare.filter(|_| !with_body));
                assert_eq!(parse(&data), bare.filter(|_| with_body));
                assert_eq!(parse(&frame[..HEADER - 1]), None);
            }
        }
        assert!(parse(&[&header(Kind::Data, 0)[..], &[0; CHUNK]].concat()).is_some());
        assert_eq!(parse(&[&header(Kind::Data, 0)[..], &[0; CHUNK + 1]].concat()), None);
        assert_eq!(parse(&[9; HEADER]), None);
    }
}
