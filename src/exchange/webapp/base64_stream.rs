//! Base64 (RFC 4648 §4: standard alphabet, padded) of a stream whose pieces end anywhere. Only
//! the few bytes between two pieces are handled one by one; the rest goes through the engine.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Characters of a group and the bytes that they stand for.
const GROUP: usize = 4;
const GROUP_BYTES: usize = 3;
/// Bytes encoded in one call of the engine: keeps the buffer of a large push in step with it.
const ENCODE_STEP: usize = 48 << 10;

/// The input was not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotBase64;

/// Decodes characters as they come.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    carry: [u8; GROUP],
    carried: usize,
    /// A group with padding has been read: nothing may follow it.
    ended: bool,
}

impl Decoder {
    /// Decodes from `input` into `out` until either the input is used up or `out` has `room`
    /// bytes more; returns how many characters were used. `room` of at least a group's bytes
    /// always makes progress.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        room: usize,
    ) -> Result<usize, NotBase64> {
        let mut used = 0;
        let mut groups = room / GROUP_BYTES;
        if self.carried > 0 && groups > 0 {
            used = input.len().min(GROUP - self.carried);
            self.carry_on(&input[..used]);
            if self.carried < GROUP {
                return Ok(used);
            }
            let group = self.carry;
            self.carried = 0;
            self.run(&group, out)?;
            groups -= 1;
        }
        let rest = &input[used..];
        let whole = (rest.len() / GROUP).min(groups) * GROUP;
        self.run(&rest[..whole], out)?;
        used += whole;
        if whole < groups * GROUP {
            let left = &input[used..];
            self.carry_on(left);
            used += left.len();
        }
        Ok(used)
    }

    /// To be called at the end of the string.
    pub(super) fn end(&self) -> Result<(), NotBase64> {
        if self.carried == 0 { Ok(()) } else { Err(NotBase64) }
    }

    fn carry_on(&mut self, few: &[u8]) {
        for (place, byte) in self.carry.iter_mut().skip(self.carried).zip(few) {
            *place = *byte;
        }
        self.carried += few.len();
    }

    fn run(&mut self, groups: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
        let Some(last) = groups.last() else { return Ok(()) };
        if self.ended {
            return Err(NotBase64);
        }
        self.ended = *last == b'=';
        STANDARD.decode_vec(groups, out).map_err(|_| NotBase64)
    }
}

/// Encodes bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    carry: [u8; GROUP_BYTES],
    carried: usize,
}

impl Encoder {
    /// Appends the characters of every whole group that `input` completes.
    pub(super) fn encode(&mut self, mut input: &[u8], out: &mut String) {
        out.reserve(encoded_len((self.carried + input.len()) as u64) as usize);
        while self.carried > 0 && self.carried < GROUP_BYTES {
            let [byte, rest @ ..] = input else { return };
            self.carry_one(*byte);
            input = rest;
        }
        if self.carried == GROUP_BYTES {
            STANDARD.encode_string(self.carry, out);
            self.carried = 0;
        }
        let (whole, left) = input.split_at(input.len() / GROUP_BYTES * GROUP_BYTES);
        for step in whole.chunks(ENCODE_STEP) {
            STANDARD.encode_string(step, out);
        }
        left.iter().for_each(|byte| self.carry_one(*byte));
    }

    /// Appends the last group, padded.
    pub(super) fn end(self, out: &mut String) {
        STANDARD.encode_string(&self.carry[..self.carried], out);
    }

    fn carry_one(&mut self, byte: u8) {
        if let Some(place) = self.carry.get_mut(self.carried) {
            *place = byte;
            self.carried += 1;
        }
    }
}

/// Characters that `len` bytes become.
pub(super) fn encoded_len(len: u64) -> u64 {
    len.div_ceil(GROUP_BYTES as u64).saturating_mul(GROUP as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]], room: usize) -> Result<Vec<u8>, NotBase64> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for piece in pieces {
            let mut piece = *piece;
            while !piece.is_empty() {
                let used = decoder.decode(piece, &mut out, room)?;
                assert!(used > 0);
                piece = &piece[used..];
            }
        }
        decoder.end().map(|()| out)
    }

    #[test]
    fn what_is_not_padded_standard_base64_is_refused() {
        assert_eq!(decode(&[b"QUJD", b"RA=="], 3), Ok(b"ABCD".to_vec()));
        for bad in [&b"QQ"[..], b"Q", b"QQ==QUFB", b"Q===", b"QR==", b"-_-_", b"QQ =", b"===="] {
            assert_eq!(decode(&[bad], 30), Err(NotBase64), "{bad:?}");
        }
        assert_eq!(decode(&[b"QQ==", b"QUFB"], 30), Err(NotBase64));
    }

    proptest! {
        #[test]
        fn any_pieces_round_trip(
            data in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0usize..200,
            room in 3usize..50,
        ) {
            let (a, b) = data.split_at(cut.min(data.len()));
            let (mut encoder, mut text) = (Encoder::default(), String::new());
            encoder.encode(a, &mut text);
            encoder.encode(b, &mut text);
            encoder.end(&mut text);
            prop_assert_eq!(text.len() as u64, encoded_len(data.len() as u64));
            let (a, b) = text.as_bytes().split_at(cut.min(text.len()));
            prop_assert_eq!(decode(&[a, b], room), Ok(data));
        }
    }
}
