//! The store's conformance suite over redb, and what only a database on a disk can show: that it is
//! there after a restart, and whole after the process was killed in the middle of its work.
#![cfg(not(target_family = "wasm"))]

mod store_conformance;

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::Arc,
};

use store_conformance::*;
use tabpeer::{
    platform::{
        database::{Database, DatabaseError, Databases as _, Op, Table},
        native::redb::{RedbDatabases, RedbOptions},
    },
    store::{Store, StoreError},
};
use tempfile::TempDir;

const NAME: &str = "conformance";

struct Disk {
    databases: RedbDatabases,
    directory: TempDir,
}

impl Disk {
    fn new() -> Self {
        Self::with_options(RedbOptions::default())
    }

    fn with_options(options: RedbOptions) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let databases = RedbDatabases::with_options(directory.path().join("store"), options);
        Self { databases, directory }
    }
}

impl Place for Disk {
    async fn open(&self) -> Arc<dyn Database> {
        self.databases.open(NAME.into()).await.expect("the database opens")
    }
}

macro_rules! run_on_disk {
    ($($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            store_conformance::$case(&Disk::new()).await;
        }
    )*};
}
for_each_case!(run_on_disk);

fn put(key: &'static str, value: Vec<u8>) -> Op {
    Op::Put { table: Table::Meta, key: key.into(), value: value.into() }
}

#[tokio::test]
async fn files_are_their_owners_alone() {
    let disk = Disk::new();
    disk.open().await.close().await;
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&disk.databases.path(NAME)), 0o600);
    assert_eq!(mode(&disk.directory.path().join("store")), 0o700);
}

#[tokio::test]
async fn values_of_every_length_come_back_and_are_counted() {
    const KIB: usize = 1 << 10;
    let disk = Disk::new();
    let piece = 256 * KIB - 512;
    let lengths = [0, 1, piece - 1, piece, piece + 1, 2 * piece, 1024 * KIB, 2048 * KIB];
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let value = |at: usize| vec![at as u8 + 1; lengths[at]];
    let database = disk.open().await;
    let puts = (0..keys.len()).map(|at| put(keys[at], value(at))).collect();
    database.write(puts).await.expect("written");
    // Longer and shorter over each other, and back.
    database.write(vec![put("a", value(7)), put("h", value(0))]).await.expect("written");
    database.write(vec![put("a", value(0)), put("h", value(7))]).await.expect("written");
    database.close().await;

    let database = disk.open().await;
    let all = keys.map(bytes::Bytes::from).to_vec();
    let values = database.get_many(Table::Meta, all.clone()).await.expect("read");
    for (at, found) in values.iter().enumerate() {
        assert!(found.as_deref() == Some(&value(at)[..]), "{} bytes", lengths[at]);
    }
    let sum: usize = lengths.iter().sum::<usize>() + keys.len();
    let usage = database.usage().await.expect("usage");
    assert_eq!((usage.used, usage.persistent), (sum as u64, true));
    let delete = |key: &bytes::Bytes| Op::Delete { table: Table::Meta, key: key.clone() };
    database.write(all.iter().map(delete).collect()).await.expect("deleted");
    assert_eq!(database.usage().await.expect("usage").used, 0);
    let values = database.get_many(Table::Meta, all).await.expect("read");
    assert!(values.iter().all(Option::is_none));
    database.close().await;
}

#[tokio::test]
async fn a_batch_above_the_quota_leaves_nothing() {
    let disk = Disk::with_options(RedbOptions { quota: Some(1000), ..RedbOptions::default() });
    let database = disk.open().await;
    database.write(vec![put("a", vec![0; 900])]).await.expect("fits");
    // In one commit with others that fit.
    let small = database.write(vec![put("b", vec![0; 10])]);
    let large = database.write(vec![put("c", vec![0; 200]), put("d", vec![])]);
    let last = database.write(vec![put("e", vec![0; 10])]);
    assert_eq!((small.await, last.await), (Ok(vec![]), Ok(vec![])));
    assert_eq!(large.await, Err(DatabaseError::QuotaExceeded));
    let swap = vec![put("x", vec![0; 900]), Op::Delete { table: Table::Meta, key: "a".into() }];
    database.write(swap).await.expect("no more than before");
    let usage = database.usage().await.expect("usage");
    assert_eq!((usage.used, usage.quota), (923, Some(1000)));
    let store = Store::open(Arc::clone(&database)).await.expect("open");
    let full = set_root(&store, &leaves(0..20), "root", &leaf(0, 100)).await;
    assert_eq!(full, Err(StoreError::QuotaExceeded));
    store.close().await;
}

#[tokio::test]
async fn one_process_at_a_time() {
    let disk = Disk::new();
    let database = disk.open().await;
    let other = RedbDatabases::new(disk.directory.path().join("store"));
    let refused = other.open(NAME.into()).await.map(drop);
    let Err(DatabaseError::Failed(message)) = refused else { panic!("{refused:?}") };
    assert!(message.contains("another process"), "{message}");
    database.close().await;
    other.open(NAME.into()).await.expect("it is free now").close().await;
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let disk = Disk::new();
    let path = disk.databases.path(NAME);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(&path, "a letter to my aunt").expect("written");
    let refused = disk.databases.open(NAME.into()).await.map(drop);
    assert!(matches!(refused, Err(DatabaseError::Failed(_))), "{refused:?}");
    assert_eq!(std::fs::read(&path).expect("read"), b"a letter to my aunt");
}

/// Set in the process whose files may not grow beyond some MiB.
const CONFINED: &str = "TABPEER_TEST_CONFINED";

/// Fills what there is, and goes on with what is left: redb itself takes a file that failed for lost.
#[tokio::test]
async fn confined() {
    let Some(directory) = std::env::var_os(CONFINED) else { return };
    let databases = RedbDatabases::new(directory);
    let database = databases.open(NAME.into()).await.expect("open");
    let mut written = 0;
    let full = loop {
        let key = format!("{written:03}").into();
        let op = Op::Put { table: Table::Blocks, key, value: vec![1; 1 << 20].into() };
        match database.write(vec![op]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "nothing confines this process");
    };
    assert_eq!(full, DatabaseError::QuotaExceeded);
    assert!(written > 2, "{written}");
    let keys = database.keys(Table::Blocks, None, 1000).await.expect("still there");
    assert_eq!(keys.len(), written);
    let values = database.get_many(Table::Blocks, keys.clone()).await.expect("read");
    assert!(values.iter().all(|value| value.as_ref().is_some_and(|value| value.len() == 1 << 20)));
    let delete = |key: &bytes::Bytes| Op::Delete { table: Table::Blocks, key: key.clone() };
    database.write(keys.iter().map(delete).collect()).await.expect("deleted");
    database.write(vec![put("small", vec![1; 1000])]).await.expect("room again");
    database.close().await;
    println!("\nconfined to {written}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_survived() {
    let disk = Disk::new();
    // 24 MiB, in units of 512 bytes; the signal that says so is ignored, so that the write fails.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 49152; exec \"$0\" confined --exact --nocapture"])
        .arg(std::env::current_exe().expect("this program"))
        .env(CONFINED, disk.directory.path().join("store"))
        .output()
        .expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("\nconfined to "), "{output:?}");
    let database = disk.open().await;
    let small = database.get_many(Table::Meta, vec!["small".into()]).await;
    assert_eq!(small, Ok(vec![Some(vec![1; 1000].into())]));
    assert_eq!(database.usage().await.expect("usage").used, 1005);
    database.close().await;
}

/// Set in the process that is going to be killed.
const VICTIM: &str = "TABPEER_TEST_VICTIM";
const ROUNDS: u64 = 12;

/// Writes roots for ever, and says which it has; what it says has to be there afterwards.
#[tokio::test]
async fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else { return };
    let databases = RedbDatabases::new(directory);
    let store = Store::open(databases.open(NAME.into()).await.expect("open")).await.expect("open");
    let before = store.roots("").await.expect("roots").len() as u64;
    for root in before.. {
        let leaves: Vec<_> = (0..8).map(|at| leaf(root * 8 + at, 300_000)).collect();
        let top = node(&leaves);
        let session = session_with(&store, leaves.iter().chain([&top])).await;
        let name = format!("root/{root:06}");
        store.commit(vec![session], vec![change(&name, None, Some(&top))]).await.expect("commit");
        if root % 3 == 2 {
            remove_root(&store, &name, &top).await;
            set_root(&store, [&top].into_iter().chain(&leaves), &name, &top).await.expect("again");
        }
        // A line of its own: the harness writes there too.
        println!("\ncommitted {root}");
    }
}

#[tokio::test]
async fn a_killed_process_leaves_what_it_had_committed() {
    let disk = Disk::new();
    let mut committed = 0;
    for round in 0..ROUNDS {
        let mut victim = Command::new(std::env::current_exe().expect("this program"))
            .args(["victim", "--exact", "--nocapture"])
            .env(VICTIM, disk.directory.path().join("store"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(victim.stdout.take().expect("piped")).lines();
        for line in lines.map_while(Result::ok) {
            if let Some(root) = line.strip_prefix("committed ") {
                committed = committed.max(root.parse::<u64>().expect("a number") + 1);
                // In the middle of what comes next, whatever that is this time.
                if committed >= round + 2 {
                    break;
                }
            }
        }
        victim.kill().expect("killed with SIGKILL");
        victim.wait().expect("gone");

        let store = open_store(&disk).await;
        assert_clean(&store).await;
        let roots = store.roots("root/").await.expect("roots").len() as u64;
        assert!(roots >= committed, "{roots} of {committed} are left");
        store.close().await;
    }
    assert!(committed >= ROUNDS);
}
