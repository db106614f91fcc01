//! Topics of this peer ([`crate::messaging::topics`]), and what goes over them by itself: the notice
//! that its files have changed, and word of content that others have announced.

use std::time::Duration;

use libp2p::PeerId;

use super::Peer;
use crate::{
    error::{Error, Result},
    messaging::{
        direct::Value,
        topics::{Subscription, TopicError},
    },
    network::Network,
    platform::{task, time},
};

/// How long a notice may wait for its turn. Nobody waits for it here.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(10);

/// The notice that the files of this peer have changed.
pub(super) struct FileUpdates {
    /// `None`: there are no notices.
    pub topic: Option<String>,
}

impl FileUpdates {
    /// Tells, in the background, those on the topic, if this peer is on it too.
    pub(super) fn tell(&self, network: &Network) {
        let Some(topic) = &self.topic else { return };
        if !network.subscribed_topics().borrow().contains(topic) {
            return;
        }
        let peer = network.peer_id();
        let notice = format!(r#"{{"type":"p2p-webapp-file-update","peer":"{peer}"}}"#);
        let published = network.publish(topic, Value::Json(notice));
        drop(task::spawn(async move {
            if let Ok(Err(error)) = time::timeout(NOTICE_TIMEOUT, published).await {
                tracing::debug!(%error, "nobody was told that the files have changed");
            }
        }));
    }
}

impl Peer {
    /// Subscribes to a topic until the answer is dropped. Resolves when messages can be expected to
    /// come, or after some seconds.
    pub async fn subscribe(&self, topic: &str) -> Result<Subscription> {
        self.inner.network.subscribe(topic).await.map_err(topic_error)
    }

    /// Publishes a message on a topic, subscribed to it or not, in the order of the calls. Whether it
    /// went to anybody; a relay counts.
    pub fn publish(&self, topic: &str, value: Value) -> impl Future<Output = Result<bool>> + use<> {
        let published = self.inner.network.publish(topic, value);
        async move { published.await.map_err(topic_error) }
    }

    /// The peers that are known to be on a topic, without this one.
    pub async fn list_peers(&self, topic: &str) -> Result<Vec<PeerId>> {
        self.inner.network.topic_peers(topic).await.map_err(topic_error)
    }
}

fn topic_error(error: TopicError) -> Error {
    let reason = error.to_string();
    match error {
        TopicError::BadTopic { .. } => Error::BadArgument { what: "topic", reason },
        TopicError::Closed => Error::Closed,
        TopicError::NotJson { reason } => Error::BadArgument { what: "data", reason },
        TopicError::TooLarge { len, max } => {
            let reason = format!("{len} bytes, at most {max}");
            Error::TooLarge { what: "the message".into(), reason }
        }
        TopicError::TooMany { what, .. } => Error::Busy { what },
        TopicError::NotPublished { .. } => Error::BadArgument { what: "message", reason },
    }
}
