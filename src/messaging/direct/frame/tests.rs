use proptest::prelude::*;

use super::*;

fn framed(json: &str) -> Vec<u8> {
    [&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat()
}

fn data(json: &str) -> Frame {
    Frame::Data { id: "a".to_owned(), value: Value::Json(json.to_owned()) }
}

fn read(mut bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let frame = FrameReader::new().read(&mut bytes)?;
    assert!(bytes.is_empty());
    Ok(frame)
}

#[test]
fn golden_frames() {
    let golden = framed(r#"{"type":"data","id":"a","data":"eyJ4IjoxfQ=="}"#);
    assert_eq!(data(r#"{"x":1}"#).encode(), golden);
    assert_eq!(read(&golden), Ok(Some(data(r#"{"x":1}"#))));
    let golden = framed(r#"{"type":"ack","id":"a\"b"}"#);
    assert_eq!(Frame::Ack { id: "a\"b".to_owned() }.encode(), golden);
    let bytes = Value::Bytes(Bytes::from_static(&[1, 2, 255]));
    let frame = Frame::Data { id: "a".to_owned(), value: bytes };
    // "AQL/" in quotes, in base64 again.
    let golden = framed(r#"{"type":"data","id":"a","data":"IkFRTC8i","bytes":true}"#);
    assert_eq!(frame.encode(), golden);
    assert_eq!(read(&golden), Ok(Some(frame)));
    // Who does not know the mark gets the string.
    let unmarked = framed(r#"{"type":"data","id":"a","data":"IkFRTC8i"}"#);
    assert_eq!(read(&unmarked), Ok(Some(data(r#""AQL/""#))));
}

#[test]
fn what_others_add_is_ignored() {
    let ack = Ok(Some(Frame::Ack { id: "ä".to_owned() }));
    for json in [
        r#" {"id":"\u00e4","type":"ack","data":null,"more":{"type":[1,2]}} "#,
        r#"{"type":"\u0061ck","id":"ä","data":"???","seq":7}"#,
    ] {
        assert_eq!(read(&framed(json)), ack, "{json}");
    }
    let escaped = framed(r#"{"type":"data","id":"a","data":"\u0062nVsbA\u003d="}"#);
    assert_eq!(read(&escaped), Ok(Some(data("null"))));
}

#[test]
fn bad_frames_are_refused_by_name() {
    use std::mem::discriminant;
    let json = || FrameError::Json { reason: String::new() };
    let value = || FrameError::Value { reason: String::new() };
    let long = "i".repeat(MAX_ID + 1);
    for (text, error) in [
        ("", json()),
        ("[]", json()),
        ("{}", json()),
        (r#"{"type":"data"}"#, json()),
        (r#"{"type":"ack","id":7}"#, json()),
        (r#"{"type":"ack","id":"a"} x"#, json()),
        (r#"{"type":"ack","id":"a","id":"b"}"#, json()),
        (r#"{"type":"ack","id":""}"#, FrameError::Id { len: 0 }),
        (&format!(r#"{{"type":"ack","id":"{long}"}}"#), FrameError::Id { len: 0 }),
        (r#"{"type":"nack","id":"a"}"#, FrameError::Type),
        (r#"{"type":"data","id":"a"}"#, value()),
        (r#"{"type":"data","id":"a","data":"eA"}"#, FrameError::Base64),
        (r#"{"type":"data","id":"a","data":"-_-_"}"#, FrameError::Base64),
        (r#"{"type":"data","id":"a","data":"eA=="}"#, value()),
        (r#"{"type":"data","id":"a","data":"Iv8i"}"#, value()),
        (r#"{"type":"data","id":"a","data":"bnVsbA==","bytes":true}"#, value()),
        (r#"{"type":"data","id":"a","data":"Ij8i","bytes":true}"#, FrameError::Base64),
    ] {
        let refused = read(&framed(text)).expect_err(text);
        assert_eq!(discriminant(&refused), discriminant(&error), "{text}: {refused}");
    }
}

#[test]
fn the_largest_values_pass_and_larger_do_not() {
    let json = |len: usize| Value::Json(format!("\"{}\"", "x".repeat(len - 2)));
    let bytes = |len: usize| Value::Bytes(vec![0; len].into());
    // The id that takes most room: each of its bytes is six characters.
    let id = "\u{1}".repeat(MAX_ID);
    for (fits, value) in [
        (true, json(MAX_VALUE)),
        (true, bytes(MAX_VALUE)),
        (false, json(MAX_VALUE + 1)),
        (false, bytes(MAX_VALUE + 1)),
    ] {
        let frame = Frame::Data { id: id.clone(), value };
        let refused = Err(FrameError::ValueTooLarge { len: MAX_VALUE + 1 });
        assert_eq!(read(&frame.encode()), if fits { Ok(Some(frame)) } else { refused });
    }
    let huge = encode_data(&id, &bytes(MAX_FRAME));
    assert_eq!(read(&huge), Err(FrameError::TooLarge { len: huge.len() - HEADER }));
}

#[test]
fn nothing_is_allocated_for_what_was_only_announced() {
    let mut reader = FrameReader::new();
    let announced = (MAX_FRAME as u32).to_be_bytes();
    assert_eq!(reader.read(&mut &announced[..]), Ok(None));
    assert_eq!(reader.read(&mut &b"{"[..]), Ok(None));
    assert!(reader.body.capacity() <= FIRST_ALLOCATION && !reader.is_between_frames());
    let mut reader = FrameReader::new();
    let mut input = &[0xff, 0xff, 0xff, 0xff, 0][..];
    let refused = Err(FrameError::TooLarge { len: u32::MAX as usize });
    assert_eq!(reader.read(&mut input), refused);
    assert_eq!(reader.read(&mut input), refused);
}

proptest! {
    #[test]
    fn any_pieces_give_the_same_frames(
        ids in proptest::collection::vec("\\PC{1,12}", 1..6),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        piece in 1usize..80,
    ) {
        let frames: Vec<Frame> = ids.into_iter().enumerate().map(|(at, id)| match at % 3 {
            0 => Frame::Ack { id },
            1 => Frame::Data { id, value: Value::Bytes(bytes.clone().into()) },
            _ => Frame::Data { id, value: Value::Json(format!("[{}]", bytes.len())) },
        }).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().to_vec()).collect();
        let (mut reader, mut read) = (FrameReader::new(), Vec::new());
        for mut piece in stream.chunks(piece) {
            while let Some(frame) = reader.read(&mut piece).expect("good") {
                read.push(frame);
            }
        }
        prop_assert!(reader.is_between_frames());
        prop_assert_eq!(read, frames);
    }
}
