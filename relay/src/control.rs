//! The socket by which `tabpeer-relay add`, `ls` and `rm` speak to the relay that runs: the store's file belongs to one
//! process at a time.
//!
//! A Unix domain socket in the data directory, for its owner only. One request per connection, then replies, the last of
//! which is [`Reply::Done`] or [`Reply::Failed`]; each is a 4-byte big-endian length and as much JSON. Going away takes
//! back a request that is not done.

mod client;
mod server;

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::content::{AddEvent, Pin};

pub use client::{Client, ClientError};
pub use server::Server;

/// Name of the socket in the data directory.
const SOCKET: &str = "control.sock";
/// Longest message: a path has at most 4 KiB, in JSON at most six times as much.
const MAX_MESSAGE: usize = 64 * 1024;

/// What is asked.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "request")]
pub enum Request {
    /// The relay reads the file or folder itself.
    Add {
        path: PathBuf,
        profile: String,
        name: Option<String>,
        hidden: bool,
        follow_symlinks: bool,
    },
    List,
    Remove {
        cid: String,
    },
}

/// What is answered.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    Event(AddEvent),
    Pin(Pin),
    Done,
    Failed(String),
}

/// Where the socket of a relay with this data directory is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

async fn send(
    stream: &mut (impl AsyncWriteExt + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the message is too long");
    if json.len() > MAX_MESSAGE {
        return Err(too_long());
    }
    let len = u32::try_from(json.len()).map_err(|_| too_long())?;
    let mut frame = len.to_be_bytes().to_vec();
    frame.extend_from_slice(&json);
    stream.write_all(&frame).await
}

async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<T> {
    let len = stream.read_u32().await? as usize;
    if len > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut json = vec![0; len];
    stream.read_exact(&mut json).await?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_as_they_went_and_none_is_too_long() {
        let (mut here, mut there) = tokio::io::duplex(1 << 20);
        send(&mut here, &Request::Remove { cid: "x".into() }).await.unwrap();
        assert!(
            matches!(receive(&mut there).await.unwrap(), Request::Remove { cid } if cid == "x")
        );
        let long = send(&mut here, &Reply::Failed("x".repeat(MAX_MESSAGE))).await;
        assert_eq!(long.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        here.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let refused = receive::<Request>(&mut there).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
}
