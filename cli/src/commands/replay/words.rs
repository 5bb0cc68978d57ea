//! Which words stand for ids, names and addresses? The real ones, or pseudonyms, if the recording or the command line asks
//! for them.

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
            pseudonyms.learn_state(step.time, replay.engine());
        }
    }

    /// The text as it is shown.
    pub(super) fn say(&self, text: &str) -> String {
        self.pseudonyms.as_ref().map_or_else(|| text.to_owned(), |pseudonyms| pseudonyms.hide(text))
    }
}
