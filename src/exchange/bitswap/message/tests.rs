use super::*;
use crate::content::block::{DAG_PB, RAW, SHA2_256, cid_of, sha256};
use proptest::prelude::*;

fn cid(text: &str) -> Cid {
    cid_of(Version::V1, RAW, &sha256(text.as_bytes()))
}

fn want(cid: Cid, kind: WantKind) -> WantEntry {
    WantEntry { cid, priority: 1, kind, cancel: false, send_dont_have: true }
}

fn joined(message: &Message) -> Bytes {
    message.encode().concat().into()
}

fn body(message: &Message) -> Bytes {
    let whole = joined(message);
    whole.slice(whole.len() - message.encoded_len()..)
}

/// What a message of the specification's schema looks like, written out by hand.
#[test]
fn a_message_of_every_field_has_the_bytes_of_the_schema() {
    let wanted = cid("a");
    let had = cid("b");
    let message = Message {
        wants: vec![
            WantEntry { priority: 300, ..want(wanted, WantKind::Have) },
            WantEntry {
                cid: wanted,
                priority: 0,
                kind: WantKind::Block,
                cancel: true,
                send_dont_have: false,
            },
        ],
        full: true,
        blocks: vec![RawBlock {
            version: Version::V1,
            codec: RAW,
            hash_code: SHA2_256,
            data: Bytes::from_static(b"xyz"),
        }],
        presences: vec![(had, Presence::Have), (had, Presence::DontHave)],
        pending_bytes: 5,
    };
    let mut expected = vec![0x0a, 45 + 2 + 40 + 2 + 2];
    expected.extend([0x0a, 45, 0x0a, 36]);
    expected.extend(wanted.to_bytes());
    expected.extend([0x10, 0xac, 0x02, 0x20, 1, 0x28, 1]);
    expected.extend([0x0a, 40, 0x0a, 36]);
    expected.extend(wanted.to_bytes());
    expected.extend([0x18, 1]);
    expected.extend([0x10, 1]);
    expected.extend([0x1a, 11, 0x0a, 4, 0x01, 0x55, 0x12, 0x20, 0x12, 3, b'x', b'y', b'z']);
    expected.extend([0x22, 38, 0x0a, 36]);
    expected.extend(had.to_bytes());
    expected.extend([0x22, 40, 0x0a, 36]);
    expected.extend(had.to_bytes());
    expected.extend([0x10, 1]);
    expected.extend([0x28, 5]);
    let mut framed = Vec::new();
    write_varint(&mut framed, expected.len() as u64);
    framed.extend_from_slice(&expected);
    assert_eq!(joined(&message), framed);
    assert_eq!(Message::decode(expected.into()), Ok(message));
}

#[test]
fn defaults_may_be_written_out_and_negative_numbers_have_ten_bytes() {
    // An older Helia writes every field, zeros too; a negative int32 is sign-extended.
    let cid = cid("a");
    let mut entry = vec![0x0a, 36];
    entry.extend(cid.to_bytes());
    entry.extend([0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    entry.extend([0x18, 0, 0x20, 0, 0x28, 0]);
    let mut wantlist = vec![0x0a, entry.len() as u8];
    wantlist.extend(entry);
    wantlist.extend([0x10, 0]);
    let mut bytes = vec![0x0a, wantlist.len() as u8];
    bytes.extend(wantlist);
    bytes.extend([0x28, 0]);
    let message = Message::decode(bytes.into()).expect("decodes");
    assert_eq!(message.wants.len(), 1);
    assert_eq!((message.wants[0].priority, message.wants[0].kind), (-1, WantKind::Block));
    assert_eq!(Message::decode(body(&message)), Ok(message));
}

#[test]
fn unknown_fields_and_blocks_of_the_first_version_are_skipped() {
    let bytes: &[u8] = &[
        0x12, 2, 1, 2, 0x1a, 8, 0x0a, 4, 0, 0x70, 0x12, 0x20, 0x38, 9, 0x7a, 1, 0, 0x7d, 1, 2, 3, 4,
    ];
    let message = Message::decode(Bytes::from_static(bytes)).expect("decodes");
    let empty =
        RawBlock { version: Version::V0, codec: DAG_PB, hash_code: SHA2_256, data: Bytes::new() };
    assert_eq!(message, Message { blocks: vec![empty], ..Message::default() });
    assert_eq!(Message::decode(Bytes::new()), Ok(Message::default()));
    assert!(Message::default().is_empty());
}

#[test]
fn what_is_out_of_bounds_is_refused_by_name() {
    let field = |number: u32, value: &[u8]| {
        let mut out = Vec::new();
        write_bytes(&mut out, number, value);
        out
    };
    let refused = |bytes: Vec<u8>| Message::decode(bytes.into()).expect_err("refused");
    let long = field(1, &field(1, &field(1, &[1; MAX_CID + 1])));
    assert_eq!(refused(long), MessageError::CidTooLong { len: MAX_CID + 1 });
    let mut block = field(1, &[1, 0x55, 0x12, 0x20]);
    block.extend(field(2, &vec![0; MAX_BLOCK + 1]));
    assert_eq!(refused(field(3, &block)), MessageError::BlockTooLarge { len: MAX_BLOCK + 1 });
    let huge = vec![0; MAX_MESSAGE + 1];
    assert_eq!(refused(huge), MessageError::TooLarge { len: MAX_MESSAGE as u64 + 1 });

    let entry = field(1, &field(1, &[1, 0x55, 0, 0]));
    let many = field(1, &entry.repeat(MAX_ENTRIES + 1));
    assert_eq!(refused(many), MessageError::TooMany("wants"));
    assert!(Message::decode(field(1, &entry.repeat(MAX_ENTRIES)).into()).is_ok());
    let presence = field(4, &field(1, &[1, 0x55, 0, 0]));
    assert_eq!(refused(presence.repeat(MAX_ENTRIES + 1)), MessageError::TooMany("presences"));
    let block = field(3, &field(1, &[1, 0x55, 0, 0]));
    assert_eq!(refused(block.repeat(MAX_ENTRIES + 1)), MessageError::TooMany("blocks"));

    for (bytes, why) in [
        (field(1, &field(1, &[])), "a want without a CID"),
        (field(1, &field(1, &field(1, &[1, 0x55, 0x12]))), "a CID that is none"),
        (field(1, &field(1, &field(1, &[1, 0x55, 0, 0, 0]))), "a CID that is none"),
        (field(4, &[]), "a presence without a CID"),
        (field(4, &[0x10, 2]), "an unknown presence"),
        (field(1, &field(1, &[0x20, 2])), "an unknown kind of want"),
        (field(3, &field(2, &[1])), "a block without a prefix"),
        (field(3, &field(1, &[1, 0x55, 0x12])), "a block's prefix is not that of a CID"),
        (field(3, &field(1, &[2, 0x55, 0x12, 0x20])), "a block's prefix is not that of a CID"),
        (field(3, &field(1, &[1, 0x55, 0x12, 0x20, 1])), "a block's prefix is not that of a CID"),
        (vec![0x08, 1], "a field of the wrong type"),
        (field(1, &[0x08, 1]), "a field of the wrong type"),
        (field(5, &[]), "a field of the wrong type"),
    ] {
        assert_eq!(refused(bytes), MessageError::Shape(why));
    }
    assert_eq!(refused(vec![0x0b]), MessageError::Protobuf(VarintError::WireType));
    assert_eq!(refused(vec![0x0a, 5, 1]), MessageError::Protobuf(VarintError::Truncated));
    assert_eq!(refused(vec![0x28, 0x80]), MessageError::Protobuf(VarintError::Truncated));
    assert_eq!(refused(vec![0x28, 0x80, 0]), MessageError::Protobuf(VarintError::BadVarint));
}

#[test]
fn large_data_is_neither_copied_in_nor_out() {
    let data = Bytes::from(vec![7; 1 << 20]);
    let block =
        RawBlock { version: Version::V1, codec: RAW, hash_code: SHA2_256, data: data.clone() };
    let message = Message { blocks: vec![block.clone(), block], ..Message::default() };
    let pieces = message.encode();
    assert_eq!(pieces.len(), 4);
    assert_eq!((pieces[1].as_ptr(), pieces[3].as_ptr()), (data.as_ptr(), data.as_ptr()));
    let whole = joined(&message);
    let range = whole.as_ptr_range();
    let mut reader = MessageReader::new();
    reader.push(whole.clone());
    let read = reader.next().expect("reads").expect("whole");
    assert!(read.blocks.iter().all(|block| range.contains(&block.data.as_ptr())));
    assert_eq!(read, message);
}

#[test]
fn a_reader_refuses_a_length_before_the_bytes_come_and_stays_so() {
    for prefix in [&[0x81u8, 0x80, 0x80, 0x02][..], &[0xff, 0xff, 0xff, 0xff], &[0x80, 0x00]] {
        let mut reader = MessageReader::new();
        reader.push(Bytes::copy_from_slice(prefix));
        let error = reader.next().expect_err("refused");
        reader.push(Bytes::from_static(&[0]));
        assert_eq!(reader.next(), Err(error));
    }
    let mut reader = MessageReader::new();
    reader.push(Bytes::from_static(&[0x80, 0x80, 0x80, 0x02, 0x28]));
    assert_eq!(reader.next(), Ok(None));
    assert!(!reader.is_between_messages());
}

#[test]
fn the_rest_of_a_large_message_is_read_into_its_place() {
    let block = |byte, len: usize| RawBlock {
        version: Version::V1,
        codec: RAW,
        hash_code: SHA2_256,
        data: vec![byte; len].into(),
    };
    let messages = [
        Message { blocks: vec![block(1, 1 << 20)], ..Message::default() },
        Message { blocks: vec![block(2, 100)], ..Message::default() },
        Message { blocks: vec![block(3, 700_000), block(4, 800_000)], ..Message::default() },
    ];
    let whole: Bytes = messages.iter().map(joined).collect::<Vec<_>>().concat().into();
    for step in [1000, 64 << 10, 3 << 20] {
        let (mut reader, mut stream, mut read) = (MessageReader::new(), whole.clone(), Vec::new());
        let mut direct = 0;
        while !stream.is_empty() {
            let rest = reader.rest();
            let len = step.min(stream.len());
            if rest.is_empty() {
                reader.push(stream.split_to(len.min(64 << 10)));
            } else {
                let part = stream.split_to(len.min(rest.len()));
                rest[..part.len()].copy_from_slice(&part);
                reader.advance(part.len());
                direct += part.len();
            }
            while let Some(message) = reader.next().expect("valid") {
                read.push(message);
            }
        }
        assert_eq!(read.len(), 3);
        assert!(read == messages, "step {step}");
        assert!(reader.is_between_messages() && reader.rest().is_empty());
        assert!(direct > 2_000_000, "{direct} bytes were read into place");
    }
}

#[test]
fn nothing_is_set_aside_for_a_message_that_only_announces_its_length() {
    let mut reader = MessageReader::new();
    // 4 MiB are announced.
    reader.push(Bytes::from_static(&[0x80, 0x80, 0x80, 0x02]));
    assert_eq!(reader.next(), Ok(None));
    assert!(reader.rest().is_empty());
    reader.push(vec![0; 1000].into());
    assert_eq!(reader.next(), Ok(None));
    assert!(reader.rest().is_empty());
}

fn any_cid() -> impl Strategy<Value = Cid> {
    (any::<[u8; 32]>(), any::<bool>(), any::<bool>()).prop_map(|(digest, v0, pb)| {
        let version = if v0 { Version::V0 } else { Version::V1 };
        cid_of(version, if pb { DAG_PB } else { RAW }, &digest)
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let want = (any_cid(), any::<i32>(), any::<[bool; 3]>()).prop_map(|(cid, priority, flags)| {
        let kind = if flags[0] { WantKind::Block } else { WantKind::Have };
        WantEntry { cid, priority, kind, cancel: flags[1], send_dont_have: flags[2] }
    });
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (COPIED_DATA - 1..COPIED_DATA + 2).prop_map(|len| vec![3; len]),
    ];
    let block = (any_cid(), data).prop_map(|(cid, data)| RawBlock {
        version: cid.version(),
        codec: cid.codec(),
        hash_code: SHA2_256,
        data: data.into(),
    });
    let presence = (any_cid(), any::<bool>())
        .prop_map(|(cid, has)| (cid, if has { Presence::Have } else { Presence::DontHave }));
    (
        prop::collection::vec(want, 0..5),
        any::<bool>(),
        prop::collection::vec(block, 0..5),
        prop::collection::vec(presence, 0..5),
        any::<i32>(),
    )
        .prop_map(|(wants, full, blocks, presences, pending_bytes)| Message {
            wants,
            full,
            blocks,
            presences,
            pending_bytes,
        })
}

proptest! {
    #[test]
    fn messages_round_trip_at_their_computed_length(message in any_message()) {
        prop_assert_eq!(Message::decode(body(&message)), Ok(message));
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_messages(
        messages in prop::collection::vec(any_message(), 0..4),
        sizes in prop::collection::vec(1usize..200, 1..50),
    ) {
        let mut stream: Bytes = messages.iter().map(joined).collect::<Vec<_>>().concat().into();
        let mut reader = MessageReader::new();
        let mut read = Vec::new();
        for size in sizes.iter().cycle() {
            if stream.is_empty() {
                break;
            }
            reader.push(stream.split_to((*size).min(stream.len())));
            while let Some(message) = reader.next().expect("valid") {
                read.push(message);
            }
        }
        prop_assert!(reader.is_between_messages());
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::decode(bytes.into());
    }

    /// Mutations of a valid message reach deeper than noise does.
    #[test]
    fn damaged_messages_never_panic(message in any_message(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = joined(&message).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut reader = MessageReader::new();
        reader.push(bytes.into());
        while let Ok(Some(_)) = reader.next() {}
    }
}
