//! Pub/sub by hand: GossipSub's protobuf messages, right and wrong.

use libp2p_identity::Keypair;

use crate::raw::uvarint;

/// A message, each field as its author pleases. What is `None` or empty is left out.
#[derive(Clone, Default)]
pub struct Message {
    pub from: Vec<u8>,
    pub data: Vec<u8>,
    pub sequence: Vec<u8>,
    pub topic: String,
    pub signature: Vec<u8>,
    pub key: Vec<u8>,
}

impl Message {
    /// One that keeps the rules.
    pub fn signed(key: &Keypair, sequence: u64, topic: &str, data: &[u8]) -> Self {
        Self {
            from: key.public().to_peer_id().to_bytes(),
            data: data.to_vec(),
            sequence: sequence.to_be_bytes().to_vec(),
            topic: topic.to_owned(),
            ..Self::default()
        }
        .sign(key)
    }

    /// Signs what the message says now, whoever it says it is from.
    pub fn sign(mut self, key: &Keypair) -> Self {
        (self.signature, self.key) = (Vec::new(), Vec::new());
        self.signature = key.sign(&[b"libp2p-pubsub:".to_vec(), self.encode()].concat()).expect("a key signs");
        self
    }

    /// The same on another topic, without a new signature.
    pub fn on(self, topic: &str) -> Self {
        Self { topic: topic.to_owned(), ..self }
    }

    fn encode(&self) -> Vec<u8> {
        let fields: [&[u8]; 6] =
            [&self.from, &self.data, &self.sequence, self.topic.as_bytes(), &self.signature, &self.key];
        let numbered = (1..).zip(fields).filter(|(_, bytes)| !bytes.is_empty());
        numbered.flat_map(|(number, bytes)| field(number, bytes)).collect()
    }
}

pub fn publish(messages: &[Message]) -> Vec<u8> {
    framed(messages.iter().flat_map(|message| field(2, &message.encode())).collect())
}

pub fn subscribe(topics: impl IntoIterator<Item = String>) -> Vec<u8> {
    let subscription = |topic: String| field(1, &[vec![8, 1], field(2, topic.as_bytes())].concat());
    framed(topics.into_iter().flat_map(subscription).collect())
}

/// An RPC with its length.
pub fn framed(rpc: Vec<u8>) -> Vec<u8> {
    [uvarint(rpc.len() as u64), rpc].concat()
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], uvarint(bytes.len() as u64), bytes.to_vec()].concat()
}
