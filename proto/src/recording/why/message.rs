//! What became of a message: sent, held, expired, or dropped.

use super::Explanation;
use crate::engine::{Command, Input, NetAction, NetEvent, Output, PublishId, PublishOutcome, Reply};
use crate::event::AviEvent;
use crate::publish::Published;
use crate::recording::replay::{Step, StepInput};

/// The most held messages that are followed.
const MAX_FOLLOWED: usize = 65_536;

/// Follows all held messages, since a message that is sent later has no number.
#[derive(Debug)]
pub(super) struct MessageStory {
    number: u64,
    /// The messages that are held: record, topic and length, the oldest first.
    held: Vec<(u64, String, usize)>,
    /// The publishes that the network has not answered, and their records.
    given: Vec<(PublishId, u64, String, usize)>,
    topic: Option<String>,
    was_sent: bool,
}

impl MessageStory {
    pub(super) fn new(number: u64) -> Self {
        Self { number, held: Vec::new(), given: Vec::new(), topic: None, was_sent: false }
    }

    pub(super) fn on_step(&mut self, step: &Step, told: &mut Explanation) {
        if let StepInput::Input(Input::Command(Command::Publish { topic, data, .. })) = &step.input {
            self.on_publish(step, topic, data.len(), told);
            return;
        }
        let outcome = match &step.input {
            StepInput::Input(Input::Net(NetEvent::Published { publish, outcome })) => {
                let at = self.given.iter().position(|(id, ..)| id == publish);
                at.map(|at| (self.given.remove(at), *outcome))
            }
            _ => None,
        };
        if let Some(((_, number, topic, len), outcome)) = &outcome {
            let is_it = *number == self.number;
            if is_it {
                told.add(step, answered(*outcome));
                self.was_sent = *outcome == PublishOutcome::Sent;
            }
            if *outcome == PublishOutcome::NoSubscribers && !has_failed(step) {
                self.hold(*number, topic.clone(), *len);
            }
        }
        for output in &step.outputs {
            match output {
                Output::Net(NetAction::Publish { publish, topic, data }) => {
                    let Some(number) = self.release(topic.as_str(), data.len()) else { continue };
                    self.follow(*publish, number, topic.as_str(), data.len());
                    if number == self.number {
                        let by = match &step.input {
                            StepInput::Input(Input::Net(NetEvent::PeerSubscribed { peer, .. })) => peer.to_string(),
                            _ => "a peer".to_owned(),
                        };
                        told.add(
                            step,
                            format!("{by} subscribes to {:?}: the message is given to the network", topic.as_str()),
                        );
                    }
                }
                Output::Event(AviEvent::PublishExpired { topic, data }) => {
                    let number = match &outcome {
                        Some(((_, number, of, len), _)) if of == topic && *len == data.len() => Some(*number),
                        _ => self.release(topic, data.len()),
                    };
                    if number == Some(self.number) {
                        told.add(step, expired(step));
                    }
                }
                Output::Event(AviEvent::PeerSlow { peer_id, dropped }) if self.was_sent => {
                    let text = format!(
                        "{dropped} messages to {peer_id} were dropped because it takes them too slowly, or were on their way \
                         when its connection ended: this one may be among them"
                    );
                    told.add(step, text);
                }
                _ => {}
            }
        }
    }

    fn on_publish(&mut self, step: &Step, topic: &str, len: usize, told: &mut Explanation) {
        let is_it = step.number == self.number;
        if is_it {
            self.topic = Some(topic.to_owned());
            told.add(step, format!("the application publishes {len} bytes on {topic:?}"));
        }
        for output in &step.outputs {
            let text = match output {
                Output::Net(NetAction::Publish { publish, .. }) => {
                    self.follow(*publish, step.number, topic, len);
                    "a peer subscribes to it: the message is given to the network".to_owned()
                }
                Output::Reply(Reply::Published { result: Ok(Published::Held), .. }) => {
                    self.hold(step.number, topic.to_owned(), len);
                    "no connected peer subscribes to it: the message is held for publish_hold".to_owned()
                }
                Output::Reply(Reply::Published { result: Err(error), .. }) => format!("it is refused: {error}"),
                _ => continue,
            };
            if is_it {
                told.add(step, text);
            }
        }
    }

    fn hold(&mut self, number: u64, topic: String, len: usize) {
        if self.held.len() < MAX_FOLLOWED {
            self.held.push((number, topic, len));
        }
    }

    fn follow(&mut self, publish: PublishId, number: u64, topic: &str, len: usize) {
        if self.given.len() < MAX_FOLLOWED {
            self.given.push((publish, number, topic.to_owned(), len));
        }
    }

    /// The oldest held message of that topic and length: they leave in that order.
    fn release(&mut self, topic: &str, len: usize) -> Option<u64> {
        let at = self.held.iter().position(|(_, held, bytes)| held == topic && *bytes == len)?;
        Some(self.held.remove(at).0)
    }
}

fn has_failed(step: &Step) -> bool {
    step.outputs.iter().any(|output| matches!(output, Output::Reply(Reply::Published { result: Err(_), .. })))
}

fn answered(outcome: PublishOutcome) -> String {
    match outcome {
        PublishOutcome::Sent => "it is in the queues of neighbours".to_owned(),
        PublishOutcome::NoSubscribers => "pub/sub knows no subscriber any more: it is held".to_owned(),
        PublishOutcome::Congested => "the queue of every neighbour is full: it is dropped".to_owned(),
        PublishOutcome::Refused(why) => format!("the network refuses it: {why}"),
    }
}

fn expired(step: &Step) -> String {
    match &step.input {
        StepInput::Input(Input::Command(Command::Shutdown { .. })) => {
            "the node is shut down before anybody has subscribed: nobody gets it".to_owned()
        }
        StepInput::Input(Input::Net(NetEvent::Published { outcome: PublishOutcome::Congested, .. })) => {
            "a subscriber has come, and the queues to all subscribers are full: nobody gets it".to_owned()
        }
        StepInput::Input(Input::Net(NetEvent::Published { outcome: PublishOutcome::Refused(why), .. })) => {
            format!("a subscriber has come, and the network refuses the message ({why}): nobody gets it")
        }
        _ => "nobody has subscribed within publish_hold: it expires, and nobody gets it".to_owned(),
    }
}
