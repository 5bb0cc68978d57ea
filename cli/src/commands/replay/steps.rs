//! How is a step of a replay shown?

use avi_p2p::AviEvent;
use avi_p2p_proto::engine::{Command, Input, NetEvent, Output, Reply};
use avi_p2p_proto::recording::{Step, StepInput};

use super::words::Words;
use crate::line::Line;

/// A step with all that came out.
pub(super) fn line(step: &Step, words: &Words) -> Line {
    let outputs = step.outputs.iter().map(|output| words.say(&format!("{output:?}"))).collect();
    let input = match step.is_answered {
        true => words.say(&step.input.to_string()),
        false => words.say(&format!("{}: the node has panicked here", step.input)),
    };
    Line::Step { number: step.number, time_s: step.time.0.as_secs_f64(), wall_ms: step.wall_millis, input, outputs }
}

/// Whether it says what happened to the node, and not only that time and data pass.
pub(super) fn is_notable(step: &Step) -> bool {
    let is_input = match &step.input {
        StepInput::Began(_) | StepInput::End(_) => true,
        StepInput::Timeout => false,
        StepInput::Input(Input::Command(command)) => {
            !matches!(command, Command::SendAudio { .. } | Command::Publish { .. })
        }
        StepInput::Input(Input::Net(event)) => is_notable_event(event),
    };
    is_input || !step.is_answered || step.outputs.iter().any(is_notable_output)
}

fn is_notable_event(event: &NetEvent) -> bool {
    matches!(
        event,
        NetEvent::Connected { .. }
            | NetEvent::Disconnected { .. }
            | NetEvent::DialFailed { .. }
            | NetEvent::AcceptFailed { .. }
            | NetEvent::InboundRefused(_)
            | NetEvent::Doubled { .. }
            | NetEvent::Foreign { .. }
            | NetEvent::SlowPeer { .. }
            | NetEvent::Misbehaved { .. }
            | NetEvent::Deaf { .. }
            | NetEvent::SubstreamFailed { .. }
            | NetEvent::Broken { .. }
            | NetEvent::DatagramsOff { .. }
            | NetEvent::InterfacesChanged
    )
}

fn is_notable_output(output: &Output) -> bool {
    match output {
        Output::Event(event) => !matches!(event, AviEvent::Message { .. } | AviEvent::AudioData { .. }),
        Output::Reply(Reply::Done { result, .. }) => result.is_err(),
        Output::Reply(Reply::Published { result, .. }) => result.is_err(),
        Output::Reply(Reply::Stream { result, .. }) => result.is_err(),
        Output::Reply(Reply::Peers { result, .. }) => result.is_err(),
        Output::Stopped => true,
        _ => false,
    }
}
