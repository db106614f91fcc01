//! Tests of the reader of type 3 against what we write, what Go writes, and what nobody should.

use bytes::Bytes;
use cid::Cid;
use proptest::prelude::*;

use super::content::{ContentDecoder, ContentDone, ContentEvent};
use super::{CONTENT_PIECE, FileEncoder, MAX_DEPTH, MAX_RAW_NODE, MAX_UNKNOWN, WireError};
use super::{encode_directory, encode_failure, frame, kind};

const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

fn cid() -> Cid {
    CID.parse().expect("a CID")
}

fn message(body: &str) -> Bytes {
    frame::message(kind::FILE_CONTENT, body.as_bytes(), body.len() as u32)
}

/// All events of `bytes` pushed in pieces that end at `cuts`.
fn events(bytes: &[u8], cuts: &[usize]) -> Result<Vec<ContentEvent>, WireError> {
    let mut cuts = [cuts, &[0, bytes.len()]].concat();
    cuts.sort_unstable();
    let (mut decoder, mut events) = (ContentDecoder::new(), Vec::new());
    for pair in cuts.windows(2) {
        events.extend(decoder.push(&bytes[pair[0]..pair[1]])?);
    }
    decoder.end()?;
    Ok(events)
}

/// Raw node, content and `Done` of a body.
fn decode(body: &str) -> Result<(Option<Bytes>, Vec<u8>, ContentDone), WireError> {
    let (mut node, mut content, mut end) = (None, Vec::new(), None);
    for event in events(&message(body), &[])? {
        match event {
            ContentEvent::BodyLength(len) => assert_eq!(len as usize, body.len()),
            ContentEvent::RawNode(bytes) => assert_eq!(node.replace(bytes), None),
            ContentEvent::Content(piece) => content.extend_from_slice(&piece),
            ContentEvent::Done(done) => assert_eq!(end.replace(done), None),
        }
    }
    Ok((node, content, end.expect("Done comes last")))
}

fn encode(node: &[u8], content: &[u8]) -> Vec<u8> {
    let (mut encoder, head) =
        FileEncoder::new(&cid(), node, content.len() as u64, "image/png").expect("small");
    let middle = encoder.push(content).expect("fits");
    [head, middle, encoder.finish().expect("whole")].concat()
}

#[test]
fn a_file_round_trips_in_pieces_of_the_named_size() {
    let content: Vec<u8> = (0..CONTENT_PIECE * 2 + 5).map(|i| (i * 7) as u8).collect();
    let bytes = encode(b"node", &content);
    let got = events(&bytes, &[]).expect("good bytes");
    let done = ContentDone {
        cid: Some(cid()),
        mime_type: Some("image/png".into()),
        content_len: Some(content.len() as u64),
        ..ContentDone::default()
    };
    let piece = |range| ContentEvent::Content(Bytes::copy_from_slice(&content[range]));
    let expected = [
        ContentEvent::BodyLength((bytes.len() - 5) as u32),
        ContentEvent::RawNode(Bytes::from_static(b"node")),
        piece(0..CONTENT_PIECE),
        piece(CONTENT_PIECE..2 * CONTENT_PIECE),
        piece(2 * CONTENT_PIECE..content.len()),
        ContentEvent::Done(done),
    ];
    assert_eq!(got, expected);
    let bytewise: Vec<usize> = (0..bytes.len()).step_by(997).collect();
    assert_eq!(events(&bytes, &bytewise).expect("good bytes"), expected);
}

#[test]
fn what_go_writes_is_read() {
    let body = format!(
        r#"{{"cid":"{CID}","content":"aGk=","isDirectory":false,"mimeType":"a\u003cb","rawNode":"aGk="}}"#
    );
    let (node, content, done) = decode(&body).expect("Go's order");
    assert_eq!((node.as_deref(), &content[..]), (Some(&b"hi"[..]), &b"hi"[..]));
    assert_eq!(done.mime_type.as_deref(), Some("a<b"));
    let got = events(&message(&body), &[]).expect("Go's order");
    assert!(matches!(got[1], ContentEvent::Content(_)), "content comes first there");
    let body = format!(
        r#"{{"cid":"{CID}","entries":{{"a\u0026b":"{CID}"}},"isDirectory":true,"rawNode":"CAE="}}"#
    );
    let (_, _, done) = decode(&body).expect("a directory");
    assert!(done.is_directory);
    assert_eq!(done.entries, Some([("a&b".to_owned(), cid())].into()));
    let (_, _, done) = decode(r#"{"cid":"x","error":"invalid CID: x"}"#).expect("a failure");
    assert_eq!((done.cid, done.error.as_deref()), (None, Some("invalid CID: x")));
}

#[test]
fn white_space_escapes_and_unknown_fields_are_read() {
    let body = " {\n\"rawNode\" : \"\\u002F\\/\\u002b+\" ,\t\"more\":[{\"a\":\"]}\"},-1e3,null],\"x\":tru\u{65}\r,\"cont\\u0065nt\":\"\\u0051Q==\"} ";
    let (node, content, done) = decode(body).expect("odd but good");
    assert_eq!(node.as_deref(), Some(&[0xff, 0xff, 0xbe][..]));
    assert_eq!((&content[..], done.content_len), (&b"A"[..], Some(1)));
    let nulls = r#"{"rawNode":"","content":"","entries":null,"mimeType":null,"error":null,"cid":null,"isDirectory":null}"#;
    assert_eq!(decode(nulls).expect("nulls").2.content_len, Some(0));
}

#[test]
fn a_directory_and_a_failure_round_trip() {
    let entries = [("a".to_owned(), cid()), ("ü\"".to_owned(), cid())].into();
    let bytes = encode_directory(&cid(), &[8, 1], &entries).expect("small");
    let got = events(&bytes, &[]).expect("good bytes");
    let Some(ContentEvent::Done(done)) = got.last() else { panic!("no end") };
    assert_eq!((done.is_directory, &done.entries), (true, &Some(entries)));
    let bytes = encode_failure(CID, "not found\u{7}").expect("small");
    let got = events(&bytes, &[]).expect("good bytes");
    let Some(ContentEvent::Done(done)) = got.last() else { panic!("no end") };
    assert_eq!(done.error.as_deref(), Some("not found "));
}

#[test]
fn bad_objects_are_refused() {
    for body in [
        "",
        " ",
        "[]",
        "null",
        "{}",
        "{,}",
        r#"{"rawNode":"",}"#,
        r#"{"rawNode":"","content":""}}"#,
        r#"{"rawNode":"","content":""} x"#,
        r#"{"rawNode":"","content":"""#,
        r#"{"rawNode":"","content":"" "cid":null}"#,
        r#"{"rawNode":"","content":"","isDirectory":1}"#,
        r#"{"rawNode":"","content":"","isDirectory":true}"#,
        r#"{"rawNode":""}"#,
        r#"{"content":""}"#,
        r#"{"rawNode":null,"content":""}"#,
        r#"{"rawNode":1,"content":""}"#,
        r#"{"rawNode":"","content":"","cid":"b"}"#,
        r#"{"rawNode":"","content":"","more":}"#,
        r#"{"rawNode":"","content":"","more":nul}"#,
        r#"{"rawNode":"","content":"","more":[}]}"#,
        r#"{"rawNode":"","content":"","more"}"#,
        r#"{"rawNode":"","content":"","entries":{"a/b":"bafkqaaa"}}"#,
        r#"{"rawNode":"","content":"","entries":{"a":"bafkqaaa","a":"bafkqaaa"}}"#,
        r#"{"rawNode":"","content":"QQ=\u00zz"}"#,
        r#"{"rawNode":"","content":"QUFB\n"}"#,
        r#"{"rawNode":"","content":"QQ"}"#,
        r#"{"rawNode":"","content":"QUFBQQ==QUFB"}"#,
        r#"{"error":7}"#,
        "{\"error\":\"a\nb\"}",
    ] {
        assert!(decode(body).is_err(), "{body}");
    }
    for field in ["content", "rawNode", "cid", "error"] {
        let twice = format!(r#"{{"{field}":"","{field}":""}}"#);
        assert!(matches!(decode(&twice), Err(WireError::DuplicateField { .. })), "{field}");
    }
}

#[test]
fn every_bound_holds() {
    let unknown = "x".repeat(MAX_UNKNOWN / 2);
    let body = format!(r#"{{"error":"","a":"{unknown}","b":"{unknown}"}}"#);
    assert!(matches!(decode(&body), Err(WireError::TooLarge { .. })));
    let deep = "[".repeat(MAX_DEPTH + 1);
    assert!(matches!(decode(&format!(r#"{{"a":{deep}"#)), Err(WireError::TooDeep { .. })));
    let name = "n".repeat(super::MAX_KEY);
    assert!(matches!(decode(&format!(r#"{{"{name}":1}}"#)), Err(WireError::TooLarge { .. })));
    let short = "s".repeat(super::MAX_SHORT_FIELD);
    assert!(matches!(decode(&format!(r#"{{"cid":"{short}"}}"#)), Err(WireError::TooLarge { .. })));
    for (len, ok) in [(MAX_RAW_NODE, true), (MAX_RAW_NODE + 1, false), (MAX_RAW_NODE + 9, false)] {
        let mut text = String::new();
        let mut base64 = super::base64_stream::Encoder::default();
        base64.encode(&vec![7; len], &mut text);
        base64.end(&mut text);
        let read = decode(&format!(r#"{{"rawNode":"{text}","content":""}}"#));
        assert_eq!(read.is_ok(), ok, "{len}");
        assert!(ok || matches!(read, Err(WireError::TooLarge { what: "rawNode", .. })));
    }
}

#[test]
fn the_length_prefix_is_neither_believed_nor_ignored() {
    let body = format!(r#"{{"cid":"{CID}","error":"x"}}"#);
    let good = message(&body);
    for (delta, name) in [(-1i32, "short"), (1, "long")] {
        let mut lie = good.to_vec();
        lie[4] = lie[4].wrapping_add_signed(delta as i8);
        assert!(events(&lie, &[]).is_err(), "{name}");
    }
    let mut decoder = ContentDecoder::with_limit(100);
    let refused = decoder.push(&[3, 0, 0, 0, 101]);
    assert!(matches!(refused, Err(WireError::TooLarge { len: 101, max: 100, .. })));
    assert_eq!(decoder.push(&good), refused);
    let mut huge = ContentDecoder::new();
    assert_eq!(huge.push(&[3, 255, 255, 255, 255]), Ok(vec![ContentEvent::BodyLength(u32::MAX)]));
    let want = 5 + u64::from(u32::MAX);
    assert!(matches!(huge.end(), Err(WireError::Truncated { have: 5, want: w, .. }) if w == want));
    assert!(ContentDecoder::new().push(&[1]).is_err());
    assert!(matches!(
        events(&[&good[..], b" "].concat(), &[]),
        Err(WireError::TrailingBytes { .. })
    ));
}

#[test]
fn every_truncation_is_an_error_at_the_end() {
    let bytes = encode(b"some node", b"and its content");
    for cut in 0..bytes.len() {
        let mut decoder = ContentDecoder::new();
        decoder.push(&bytes[..cut]).expect("a good beginning");
        let end = decoder.end();
        let have = cut as u64;
        assert!(matches!(end, Err(WireError::Truncated { have: h, .. }) if h == have), "{cut}");
    }
}

fn spaces() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// A body with the fields in any order, any white space and some slashes escaped.
fn body() -> impl Strategy<Value = (String, Vec<u8>, Vec<u8>)> {
    let data = || proptest::collection::vec(any::<u8>(), 0..60);
    (data(), data(), any::<[u8; 4]>(), proptest::collection::vec(spaces(), 20)).prop_map(
        |(node, content, order, spaces)| {
            let text = |data: &[u8]| {
                let (mut base64, mut text) =
                    (super::base64_stream::Encoder::default(), String::new());
                base64.encode(data, &mut text);
                base64.end(&mut text);
                text.replacen('/', "\\/", 2).replacen('A', "\\u0041", 1)
            };
            let fields = [
                format!("\"rawNode\"@:@\"{}\"", text(&node)),
                format!("\"content\"@:@\"{}\"", text(&content)),
                format!("\"cid\"@:@\"{CID}\""),
                "\"more\"@:@{\"a\":[1,\"}\"]}".to_owned(),
            ];
            let mut sorted: Vec<usize> = (0..4).collect();
            sorted.sort_by_key(|i| order[*i]);
            let fields: Vec<&str> = sorted.iter().map(|i| &*fields[*i]).collect();
            let mut body = format!("@{{@{}@}}@", fields.join("@,@"));
            for space in spaces {
                body = body.replacen('@', &space, 1);
            }
            (body.replace('@', ""), node, content)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_order_and_any_pieces_give_the_same_events(
        (body, node, content) in body(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let bytes = message(&body);
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        let whole = events(&bytes, &[]).expect("a good body");
        prop_assert_eq!(&events(&bytes, &cuts).expect("a good body"), &whole);
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&events(&bytes, &every).expect("a good body"), &whole);
        let (got_node, got_content, done) = decode(&body).expect("a good body");
        prop_assert_eq!(got_node.expect("a node"), node);
        prop_assert_eq!(got_content, content);
        prop_assert_eq!(done.cid, Some(cid()));
    }

    #[test]
    fn damage_and_noise_do_not_panic(
        (body, _, _) in body(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = message(&body).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let cut = cut.index(bytes.len());
        prop_assert_eq!(events(&bytes, &[]).is_ok(), events(&bytes, &[cut]).is_ok());
        let _ = events(&noise, &[]);
        let framed = frame::message(kind::FILE_CONTENT, &noise, noise.len() as u32);
        let _ = events(&framed, &[]);
    }
}
