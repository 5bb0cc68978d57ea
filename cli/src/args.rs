//! What can be said on the command line?

mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub(crate) use self::values::{Listen, Subject};
use self::values::{listen, subject, time};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a finding: a problem of `doctor`, nobody heard, no such peer, a call that failed
  2    the command line is wrong
  3    the configuration or a file is wrong
  4    the network: the node cannot listen, or has stopped
  130  interrupted (143: terminated)";

/// A mesh of AVI from the command line: what is wrong, who is there, messages, calls, the shared context.
///
/// Each command is a node of its own, for as long as it runs. It finds others by mDNS, and by the addresses in the
/// configuration and after --connect.
#[derive(Debug, Parser)]
#[command(name = "avi", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES, max_term_width = 100)]
#[command(propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The configuration of the node: TOML with the fields of AviP2pConfig
    #[arg(long, global = true, env = "AVI_CONFIG", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// The name that other nodes see [default: avi-cli]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Node")]
    pub(crate) name: Option<String>,
    /// Where to listen: an IP address, a port, or both as 192.0.2.7:9000 [default: 0.0.0.0:0]
    #[arg(long, global = true, value_name = "WHERE", value_parser = listen, help_heading = "Node")]
    pub(crate) listen: Option<Listen>,
    /// A file with the node's key, made at first use; without it each run is another peer
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Node")]
    pub(crate) identity: Option<PathBuf>,
    /// A file with the key of a private mesh, as swarm.key
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Node")]
    pub(crate) network_key: Option<PathBuf>,
    /// A node to connect to, as /ip4/192.0.2.7/tcp/9000; may be repeated
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Node")]
    pub(crate) connect: Vec<String>,
    /// Do not look for nodes by mDNS
    #[arg(long, global = true, help_heading = "Node")]
    pub(crate) no_mdns: bool,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing of progress on standard error
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Show what the node logs; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look for what keeps a node from working here, and say what to do
    Doctor(Doctor),
    /// Show who is there
    Peers(Peers),
    /// Print the messages of topics
    Sub(Sub),
    /// Publish a message, and say what became of it
    Pub(Pub),
    /// Call a peer, play a tone or a WAV file to it, and show the figures of the call
    Call(Call),
    /// Answer calls, and show their figures
    Answer(Answer),
    /// Read and write the shared context
    Context {
        #[command(subcommand)]
        action: Context,
    },
    /// Run a node with the flight recorder, for `avi replay`
    Record(Record),
    /// Replay the recording of a node: check it, and show what happened and why
    Replay(Replay),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands into a directory
    Man {
        /// Write avi.1, avi-doctor.1 and so on there
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Try the path of audio to this peer by a call: an id, its beginning or end, a name, or an address. `avi answer`
    /// must run there
    #[arg(long, value_name = "PEER")]
    pub(crate) peer: Option<String>,
    /// How long to look for other nodes
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub(crate) wait: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// Go on, and print who comes and goes
    #[arg(long)]
    pub(crate) watch: bool,
    /// How long to wait for peers
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    pub(crate) wait: Duration,
    /// Stop waiting once so many are connected; exit code 1 if they are fewer in the end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), conflicts_with = "watch")]
    pub(crate) count: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Sub {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Pub {
    /// The topic
    pub(crate) topic: String,
    /// The message; without it or with `-`, standard input is one message
    pub(crate) text: Option<String>,
    /// How long to wait for subscribers
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) wait: Duration,
    /// Send once so many subscribers are connected; exit code 1 if they are fewer in the end
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) subscribers: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The peer: an id, its beginning or end, a name, or an address
    pub(crate) peer: String,
    /// Play this file: 16-bit samples
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "tone")]
    pub(crate) wav: Option<PathBuf>,
    /// Play a tone of this frequency
    #[arg(long, value_name = "HZ", default_value_t = 440, value_parser = clap::value_parser!(u32).range(20..=7_000))]
    pub(crate) tone: u32,
    /// Hang up after this time [default: 5s, or the length of the file]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) seconds: Option<Duration>,
    /// How long to wait for the peer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) wait: Duration,
    /// Write what the other end says into this WAV file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) record: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Answer {
    /// Send back what comes
    #[arg(long)]
    pub(crate) echo: bool,
    /// Write what comes into this WAV file; only with --calls 1
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "calls")]
    pub(crate) record: Option<PathBuf>,
    /// End after so many calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) calls: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// Print the value at a path; exit code 1 if there is none
    Get {
        /// The path, as kitchen.light; without it, everything
        #[arg(default_value = "")]
        path: String,
        /// How long to wait for other nodes
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
        wait: Duration,
    },
    /// Write a value at a path; exit code 1 if no other node has taken it
    Set {
        /// The path, as kitchen.light
        path: String,
        /// JSON; what is none is taken as text
        value: String,
        /// Put it in place of all that is there: an object is not merged
        #[arg(long)]
        replace: bool,
        /// How long to wait for other nodes
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
        wait: Duration,
    },
    /// Remove what is at a path; exit code 1 if no other node has taken it
    Remove {
        /// The path
        path: String,
        /// How long to wait for other nodes
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
        wait: Duration,
    },
    /// Print what changes
    Watch {
        /// Only what is at this path, or below it
        #[arg(default_value = "")]
        path: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Where the recording goes; the half before is beside it, with .1 after its name
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Take part in these topics
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Vec<String>,
    /// The most bytes of the recording: 64 KiB to 1 GiB [default: 4194304]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(65_536..=1_073_741_824))]
    pub(crate) bytes: Option<u32>,
    /// Keep messages and audio; without it, only their lengths and hashes
    #[arg(long)]
    pub(crate) keep_content: bool,
    /// Have `avi replay` show pseudonyms for ids, names and addresses
    #[arg(long)]
    pub(crate) pseudonyms: bool,
    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) seconds: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The recording; if there is a file of this name with .1 after it, that is the half before
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Stop at this time after the start of the node
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<Duration>,
    /// Only what concerns this peer: an id, its beginning or end, or a name
    #[arg(long, value_name = "PEER")]
    pub(crate) peer: Option<String>,
    /// Only what concerns this stream
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<u64>,
    /// Why it ended, lost something, or did not arrive: stream:N, peer:WHO, or message:RECORD, the record in which it was
    /// published
    #[arg(long, value_name = "WHAT", value_parser = subject)]
    pub(crate) why: Option<Subject>,
    /// Show pseudonyms for ids, names and addresses
    #[arg(long)]
    pub(crate) pseudonyms: bool,
    /// Every record, and not only what is out of the ordinary
    #[arg(long)]
    pub(crate) all: bool,
    /// Draw a page with peers, dials, streams, losses and queues over time
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    pub(crate) timeline: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_has_no_contradiction() {
        Cli::command().debug_assert();
    }
}
