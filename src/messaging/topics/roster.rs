//! `/tabpeer/topic-peers/1.0.0`: a relay tells its clients who else is on their topics.
//!
//! Gossipsub names subscribers to their neighbours only, and the clients of a relay are neighbours of
//! the relay, not of each other. So a client opens one stream to a relay that speaks this and reads;
//! it writes nothing, for the relay knows its topics from gossipsub. The relay sends frames, an
//! unsigned-varint length and JSON:
//!
//! `{"topic":T,"all":true,"joined":[ID…]}` when the stream is opened and for each topic that the client
//! subscribes to later: all who are there; then `{"topic":T,"joined":[ID…],"left":[ID…]}` as they come
//! and go. The client itself is not named. A client that does not read is let go; it opens the stream
//! again and gets the whole again. A relay can lie here about who is there, not about who wrote what.

use libp2p::{PeerId, StreamProtocol};
use serde::{Deserialize, Serialize};

use super::{MAX_MEMBERS, MAX_TOPIC_NAME};
use crate::content::varint::{read_varint, write_varint};

pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/tabpeer/topic-peers/1.0.0");
/// The largest frame: [`MAX_MEMBERS`] ids and a name, escaped.
pub const MAX_FRAME: usize = 96 * 1024;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub topic: String,
    /// `joined` are all who are there.
    pub all: bool,
    pub joined: Vec<PeerId>,
    pub left: Vec<PeerId>,
}

/// Why the bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    #[error("a frame of more than {MAX_FRAME} bytes")]
    TooLarge,
    #[error("the length before a frame is no varint")]
    BadLength,
    #[error("not the JSON of a frame")]
    Json,
    #[error("more than {MAX_MEMBERS} peers in one frame")]
    TooMany,
    #[error("a topic's name of more than {MAX_TOPIC_NAME} bytes")]
    BadTopic,
    #[error("not a peer id")]
    BadPeer,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    topic: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    joined: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
}

impl Frame {
    /// With its length in front.
    pub fn encode(&self) -> Vec<u8> {
        let texts = |peers: &[PeerId]| peers.iter().map(PeerId::to_string).collect();
        let wire = Wire {
            topic: self.topic.clone(),
            all: self.all,
            joined: texts(&self.joined),
            left: texts(&self.left),
        };
        // Texts and a bool: there is nothing that could not be written as JSON.
        let json = serde_json::to_vec(&wire).unwrap_or_default();
        let mut out = Vec::with_capacity(json.len() + 3);
        write_varint(&mut out, json.len() as u64);
        out.extend_from_slice(&json);
        out
    }

    fn decode(json: &[u8]) -> Result<Self, FrameError> {
        let wire: Wire = serde_json::from_slice(json).map_err(|_| FrameError::Json)?;
        if wire.joined.len() + wire.left.len() > MAX_MEMBERS {
            return Err(FrameError::TooMany);
        }
        if wire.topic.len() > MAX_TOPIC_NAME {
            return Err(FrameError::BadTopic);
        }
        let peers = |texts: Vec<String>| {
            let each = texts.iter().map(|text| text.parse().map_err(|_| FrameError::BadPeer));
            each.collect::<Result<Vec<PeerId>, _>>()
        };
        Ok(Self {
            topic: wire.topic,
            all: wire.all,
            joined: peers(wire.joined)?,
            left: peers(wire.left)?,
        })
    }
}

/// Cuts what arrives into frames; holds no more than one frame and what came with its end.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
}

impl FrameReader {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if it is whole. To be called until there is none before more is pushed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let front = self.buffer.get(..10).unwrap_or(&self.buffer);
        let Some((len, start)) = read_varint(front).map_err(|_| FrameError::BadLength)? else {
            return Ok(None);
        };
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_FRAME);
        let len = len.ok_or(FrameError::TooLarge)?;
        let Some(json) = self.buffer.get(start..start + len) else { return Ok(None) };
        let frame = Frame::decode(json);
        self.buffer.drain(..start + len);
        frame.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(joined: usize, left: usize) -> Frame {
        let peers = |n| (0..n).map(|_| PeerId::random()).collect();
        Frame { topic: "ro\"om".into(), all: left == 0, joined: peers(joined), left: peers(left) }
    }

    #[test]
    fn frames_come_as_they_were_sent_however_they_are_cut() {
        let sent = [frame(0, 0), frame(3, 0), frame(1, 2), frame(MAX_MEMBERS, 0)];
        let bytes: Vec<u8> = sent.iter().flat_map(Frame::encode).collect();
        for step in [1, 7, 1000, bytes.len()] {
            let (mut reader, mut came) = (FrameReader::default(), Vec::new());
            for part in bytes.chunks(step) {
                reader.push(part);
                while let Some(frame) = reader.next_frame().expect("a frame") {
                    came.push(frame);
                }
            }
            assert!(came == sent, "in steps of {step}");
        }
    }

    #[test]
    fn the_largest_frame_fits() {
        let topic = "\u{1}".repeat(MAX_TOPIC_NAME);
        let frame = Frame { topic, ..frame(MAX_MEMBERS, 0) };
        assert!(frame.encode().len() <= MAX_FRAME, "{}", frame.encode().len());
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_held() {
        let read = |bytes: &[u8]| {
            let mut reader = FrameReader::default();
            reader.push(bytes);
            reader.next_frame()
        };
        let framed = |json: &str| {
            let mut out = Vec::new();
            write_varint(&mut out, json.len() as u64);
            out.extend_from_slice(json.as_bytes());
            read(&out)
        };
        assert_eq!(read(&[0xff; 10]), Err(FrameError::BadLength));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0x7f]), Err(FrameError::TooLarge));
        assert_eq!(framed("{"), Err(FrameError::Json));
        assert_eq!(framed("{\"topic\":1}"), Err(FrameError::Json));
        assert_eq!(framed("{\"topic\":\"a\",\"joined\":[\"b\"]}"), Err(FrameError::BadPeer));
        let long = format!("{{\"topic\":\"{}\"}}", "x".repeat(MAX_TOPIC_NAME + 1));
        assert_eq!(framed(&long), Err(FrameError::BadTopic));
        let many = format!("{{\"topic\":\"a\",\"left\":[{}\"\"]}}", "\"\",".repeat(MAX_MEMBERS));
        assert_eq!(framed(&many), Err(FrameError::TooMany));
    }
}
