//! The answering side.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tabpeer::content::profile::Profile;
use tabpeer::store::Store;
use tokio::io::AsyncReadExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Reply, Request, receive, send, socket_path};
use crate::content::{self, AddOptions};

/// Connections at once; others wait.
const MAX_CLIENTS: usize = 8;
/// For the request to come, and for each reply to be taken.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Events of an add that wait to be sent.
const EVENT_QUEUE: usize = 64;
/// After a failed `accept`, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    socket: PathBuf,
    /// Whose the socket is.
    owner: u32,
}

impl Server {
    /// The caller has the store, so a socket that is there already is one that a relay left behind.
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let socket = socket_path(data_dir);
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        let owner = fs::metadata(&socket)?.uid();
        Ok(Self { listener, socket, owner })
    }

    pub async fn run(self, store: Store, mut stop: oneshot::Receiver<()>) {
        let room = Arc::new(Semaphore::new(MAX_CLIENTS));
        let mut clients = JoinSet::new();
        loop {
            let permit = room.clone().acquire_owned();
            let accepted = async { (permit.await, self.listener.accept().await) };
            tokio::select! {
                (Ok(permit), accepted) = accepted => match accepted {
                    Ok((stream, _)) if self.may_ask(&stream) => {
                        let store = store.clone();
                        clients.spawn(async move {
                            serve(stream, store).await;
                            drop(permit);
                        });
                    }
                    Ok(_) => tracing::warn!("another user tried to control this relay"),
                    Err(error) => {
                        tracing::warn!(%error, "a control connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = clients.join_next() => {}
                _ = &mut stop => break,
            }
        }
        // What is being added is taken back: the session of an add that is dropped is discarded.
        clients.shutdown().await;
        let _ = fs::remove_file(&self.socket);
    }

    /// Only its owner may, and root: the rights of the socket were other ones for a moment.
    fn may_ask(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == self.owner || peer.uid() == 0)
    }
}

async fn serve(stream: UnixStream, store: Store) {
    let (mut from, mut to) = stream.into_split();
    let request = tokio::time::timeout(CLIENT_TIMEOUT, receive::<Request>(&mut from)).await;
    let reply = match request {
        Ok(Ok(request)) => tokio::select! {
            reply = obey(request, &store, &mut to) => reply,
            () = gone(&mut from) => return,
        },
        Ok(Err(error)) => Reply::Failed(format!("the request cannot be read: {error}")),
        Err(_) => return,
    };
    let _ = reply_to(&mut to, &reply).await;
}

async fn obey(request: Request, store: &Store, to: &mut OwnedWriteHalf) -> Reply {
    let done = match request {
        Request::Add { path, profile, name, hidden, follow_symlinks } => {
            match profile.parse::<Profile>() {
                Ok(profile) => {
                    let options = AddOptions { profile, name, hidden, follow_symlinks };
                    add(store, &path, &options, to).await
                }
                Err(error) => Err(error.to_string()),
            }
        }
        Request::List => list(store, to).await,
        Request::Remove { cid } => match cid.parse() {
            Ok(cid) => content::remove(store, cid).await.map_err(|error| error.to_string()),
            Err(error) => Err(format!("{cid:?} is not a CID: {error}")),
        },
    };
    done.map_or_else(Reply::Failed, |()| Reply::Done)
}

async fn add(
    store: &Store,
    path: &Path,
    options: &AddOptions,
    to: &mut OwnedWriteHalf,
) -> Result<(), String> {
    let (events, mut told) = mpsc::channel(EVENT_QUEUE);
    let forward = async {
        while let Some(event) = told.recv().await {
            reply_to(to, &Reply::Event(event)).await?;
        }
        Ok::<_, io::Error>(())
    };
    let work = content::add(store, path, options, events);
    let (forwarded, added) = tokio::join!(forward, work);
    added.map_err(|error| error.to_string())?;
    forwarded.map_err(|error| error.to_string())
}

async fn list(store: &Store, to: &mut OwnedWriteHalf) -> Result<(), String> {
    for pin in content::list(store).await.map_err(|error| error.to_string())? {
        reply_to(to, &Reply::Pin(pin)).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn reply_to(to: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let sent = tokio::time::timeout(CLIENT_TIMEOUT, send(to, reply)).await;
    sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Resolves when the other side has closed the connection. It has nothing more to say.
async fn gone(from: &mut OwnedReadHalf) {
    let mut nothing = [0; 16];
    while from.read(&mut nothing).await.is_ok_and(|len| len > 0) {}
}
