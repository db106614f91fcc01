//! Unsigned varints and the few protobuf shapes that dag-pb and UnixFS use, read strictly:
//! shortest form only, at most 64 bits, nothing read past the end.

use bytes::{Buf as _, Bytes};

/// Why a protobuf message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    #[error("it ends in the middle of a value")]
    Truncated,
    #[error("a varint is longer than 64 bits or not in its shortest form")]
    BadVarint,
    #[error("it uses a wire type that the format does not know")]
    WireType,
}

/// Appends `value` in the unsigned LEB128 form of multiformats and protobuf.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`write_varint`] appends for `value`.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends field `number` with a varint value.
pub fn write_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    write_varint(out, u64::from(number) << 3);
    write_varint(out, value);
}

/// Appends field `number` with a byte string.
pub fn write_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    write_varint(out, u64::from(number) << 3 | 2);
    write_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// How many bytes [`write_bytes`] appends for a field number below 16 and `len` bytes.
pub fn bytes_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Uint(u64),
    Bytes(Bytes),
    Fixed32(u32),
}

/// Reads a message's fields in order; slices of `Bytes`, so nothing is copied or allocated.
pub struct Fields {
    rest: Bytes,
}

impl Fields {
    pub fn new(message: Bytes) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value, or `None` at the end.
    #[allow(clippy::should_implement_trait, reason = "an iterator would go on after an error")]
    pub fn next(&mut self) -> Result<Option<(u32, Field)>, VarintError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| VarintError::BadVarint)?;
        let value = match key & 7 {
            0 => Field::Uint(self.varint()?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| VarintError::Truncated)?;
                if len > self.rest.len() {
                    return Err(VarintError::Truncated);
                }
                Field::Bytes(self.rest.split_to(len))
            }
            5 => {
                let bytes: [u8; 4] = match self.rest.get(..4) {
                    Some(four) => four.try_into().map_err(|_| VarintError::Truncated)?,
                    None => return Err(VarintError::Truncated),
                };
                self.rest.advance(4);
                Field::Fixed32(u32::from_le_bytes(bytes))
            }
            _ => return Err(VarintError::WireType),
        };
        Ok(Some((number, value)))
    }

    fn varint(&mut self) -> Result<u64, VarintError> {
        let (value, len) = read_varint(&self.rest)?.ok_or(VarintError::Truncated)?;
        self.rest.advance(len);
        Ok(value)
    }
}

/// Reads a varint from the front of `bytes`: its value and length; `None` if more bytes are needed.
pub fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, VarintError> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return Err(VarintError::BadVarint);
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            let shortest = i == 0 || *byte != 0;
            return if shortest { Ok(Some((value, i + 1))) } else { Err(VarintError::BadVarint) };
        }
    }
    if bytes.len() >= 10 { Err(VarintError::BadVarint) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_bad_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(read_varint(&out), Ok(Some((value, out.len()))));
            assert_eq!(read_varint(&out[..out.len() - 1]), Ok(None), "{value}");
        }
        assert_eq!(read_varint(&[0x80, 0x00]), Err(VarintError::BadVarint));
        assert_eq!(read_varint(&[0xff; 10]), Err(VarintError::BadVarint));
        assert_eq!(read_varint(&[0xff; 11]), Err(VarintError::BadVarint));
    }

    #[test]
    fn a_field_never_reaches_past_the_end() {
        let mut fields = Fields::new(Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff, 0x0f, 1]));
        assert_eq!(fields.next(), Err(VarintError::Truncated));
        let mut fields = Fields::new(Bytes::from_static(&[0x15, 1, 2]));
        assert_eq!(fields.next(), Err(VarintError::Truncated));
        let mut fields = Fields::new(Bytes::from_static(&[0x0b]));
        assert_eq!(fields.next(), Err(VarintError::WireType));
    }
}
