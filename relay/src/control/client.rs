//! The asking side.

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::{Reply, Request, receive, send, socket_path};

/// A connection with a relay that runs, good for one request.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    #[error("cannot reach the relay at {socket}: {source}", socket = .socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the connection with the relay broke: {0}")]
    Broken(#[from] io::Error),
    /// As the relay says.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// `None` if no relay runs with this data directory.
    pub async fn connect(data_dir: &Path) -> Result<Option<Self>, ClientError> {
        let socket = socket_path(data_dir);
        match UnixStream::connect(&socket).await {
            Ok(stream) => Ok(Some(Self { stream })),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(ClientError::Connect { socket, source }),
        }
    }

    /// Asks, and hands every reply but the last to `each`.
    pub async fn request(
        mut self,
        request: &Request,
        mut each: impl FnMut(Reply),
    ) -> Result<(), ClientError> {
        send(&mut self.stream, request).await?;
        loop {
            match receive(&mut self.stream).await? {
                Reply::Done => return Ok(()),
                Reply::Failed(reason) => return Err(ClientError::Refused(reason)),
                reply => each(reply),
            }
        }
    }
}
