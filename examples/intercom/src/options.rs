//! What does the command line say?

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use avi_p2p::PeerId;
use lexopt::prelude::*;

use crate::Outcome;
use crate::sound::Choice;

pub const USAGE: &str = "\
Voice calls between the machines of a home.

usage: intercom [OPTIONS]                    wait for calls
       intercom [OPTIONS] --call NAME|PEER   call, and end with the call

  --name NAME         what others see (default: intercom)
  --identity FILE     the key of this machine, made at the first start; without it the peer id is new at every start
  --drop-in PEER      answer calls of this peer id at once; may be repeated. Not by name: anybody can take any name
  --open-mic          speak from the start of a call; otherwise Enter turns the microphone on and off
  --once              end after the first call
  --within SECONDS    how long to look for whom to call (default: 30)
  --wav-in FILE       speak this file (16-bit samples) in place of the microphone, and hang up at its end
  --wav-out FILE      write what is heard to this file in place of the loudspeaker; each call overwrites it
  --peer ADDRESS      a machine that mDNS does not find: /ip4/192.0.2.7/tcp/9000; may be repeated
  --port PORT         TCP and UDP port (default: the system chooses)
  --listen IP         listen on this address of the machine only; may be repeated
  -h, --help          this text

During a call: Enter turns the microphone on and off, q and Enter hangs up. A call that comes in: Enter answers, n and Enter
declines. Ctrl-C ends the program.";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub name: String,
    pub identity: Option<PathBuf>,
    pub call: Option<String>,
    pub drop_in: Vec<PeerId>,
    pub open_mic: bool,
    pub once: bool,
    pub within: Duration,
    pub sound: Choice,
    pub peers: Vec<String>,
    pub port: u16,
    pub listen: Vec<IpAddr>,
}

impl Options {
    /// `None` if help is asked for.
    pub fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Outcome<Option<Self>> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut options = Self {
            name: "intercom".to_owned(),
            identity: None,
            call: None,
            drop_in: Vec::new(),
            open_mic: false,
            once: false,
            within: Duration::from_secs(30),
            sound: Choice::default(),
            peers: Vec::new(),
            port: 0,
            listen: Vec::new(),
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(None),
                Long("name") => options.name = parser.value()?.string()?,
                Long("identity") => options.identity = Some(parser.value()?.into()),
                Long("call") => options.call = Some(parser.value()?.string()?),
                Long("drop-in") => options.drop_in.push(parser.value()?.parse()?),
                Long("open-mic") => options.open_mic = true,
                Long("once") => options.once = true,
                Long("within") => options.within = Duration::from_secs(parser.value()?.parse()?),
                Long("wav-in") => options.sound.wav_in = Some(parser.value()?.into()),
                Long("wav-out") => options.sound.wav_out = Some(parser.value()?.into()),
                Long("peer") => options.peers.push(parser.value()?.string()?),
                Long("port") => options.port = parser.value()?.parse()?,
                Long("listen") => options.listen.push(parser.value()?.parse()?),
                other => return Err(format!("{}; --help shows the options", other.unexpected()).into()),
            }
        }
        if cfg!(not(feature = "devices")) && !options.sound.is_file() {
            return Err("this program was built without the feature `devices`: it needs --wav-in or --wav-out".into());
        }
        Ok(Some(options))
    }

    /// Whether a call speaks from its start. A file in place of the microphone has nobody who presses keys.
    pub fn speaks_at_once(&self) -> bool {
        self.open_mic || self.sound.is_file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";

    fn parse(arguments: &str) -> Outcome<Option<Options>> {
        Options::parse(arguments.split(' ').map(Into::into))
    }

    #[test]
    fn options_are_read() {
        let options =
            parse(&format!("--call hall --drop-in {PEER} --wav-in a.wav --port 9000 --listen ::1 --within 5"));
        let options = options.unwrap().unwrap();
        assert_eq!(options.call.as_deref(), Some("hall"));
        assert_eq!(options.drop_in, [PeerId::new(PEER)]);
        assert_eq!((options.port, options.within), (9000, Duration::from_secs(5)));
        assert!(options.speaks_at_once());
        assert_eq!(parse("--call hall -h").unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, named) in [
            ("--cal hall", "--cal"),
            ("--port 70000 --wav-in a.wav", "70000"),
            ("--drop-in kitchen --wav-in a.wav", "kitchen"),
            ("--wav-in a.wav hall", "hall"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(named), "{arguments}: {error}");
        }
    }
}
