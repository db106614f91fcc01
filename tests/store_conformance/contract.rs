//! The database's own contract.

use bytes::Bytes;
use tabpeer::platform::database::{DatabaseError, Op, Table};

use super::fixture::Place;

const TABLE: Table = Table::Meta;

fn put(key: &'static str, value: impl Into<Bytes>) -> Op {
    Op::Put { table: TABLE, key: key.into(), value: value.into() }
}

fn put_new(key: &'static str, value: impl Into<Bytes>) -> Op {
    Op::PutNew { table: TABLE, key: key.into(), value: value.into() }
}

fn expect(key: &'static str, value: Option<&'static str>) -> Op {
    Op::Expect { table: TABLE, key: key.into(), value: value.map(Bytes::from) }
}

pub async fn batches_are_all_or_nothing(place: &impl Place) {
    let database = place.open().await;
    database.write(vec![put("a", "1"), put("b", "2")]).await.expect("written");
    let good = vec![
        expect("a", Some("1")),
        expect("c", None),
        put("a", "3"),
        Op::Delete { table: TABLE, key: "b".into() },
    ];
    assert_eq!(database.write(good).await, Ok(vec![]));
    for wrong in [expect("a", None), expect("a", Some("1")), expect("zz", Some("3"))] {
        let batch = vec![put("a", "4"), put_new("d", "5"), wrong, put("e", "6")];
        assert_eq!(database.write(batch).await, Err(DatabaseError::Conflict));
    }
    let keys = ["a", "b", "c", "d", "e"].map(Bytes::from).to_vec();
    let values = database.get_many(TABLE, keys.clone()).await.expect("read");
    assert_eq!(values, [Some("3".into()), None, None, None, None]);
    let has = database.has_many(TABLE, keys).await.expect("read");
    assert_eq!(has, [true, false, false, false, false]);
    assert_eq!(database.write(vec![]).await, Ok(vec![]));
    assert_eq!(database.get_many(TABLE, vec![]).await, Ok(vec![]));
    database.close().await;
}

pub async fn put_new_reports_what_it_wrote(place: &impl Place) {
    let database = place.open().await;
    let (small, large) = (Bytes::from_static(b"s"), Bytes::from(vec![7; 100_000]));
    let first = vec![put_new("s", small.clone()), put_new("l", large.clone())];
    assert_eq!(database.write(first).await, Ok(vec![true, true]));
    let again = vec![
        put_new("l", vec![8; 100_000]),
        put("x", "y"),
        put_new("s", "other"),
        put_new("new", "n"),
        put_new("large", large.clone()),
        put_new("empty", ""),
    ];
    assert_eq!(database.write(again).await, Ok(vec![false, false, true, true, true]));
    let keys = ["s", "l", "x", "new", "large", "empty"].map(Bytes::from).to_vec();
    let expected = [small, large.clone(), "y".into(), "n".into(), large, Bytes::new()];
    let values = database.get_many(TABLE, keys).await.expect("read");
    assert_eq!(values, expected.map(Some));
    let only_known = vec![put_new("s", "other"), put_new("new", "other")];
    assert_eq!(database.write(only_known).await, Ok(vec![false, false]));
    database.close().await;
}

pub async fn values_of_all_sizes_come_back_in_their_order(place: &impl Place) {
    const SIZES: [usize; 7] = [0, 1, (64 << 10) - 1, 64 << 10, 100_000, 1 << 20, 2 << 20];
    let table = Table::Blocks;
    let key = |at: usize| Bytes::copy_from_slice(&(at as u32).to_be_bytes());
    let value = |at: usize, round: usize| {
        let len = SIZES[(at + round) % SIZES.len()];
        (0..len).map(|byte| (byte * 7 + at + round) as u8).collect::<Bytes>()
    };
    let database = place.open().await;
    // In the second round each is replaced by one of another size.
    for round in 0..2 {
        let all = 0..2 * SIZES.len();
        let batch = all.clone().map(|at| match at % 2 {
            0 => Op::Put { table, key: key(at), value: value(at, round) },
            _ if round == 0 => Op::PutNew { table, key: key(at), value: value(at, 0) },
            _ => Op::Put { table, key: key(at), value: value(at, round) },
        });
        database.write(batch.collect()).await.expect("written");
        let missing = 1_000_000;
        let asked = all.clone().rev().chain([missing]).map(key).collect();
        let found = database.get_many(table, asked).await.expect("read");
        let expected = all.rev().map(|at| Some(value(at, round))).chain([None]);
        assert!(expected.eq(found), "round {round}");
    }
    database.close().await;
}

pub async fn keys_come_in_order_and_in_pages(place: &impl Place) {
    let database = place.open().await;
    let keys: [&[u8]; 6] = [&[], &[0], &[0, 0], &[1, 0xff], &[0x7f], &[0xff, 1]];
    let put = |key: &&'static [u8]| Op::Put {
        table: Table::Roots,
        key: Bytes::from_static(key),
        value: "v".into(),
    };
    database.write(keys.iter().rev().map(put).collect()).await.expect("written");
    let other = Op::Put { table: Table::Refs, key: "elsewhere".into(), value: "v".into() };
    database.write(vec![other]).await.expect("written");
    let mut found = Vec::new();
    loop {
        let page = database.keys(Table::Roots, found.last().cloned(), 4).await.expect("keys");
        assert!(page.len() <= 4);
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    assert_eq!(found, keys.map(Bytes::from_static));
    database.close().await;
}

pub async fn calls_take_effect_in_their_order(place: &impl Place) {
    let database = place.open().await;
    // Large blocks may go another way to the disk than what is small or elsewhere.
    for (table, len) in [(TABLE, 50_000), (Table::Blocks, 50_000), (Table::Blocks, 300_000)] {
        let value = |byte| Bytes::from(vec![byte; len]);
        let key = |key: &'static str| Bytes::from_static(key.as_bytes());
        let put = |name, value| Op::Put { table, key: key(name), value };
        let put_new = |byte| Op::PutNew { table, key: key("k"), value: value(byte) };
        let delete = || Op::Delete { table, key: key("k") };
        let get = |name| database.get_many(table, vec![key(name)]);
        // None of these is polled before all are made.
        let first = database.write(vec![put_new(1)]);
        let second = database.write(vec![put_new(2)]);
        let read = get("k");
        let other = database.write(vec![put("small", "1".into())]);
        let (small, keys) = (get("small"), database.keys(table, None, 9));
        let deleted = database.write(vec![delete()]);
        let has = database.has_many(table, vec![key("k"), key("small")]);
        let conflict = expect("nothing", Some("other"));
        let refused = database.write(vec![conflict, put("refused", value(9))]);
        let third = database.write(vec![put_new(3)]);
        let unpolled = database.write(vec![put("unpolled", value(4))]);
        drop(unpolled);
        let last = database.get_many(table, ["k", "unpolled", "refused"].map(key).to_vec());
        assert!(last.await == Ok(vec![Some(value(3)), Some(value(4)), None]), "{table:?} {len}");
        assert_eq!(third.await, Ok(vec![true]));
        assert_eq!(refused.await, Err(DatabaseError::Conflict));
        assert_eq!(has.await, Ok(vec![false, true]));
        assert_eq!(keys.await, Ok(vec![key("k"), key("small")]));
        assert_eq!(small.await, Ok(vec![Some("1".into())]));
        assert!(read.await == Ok(vec![Some(value(1))]), "{table:?} {len}");
        assert_eq!((first.await, second.await), (Ok(vec![true]), Ok(vec![false])));
        assert_eq!((other.await, deleted.await), (Ok(vec![]), Ok(vec![])));
        let clean = ["k", "small", "unpolled"].map(|name| Op::Delete { table, key: key(name) });
        database.write(clean.to_vec()).await.expect("deleted");
    }
    database.close().await;
}

pub async fn a_closed_database_says_so(place: &impl Place) {
    let database = place.open().await;
    let large = Op::Put { table: Table::Blocks, key: "l".into(), value: vec![7; 100_000].into() };
    let writes = [vec![large], vec![put("k", "v")]].map(|batch| database.write(batch));
    database.close().await;
    for write in writes {
        assert_eq!(write.await, Ok(vec![]), "what was started before is finished");
    }
    let late = database.write(vec![put("late", "v")]).await;
    assert!(matches!(late, Err(DatabaseError::Closed(_))), "{late:?}");
    let late = database.get_many(TABLE, vec!["k".into()]).await;
    assert!(matches!(late, Err(DatabaseError::Closed(_))), "{late:?}");
    let again = place.open().await;
    let values = again.get_many(TABLE, vec!["k".into(), "late".into()]).await;
    assert_eq!(values, Ok(vec![Some("v".into()), None]));
    let large = again.get_many(Table::Blocks, vec!["l".into()]).await;
    assert!(large == Ok(vec![Some(vec![7; 100_000].into())]));
    again.close().await;
}
