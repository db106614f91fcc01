//! Runs children, each in a process group of its own, and ends the groups when this program ends.
//!
//! A browser or a relay left behind would hold ports and memory of the next run, so every child is
//! known here until it has been waited for, and a signal to xtask ends them all first.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Result;

/// How long a group has to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);

/// Lines of a server's output kept for the message when it does not become ready.
const SERVER_LINES: usize = 64;

/// Set once a signal has come; from then on only the signal's thread says how this program ends.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Ends every child's group, then this program, on SIGINT, SIGTERM and SIGHUP.
pub fn end_children_on_signals() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            eprintln!("\nxtask: interrupted, ending what was started");
            for group in known_groups() {
                end_group(group);
            }
            std::process::exit(128 + signal);
        }
    });
}

/// Does not return after a signal: what failed then failed because of it, and is not worth a message.
pub fn leave_it_to_the_signal() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// Runs a command whose output belongs to the terminal; fails when it does.
pub fn run(title: &str, command: &mut Command) -> Result<()> {
    announce(title);
    let mut child = Group::spawn(command.stdin(Stdio::null()))?;
    let status = child.wait()?;
    expect_success(title, status)
}

/// Runs a command and hands back what it wrote on stdout.
pub fn capture(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| could_not_start(command, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}\n{}", shown(command), output.status, said.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be started and succeeds; what it says is thrown away.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Runs a command, passes its stdout through line by line, and keeps the lines that `keep` wants.
pub fn run_keeping(
    title: &str,
    command: &mut Command,
    keep: impl Fn(&str) -> bool,
) -> Result<(ExitStatus, Vec<String>)> {
    announce(title);
    let mut child = Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut kept = Vec::new();
    if let Some(stdout) = child.take_stdout() {
        let mut terminal = std::io::stdout().lock();
        for line in lossy_lines(stdout) {
            writeln!(terminal, "{line}")?;
            if keep(&line) {
                kept.push(line);
            }
        }
    }
    Ok((child.wait()?, kept))
}

/// A server that said it is ready. Dropping it ends it.
pub struct Server {
    group: Group,
    /// The first line that was a JSON object.
    pub ready: serde_json::Value,
}

impl Server {
    /// Starts a server and waits until it prints a line of JSON on stdout.
    pub fn start(title: &str, command: &mut Command, patience: Duration) -> Result<Self> {
        announce(title);
        let mut group = Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let stdout = group.take_stdout().ok_or("a server without stdout")?;
        let (sender, lines) = mpsc::sync_channel::<String>(SERVER_LINES);
        // The reader outlives readiness: a full pipe would stop the server.
        thread::spawn(move || {
            for line in lossy_lines(stdout) {
                let _ = sender.try_send(line);
            }
        });
        let deadline = Instant::now() + patience;
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match serde_json::from_str(&line) {
                    Ok(ready @ serde_json::Value::Object(_)) => return Ok(Self { group, ready }),
                    _ => said.push(line),
                },
                Err(RecvTimeoutError::Timeout) => {
                    let said = said.join("\n");
                    return Err(format!("{title}: not ready after {patience:?}\n{said}").into());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = group.wait()?;
                    return Err(format!("{title}: ended before it was ready: {status}").into());
                }
            }
        }
    }

    /// Waits until the server ends by itself.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.group.wait()
    }
}

/// A child that leads a process group of its own.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    fn spawn(command: &mut Command) -> Result<Self> {
        // Held across the spawn, so that a signal cannot come between the start and the entry.
        let mut groups = GROUPS.lock().map_err(|_| "the list of children is poisoned")?;
        let child =
            command.process_group(0).spawn().map_err(|error| could_not_start(command, &error))?;
        groups.insert(child.id().cast_signed());
        Ok(Self { child, ended: false })
    }

    fn take_stdout(&mut self) -> Option<impl Read + Send + 'static> {
        self.child.stdout.take()
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        self.ended = true;
        // What the child itself left running goes with it.
        end_group(self.id());
        forget(self.id());
        Ok(status)
    }

    fn id(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The child must be reaped while its group is being ended, else the group never empties.
        let group = self.id();
        let ender = thread::spawn(move || end_group(group));
        let _ = self.child.wait();
        let _ = ender.join();
        forget(group);
    }
}

fn known_groups() -> Vec<i32> {
    GROUPS.lock().map(|groups| groups.iter().copied().collect()).unwrap_or_default()
}

fn forget(group: i32) {
    if let Ok(mut groups) = GROUPS.lock() {
        groups.remove(&group);
    }
}

/// SIGTERM, then SIGKILL to what is still there after [`GRACE`].
fn end_group(group: i32) {
    let Some(pid) = Pid::from_raw(group) else { return };
    if kill_process_group(pid, Signal::TERM).is_err() {
        return;
    }
    let deadline = Instant::now() + GRACE;
    while test_kill_process_group(pid).is_ok() {
        if Instant::now() >= deadline {
            let _ = kill_process_group(pid, Signal::KILL);
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

pub fn announce(title: &str) {
    println!("▸ {title}");
}

fn expect_success(title: &str, status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(format!("{title}: {status}").into()) }
}

fn could_not_start(command: &Command, error: &std::io::Error) -> String {
    format!("could not start {}: {error}", shown(command))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn lossy_lines(source: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(source)
        .split(b'\n')
        .map_while(std::result::Result::ok)
        .map(|line| String::from_utf8_lossy(&line).trim_end_matches('\r').to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_server_is_gone_with_what_it_started() {
        let script = r#"sleep 600 & echo noise; echo "{\"child\":$!}"; wait"#;
        let server =
            Server::start("test", Command::new("sh").args(["-c", script]), Duration::from_secs(20))
                .expect("a server that prints JSON");
        let child =
            i32::try_from(server.ready["child"].as_i64().expect("a number")).expect("a pid");
        let child = Pid::from_raw(child).expect("a pid");
        assert!(rustix::process::test_kill_process(child).is_ok());
        drop(server);
        assert!(rustix::process::test_kill_process(child).is_err());
    }

    #[test]
    fn a_server_that_ends_early_is_an_error() {
        let ended = Server::start("test", &mut Command::new("true"), Duration::from_secs(20));
        assert!(ended.err().is_some_and(|error| error.to_string().contains("before it was ready")));
    }

    #[test]
    fn lines_are_kept_and_the_status_handed_back() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; exit 3"]);
        let (status, kept) = run_keeping("test", &mut command, |line| line == "two").expect("sh");
        assert_eq!((status.code(), kept), (Some(3), vec!["two".to_string()]));
    }
}
