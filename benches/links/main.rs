//! A call over the links that homes have: this library, a plain program on libp2p and bare UDP, in network namespaces
//! with an emulated link at either end.
//!
//! ```text
//! cargo bench --bench links [-- [--profile NAME|FILE]… [--seconds N] [--sides ours,plain,udp] [--frame BYTES]
//!     [--seed N] [--json FILE] [--quick]]
//! ```
//!
//! It takes Linux, root and `ip` of iproute2. `BENCHMARKS.md` says what is measured.

mod call;
// What only other benchmarks use is allowed in files that are shared with them.
#[allow(dead_code)]
#[path = "../versus/ear.rs"]
mod ear;
#[path = "../../tests/emulator/mod.rs"]
mod emulator;
mod options;
#[allow(dead_code)]
#[path = "../versus/ours.rs"]
mod ours;
#[path = "../versus/plain.rs"]
mod plain;
#[allow(dead_code)]
#[path = "../versus/process.rs"]
mod process;
mod rows;
#[allow(dead_code)]
#[path = "../versus/side.rs"]
mod side;
mod trial;
mod udp;

use avi_p2p::{AviP2p, AviP2pConfig, EventReceiver, Limits, OnCongestion};

use emulator::namespace::{Namespace, remove_own};
use options::Options;
use ours::{Ours, Way};
use plain::Plain;
use process::{Facts, Outcome};
use rows::Rows;
use tokio::signal::unix::{SignalKind, signal};
use trial::Trial;
use udp::Udp;

const OURS: &str = "ours";
const PLAIN: &str = "plain";
/// What the links let through at best.
const UDP: &str = "udp";
/// What a shell says of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

fn main() -> std::process::ExitCode {
    process::program("links", child, parent)
}

fn child(role: &str, facts: Facts) -> Outcome {
    match facts.text("side")? {
        OURS => call::child::<Ours<AsItComes>>(role, facts),
        PLAIN => call::child::<Plain>(role, facts),
        UDP => call::child::<Udp>(role, facts),
        other => Err(format!("no side {other:?}").into()),
    }
}

/// A node as it is without options.
enum AsItComes {}

impl Way for AsItComes {
    const ON_CONGESTION: OnCongestion = OnCongestion::DropOldest;

    fn limits() -> Limits {
        Limits::default()
    }

    async fn start(config: AviP2pConfig) -> Outcome<(AviP2p, EventReceiver)> {
        Ok(AviP2p::start(config).await?)
    }
}

fn parent(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    // Before anything is printed as if it would come to something.
    if let Err(reason) = Namespace::new() {
        return Err(
            format!("this benchmark makes network namespaces, which this machine does not allow: {reason}").into()
        );
    }
    clean_up_when_interrupted()?;
    println!("{}", options.announce());
    let mut rows = Rows::new();
    for (name, profile) in &options.profiles {
        for side in &options.sides {
            rows.add(Trial { name, profile, side, options: &options }.run()?);
        }
    }
    rows.print();
    if let Some(file) = &options.json {
        std::fs::write(file, rows.json(&options)).map_err(|error| format!("--json {file}: {error}"))?;
    }
    match rows.without_a_call() {
        failed if options.quick && !failed.is_empty() => Err(format!("no call at all: {}", failed.join("; ")).into()),
        _ => Ok(()),
    }
}

/// A signal ends this process without dropping anything.
fn clean_up_when_interrupted() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _reactor = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let clean_up = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let _ = remove_own();
        std::process::exit(INTERRUPTED);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(clean_up)?;
    Ok(())
}
