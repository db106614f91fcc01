//! An HTTP server that can be made to misbehave.
#![allow(dead_code)] // each test file uses a part of it

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// With the query.
    pub path: String,
    /// All header lines, in lower case.
    pub headers: String,
}

/// A server on a free loopback port; ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Each connection carries one request, which `answer` answers.
    pub async fn start<A>(answer: A) -> Self
    where
        A: Fn(Request, TcpStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let log = requests.clone();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (log, answer) = (log.clone(), answer.clone());
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut stream).await else { return };
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                    answer(request, stream).await;
                });
            }
        });
        Self { address, requests, task }
    }

    /// Answers everything alike.
    pub async fn always(status: u16, headers: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::start(move |_, stream| {
            let body = body.clone();
            Box::pin(async move { respond(stream, status, headers, &body).await })
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        text.push(byte);
    }
    let text = String::from_utf8(text).ok()?;
    let (line, headers) = text.split_once("\r\n")?;
    let path = line.split(' ').nth(1)?.to_owned();
    Some(Request { path, headers: headers.to_ascii_lowercase() })
}

/// A whole answer. `headers`: further lines, each with its end.
pub async fn respond(mut stream: TcpStream, status: u16, headers: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
    let _ = stream.shutdown().await;
}

/// The beginning of an answer whose length nobody says.
pub async fn head(stream: &mut TcpStream, status: u16, headers: &str) {
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
}

/// Resolves when the other side has closed the connection.
pub async fn closed(stream: &mut TcpStream) {
    while matches!(stream.read(&mut [0; 64]).await, Ok(len) if len > 0) {}
}
