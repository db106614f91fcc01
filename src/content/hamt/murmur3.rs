//! murmur3-x64-64 (multicodec 0x22): the first half of MurmurHash3's x64 128-bit variant with seed 0.
//! Ours because the crates at hand read through `io::Read` or through raw pointers.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The hash of `data`.
pub fn murmur3_x64_64(data: &[u8]) -> u64 {
    let (mut h1, mut h2) = (0u64, 0u64);
    let mut chunks = data.chunks_exact(16);
    for chunk in &mut chunks {
        h1 ^= scramble_1(word(&chunk[..8]));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= scramble_2(word(&chunk[8..]));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low, high) = chunks.remainder().split_at(chunks.remainder().len().min(8));
    h2 ^= scramble_2(word(high));
    h1 ^= scramble_1(word(low));

    h1 ^= data.len() as u64;
    h2 ^= data.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

/// Up to eight bytes as a little-endian number.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn scramble_1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn scramble_2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn finish(mut k: u64) -> u64 {
    k = (k ^ k >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    k = (k ^ k >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two are printed in the MurmurHash3 documentation of several libraries; the third is
    /// the UnixFS specification's worked example ("470.txt" lies in slot 00, then 6E).
    #[test]
    fn published_vectors() {
        assert_eq!(murmur3_x64_64(b""), 0);
        assert_eq!(murmur3_x64_64(b"hello"), 0xcbd8_a7b3_41bd_9b02);
        let quick = b"The quick brown fox jumps over the lazy dog";
        assert_eq!(murmur3_x64_64(quick), 0xe34b_bc7b_bc07_1b6c);
        assert_eq!(murmur3_x64_64(b"470.txt") >> 48, 0x006e);
        assert_eq!(murmur3_x64_64(b"742.txt") >> 48, 0x00ff);
    }
}
