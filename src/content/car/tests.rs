//! CARs made here and CARs made badly.

use bytes::Bytes;
use cid::Version;
use proptest::prelude::*;

use super::*;
use crate::content::block::{DAG_PB, RAW};

fn blocks() -> Vec<Block> {
    let block = |version, codec, len| {
        let data: Vec<u8> = (0..len).map(|i: usize| (i * 7) as u8).collect();
        Block::encode(version, codec, data.into())
    };
    vec![
        block(Version::V1, RAW, 0),
        block(Version::V1, RAW, 300),
        block(Version::V0, DAG_PB, 40),
        block(Version::V1, DAG_PB, 5),
    ]
}

fn car(roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut out = car_header(roots).to_vec();
    blocks.iter().flat_map(car_section).for_each(|part| out.extend_from_slice(&part));
    out
}

fn wrapped(payload: &[u8], padding: usize, index: &[u8]) -> Vec<u8> {
    let mut out = b"\x0a\xa1\x67version\x02".to_vec();
    out.extend_from_slice(&[0; 16]);
    let offset = 51 + padding as u64;
    for value in [offset, payload.len() as u64, offset + payload.len() as u64] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.resize(out.len() + padding, 0);
    out.extend_from_slice(payload);
    out.extend_from_slice(index);
    out
}

/// All items, or why there are no more.
fn read(file: &[u8], piece: usize) -> (Vec<CarItem>, Result<(), CarError>) {
    let (mut reader, mut items) = (CarReader::new(), Vec::new());
    for piece in file.chunks(piece) {
        reader.push(Bytes::copy_from_slice(piece));
        loop {
            match reader.next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!((reader.next(), reader.held()), (Ok(None), 0));
                    return (items, Err(error));
                }
            }
        }
        assert!(reader.held() <= MAX_SECTION + piece.len());
    }
    (items, reader.end())
}

fn expected(roots: &[Cid], blocks: &[Block]) -> Vec<CarItem> {
    let items = blocks.iter().map(|block| CarItem::Block(*block.cid(), block.data().clone()));
    std::iter::once(CarItem::Roots(roots.to_vec())).chain(items).collect()
}

#[test]
fn what_is_written_is_read_in_any_pieces() {
    let blocks = blocks();
    let many: Vec<Cid> = blocks.iter().map(|block| *block.cid()).cycle().take(300).collect();
    for roots in [&[][..], &[*blocks[2].cid()], &many] {
        let file = car(roots, &blocks);
        for file in [file.clone(), wrapped(&file, 0, b""), wrapped(&file, 77, b"an index")] {
            for piece in [1, 2, 3, 50, 64, 1000, 1 << 20] {
                let (items, end) = read(&file, piece);
                assert_eq!((items, end), (expected(roots, &blocks), Ok(())), "{piece}");
            }
        }
    }
}

#[test]
fn a_known_header_is_written_byte_by_byte() {
    // From the CARv1 specification's fixture: one dag-cbor root.
    let cid: Cid = "bafyreihyrpefhacm6kkp4ql6j6udakdit7g3dmkzfriqfykhjw6cad5lrm".parse().expect("");
    let hex = "3aa265726f6f747381d82a58250001711220f88bc853804cf294fe417e4fa83028689fcdb1b1592c5102e1474dbc200fab8b6776657273696f6e01";
    let header: String = car_header(&[cid]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header, hex);
}

#[test]
fn a_file_cut_anywhere_is_truncated_or_ends_between_sections() {
    let blocks = blocks();
    let roots = [*blocks[0].cid()];
    let plain = car(&roots, &blocks);
    let mut borders = vec![car_header(&roots).len()];
    for block in &blocks {
        let len: usize = car_section(block).iter().map(Bytes::len).sum();
        borders.push(borders.last().expect("one") + len);
    }
    for cut in 0..plain.len() {
        let (items, end) = read(&plain[..cut], 64);
        assert!(items.len() <= expected(&roots, &blocks).len());
        assert_eq!(end.is_ok(), borders.contains(&cut), "{cut}");
        if let Err(error) = end {
            assert_eq!(error, CarError::Truncated { at: cut as u64 });
        }
    }
    // A CARv2 says how long it is, so there every cut shows.
    let wrapped = wrapped(&plain, 9, b"");
    for cut in 0..wrapped.len() {
        assert_eq!(read(&wrapped[..cut], 64).1, Err(CarError::Truncated { at: cut as u64 }));
    }
}

#[test]
fn lengths_are_refused_before_anything_is_waited_for() {
    let refused = |file: &[u8]| {
        let mut reader = CarReader::new();
        reader.push(Bytes::copy_from_slice(file));
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it waits"),
                Err(error) => return error,
            }
        }
    };
    assert_eq!(refused(b"\0"), CarError::BadLength { at: 0 });
    assert_eq!(refused(&[0xff; 10]), CarError::BadLength { at: 0 });
    assert_eq!(refused(&[0x80, 0x00]), CarError::BadLength { at: 0 });
    let over = |len: usize| {
        let mut out = Vec::new();
        write_varint(&mut out, len as u64 + 1);
        out
    };
    let len = MAX_HEADER as u64 + 1;
    assert_eq!(refused(&over(MAX_HEADER)), CarError::TooLarge { at: 0, len });
    let mut file = car(&[], &[]);
    let at = file.len() as u64;
    file.extend(over(MAX_SECTION));
    assert_eq!(refused(&file), CarError::TooLarge { at, len: MAX_SECTION as u64 + 1 });
    // A section that is short enough with a block that is not.
    let mut file = car(&[], &[]);
    write_varint(&mut file, MAX_BLOCK as u64 + 37);
    file.extend_from_slice(&blocks()[0].cid().to_bytes());
    file.resize(file.len() + MAX_BLOCK + 1, 0);
    assert!(matches!(refused(&file), CarError::TooLarge { .. }));
    // A CARv2 whose payload lies far off, before its header, is none, or is shorter than a section.
    let payload = car(&[], &blocks());
    let with = |at: usize, value: u64| {
        let mut file = wrapped(&payload, 0, b"");
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        file
    };
    for file in [with(27, 52 + MAX_PADDING), with(27, 50), with(27, u64::MAX), with(35, 0)] {
        assert!(matches!(refused(&file), CarError::BadHeader { .. }));
    }
    assert!(matches!(refused(&with(35, payload.len() as u64 - 1)), CarError::BadLength { .. }));
    assert_eq!(refused(&wrapped(&wrapped(&payload, 0, b""), 0, b"")), CarError::Version(2));
}

#[test]
fn headers_that_are_none_are_refused() {
    let header = |body: &[u8]| read(&[&[body.len() as u8], body].concat(), 64).1;
    for body in [
        &b"<html>"[..],
        b"\xa0",
        b"\xa1\x67version\x01",
        b"\xa1\x65roots\x80",
        b"\xa2\x65roots\x80\x67version\x01\x00",
        b"\xa2\x67version\x01\x67version\x01",
        b"\xa2\x65roots\x80\x67version\x18\x01",
        b"\xa2\x65roots\x9f\xff\x67version\x01",
        b"\xa2\x65roots\x81\x01\x67version\x01",
        b"\xa2\x65roots\x81\xd8\x2a\x41\x00\x67version\x01",
        b"\xa2\x65roots\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x67version\x01",
        b"\xa2\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(matches!(header(body), Err(CarError::BadHeader { .. })), "{body:02x?}");
    }
    assert_eq!(header(b"\xa2\x65roots\x80\x67version\x03"), Err(CarError::Version(3)));
    assert_eq!(header(b"\xa2\x67version\x01\x65roots\x80"), Ok(()));
}

#[test]
fn a_block_within_one_piece_is_not_copied() {
    let file = Bytes::from(car(&[], &blocks()));
    let mut reader = CarReader::new();
    reader.push(file.clone());
    while let Some(item) = reader.next().expect("a CAR") {
        if let CarItem::Block(_, data) = item {
            assert!(data.is_empty() || file.as_ptr_range().contains(&data.as_ptr()));
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_upset_the_reader(file in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..40) {
        let _ = read(&file, piece);
    }

    #[test]
    fn no_change_of_a_byte_upsets_the_reader(at in 0usize..500, to: u8, piece in 1usize..90) {
        let mut file = wrapped(&car(&[*blocks()[0].cid()], &blocks()), 3, b"index");
        if let Some(byte) = file.get_mut(at) {
            *byte = to;
        }
        let _ = read(&file, piece);
    }
}
