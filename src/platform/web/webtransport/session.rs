//! One WebTransport session: a connection of many streams.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use js_sys::{Array, JsString, Object, Promise, Reflect, Uint8Array};
use libp2p::{
    PeerId,
    core::{
        UpgradeInfo as _,
        muxing::{StreamMuxer, StreamMuxerEvent},
        upgrade::OutboundConnectionUpgrade as _,
    },
    noise,
};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, JsValue, prelude::*};
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStream, ReadableStreamDefaultReader};

use super::{
    Awaited, Endpoint, SHA2_256, WebTransportError, describe, detach, poll_promise,
    stream::{Bidirectional, ReadResult, Stream},
};
use crate::platform::{gather::Gather, transport::duplex};

#[wasm_bindgen]
extern "C" {
    /// What web-sys still calls unstable, as far as it is used here.
    #[derive(Debug)]
    type WebTransport;
    #[wasm_bindgen(constructor, catch)]
    fn new(url: &str, options: &Object) -> Result<WebTransport, JsValue>;
    #[wasm_bindgen(method, getter)]
    fn ready(this: &WebTransport) -> Promise;
    #[wasm_bindgen(method, getter)]
    fn closed(this: &WebTransport) -> Promise;
    #[wasm_bindgen(method, getter, js_name = incomingBidirectionalStreams)]
    fn incoming(this: &WebTransport) -> ReadableStream;
    #[wasm_bindgen(method, js_name = createBidirectionalStream)]
    fn create_stream(this: &WebTransport) -> Promise;
    #[wasm_bindgen(method)]
    fn close(this: &WebTransport);
}

/// An open session. Dropping it closes it.
#[derive(Debug)]
pub struct Session(SendWrapper<Inner>);

#[derive(Debug)]
struct Inner {
    session: WebTransport,
    url: String,
    incoming: ReadableStreamDefaultReader,
    accepting: Awaited,
    opening: Awaited,
}

impl Session {
    /// Resolves when the peer has proven who it is. Dropping the future closes the session.
    pub(super) async fn open(
        endpoint: Endpoint,
        noise: noise::Config,
    ) -> Result<(PeerId, Self), WebTransportError> {
        let options = options(&endpoint)?;
        let session = WebTransport::new(&endpoint.url, &options)
            .map_err(|thrown| endpoint.error(describe(&thrown)))?;
        // How it ends is learnt by reading; the browser would report a failure that nobody looks at.
        detach(&session.closed());
        let incoming = session.incoming().get_reader().unchecked_into();
        let (url, accepting, opening) = (endpoint.url.clone(), None, None);
        let mut session =
            Self(SendWrapper::new(Inner { session, url, incoming, accepting, opening }));
        let ready = JsFuture::from(session.0.session.ready());
        ready.await.map_err(|thrown| endpoint.error(describe(&thrown)))?;
        let peer = session.authenticate(&endpoint, noise).await?;
        Ok((peer, session))
    }

    /// Noise over the first stream, without a negotiation of protocols, and only for what it proves: who
    /// the peer is, and that the certificate is its own. The session is encrypted without it.
    async fn authenticate(
        &mut self,
        endpoint: &Endpoint,
        noise: noise::Config,
    ) -> Result<PeerId, WebTransportError> {
        let stream = poll_fn(|cx| self.0.poll_open(cx)).await?;
        let noise = Gather(noise.with_webtransport_certhashes(endpoint.hashes.clone()));
        let protocol = noise.protocol_info().next().unwrap_or_default();
        let (peer, _) = noise
            .upgrade_outbound(duplex(stream), protocol)
            .await
            .map_err(|error| endpoint.error(error))?;
        match endpoint.peer {
            Some(wanted) if wanted != peer => {
                Err(endpoint.error(format_args!("the peer there is {peer}, not {wanted}")))
            }
            _ => Ok(peer),
        }
    }
}

/// The certificate that the server must have.
fn options(endpoint: &Endpoint) -> Result<Object, WebTransportError> {
    let options = Object::new();
    if endpoint.hashes.is_empty() {
        return Ok(options);
    }
    let set = |object: &Object, name: &str, value: &JsValue| {
        let set = Reflect::set(object, &JsString::from(name), value);
        set.map(drop).map_err(|thrown| endpoint.error(describe(&thrown)))
    };
    let hashes = Array::new();
    for hash in endpoint.hashes.iter().filter(|hash| hash.code() == SHA2_256) {
        let entry = Object::new();
        set(&entry, "algorithm", &"sha-256".into())?;
        set(&entry, "value", &Uint8Array::new_from_slice(hash.digest()))?;
        hashes.push(&entry);
    }
    if hashes.length() == 0 {
        return Err(endpoint.error("its address has no SHA-256 of a certificate"));
    }
    set(&options, "serverCertificateHashes", &hashes)?;
    Ok(options)
}

impl Inner {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, WebTransportError>> {
        let session = &self.session;
        let opened = ready!(poll_promise(&mut self.opening, || session.create_stream(), cx));
        Poll::Ready(self.stream(opened))
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, WebTransportError>> {
        let incoming = &self.incoming;
        let read = ready!(poll_promise(&mut self.accepting, || incoming.read(), cx));
        Poll::Ready(match read {
            Ok(read) if read.unchecked_ref::<ReadResult>().done() => {
                Err(self.error("it was closed"))
            }
            read => self.stream(read.map(|read| read.unchecked_ref::<ReadResult>().value())),
        })
    }

    fn stream(&self, found: Result<JsValue, JsValue>) -> Result<Stream, WebTransportError> {
        let stream = found.and_then(|stream| Stream::new(stream.unchecked_ref::<Bidirectional>()));
        stream.map_err(|thrown| self.error(&describe(&thrown)))
    }

    fn error(&self, reason: &str) -> WebTransportError {
        WebTransportError(format!("{}: {reason}", self.url))
    }

    fn close(&self) {
        detach(&self.incoming.cancel());
        self.session.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl StreamMuxer for Session {
    type Substream = Stream;
    type Error = WebTransportError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, WebTransportError>> {
        self.0.poll_accept(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, WebTransportError>> {
        self.0.poll_open(cx)
    }

    fn poll_close(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), WebTransportError>> {
        self.0.close();
        Poll::Ready(Ok(()))
    }

    /// Nothing happens with a session but its streams; its end is found by accepting one.
    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, WebTransportError>> {
        Poll::Pending
    }
}
