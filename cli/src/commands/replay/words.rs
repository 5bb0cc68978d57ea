//! Which words stand for ids, names and addresses? The real ones, or pseudonyms, if the recording or the command line asks
//! for them.

use avi_p2p::PeerInfo;
use avi_p2p_proto::engine::{ConnectionId, Input, NetAction, NetEvent, Output};
use avi_p2p_proto::recording::{Pseudonyms, Replay, Step, StepInput};

/// How text is shown.
#[derive(Debug, Default)]
pub(super) struct Words {
    is_asked: bool,
    pseudonyms: Option<Pseudonyms>,
}

impl Words {
    pub(super) fn new(is_asked: bool) -> Self {
        Self { is_asked, pseudonyms: None }
    }

    /// Learns the names in a step, before anything of it is shown.
    pub(super) fn learn(&mut self, replay: &Replay, step: &Step) {
        if self.pseudonyms.is_none() && (self.is_asked || replay.head().pseudonyms) {
            self.pseudonyms = Some(Pseudonyms::new());
        }
        let Some(pseudonyms) = &mut self.pseudonyms else { return };
        pseudonyms.learn(step);
        if let StepInput::Began(_) = step.input {
            // Those that the state of the engine has, and no step before it.
            for peer in replay.engine().connected_peers().unwrap_or_default() {
                let info = replay.engine().peer_info(step.time, &peer);
                info.into_iter().for_each(|info| pseudonyms.learn(&identified(step, info)));
            }
        }
        for output in &step.outputs {
            if let Output::Net(NetAction::Dial { peer: Some(peer), addresses, .. }) = output {
                let (peer, addresses) = (peer.clone(), addresses.clone());
                pseudonyms.learn(&as_if(step, NetEvent::Announced { peer, addresses }));
            }
        }
    }

    /// The text as it is shown.
    pub(super) fn say(&self, text: &str) -> String {
        self.pseudonyms.as_ref().map_or_else(|| text.to_owned(), |pseudonyms| pseudonyms.hide(text))
    }
}

fn identified(step: &Step, info: PeerInfo) -> Step {
    let (connection, name) = (ConnectionId(0), info.name.unwrap_or_default());
    as_if(step, NetEvent::Identified { connection, peer: info.peer_id, name, addresses: info.addresses })
}

/// A step as if this event had come.
fn as_if(step: &Step, event: NetEvent) -> Step {
    Step {
        number: step.number,
        time: step.time,
        wall_millis: None,
        offset: step.offset,
        input: StepInput::Input(Input::Net(event)),
        payload: None,
        outputs: Vec::new(),
        is_answered: true,
    }
}
