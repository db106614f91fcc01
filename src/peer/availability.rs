//! Word of new content on topics ([`crate::messaging::availability`]): announcing it, and
//! watching topics for what others announce.

use std::sync::Arc;

use libp2p::PeerId;

use super::Peer;
use crate::{
    content::block::Cid,
    error::Result,
    messaging::{
        availability::{Availability, Notices, message},
        direct::Value,
        topics::{Queue, Subscription, TopicEvent},
    },
    network::Network,
    platform::task,
};

/// A topic that is watched. Dropping it ends that.
#[derive(Debug)]
pub struct ContentWatch(Arc<Queue>);

impl Peer {
    /// Tells those on a topic that there is `hash`, on this peer or elsewhere. If this peer watches the topic
    /// its connected peers are told too. Whether it went to anybody on the topic; a relay counts.
    pub fn announce_content(
        &self,
        topic: &str,
        hash: Cid,
    ) -> impl Future<Output = Result<bool>> + use<> {
        let published = self.publish(topic, Value::Json(message::encode_update(&hash)));
        let (peer, topic) = (self.clone(), topic.to_owned());
        async move {
            let told = published.await?;
            let own = peer.peer_id();
            let availability = &peer.inner.availability;
            if availability.is_watched(&topic) && availability.said(own, hash) {
                pass_on(availability, &peer.inner.network, &topic, own, hash).await;
            }
            Ok(told)
        }
    }

    /// Subscribes to a topic for what is announced there, until the answer is dropped:
    /// [`content_notices`](Self::content_notices) tells it, and the connected peers are told.
    pub async fn watch_content(&self, topic: &str) -> Result<ContentWatch> {
        let subscription = self.subscribe(topic).await?;
        let watch = ContentWatch(subscription.queue());
        let (availability, network) = (self.inner.availability.clone(), self.inner.network.clone());
        let watched = availability.watched(topic.into());
        drop(task::spawn(async move {
            listen(subscription, &availability, &network).await;
            drop(watched);
        }));
        Ok(watch)
    }

    /// What is announced from now on, on the topics that are watched or by connected peers who watch one.
    pub fn content_notices(&self) -> Notices {
        self.inner.availability.notices()
    }
}

impl ContentWatch {
    pub fn close(&self) {
        self.0.close();
    }
}

impl Drop for ContentWatch {
    fn drop(&mut self) {
        self.close();
    }
}

async fn listen(mut subscription: Subscription, availability: &Availability, network: &Network) {
    let topic: Arc<str> = subscription.topic().into();
    while let Some(event) = subscription.next().await {
        let TopicEvent::Message { from, value: Value::Json(text) } = event else { continue };
        let Some(hash) = message::decode_update(&text) else { continue };
        if availability.heard(&topic, from, hash) {
            pass_on(availability, network, &topic, from, hash).await;
        }
    }
}

async fn pass_on(
    availability: &Availability,
    network: &Network,
    topic: &str,
    source: PeerId,
    hash: Cid,
) {
    if let Ok(members) = network.topic_peers(topic).await {
        availability.pass_on(source, hash, &members);
    }
}
