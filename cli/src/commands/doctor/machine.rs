//! Does the machine give a node what it needs? Clock, file descriptors, buffers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use avi_p2p::AviP2pConfig;

use super::{note, ok, problem};
use crate::line::{Finding, Level};

/// No release of this program ran before: 2026-01-01.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// Nor will one run after that: 2100-01-01.
const LATEST: Duration = Duration::from_secs(4_102_444_800);
/// What a program has open besides the node's sockets.
const OTHER_FILES: u64 = 32;
/// What a node asks for, for each UDP socket.
const RECEIVE_BYTES: u64 = 1024 * 1024;
/// Half a second of a call with 48 kHz and two channels: less is lost while the node's thread is late.
const FEW_BYTES: u64 = 96 * 1024;

/// Is the clock plausible, and is it kept right? The shared context orders writes by it.
pub(super) fn clock() -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let days = now.as_secs() / 86_400;
    if !(EARLIEST..LATEST).contains(&now) {
        let what = format!("it says day {days} since 1970, which cannot be");
        let advice = "set the clock, and let NTP keep it: the shared context orders writes by it";
        return problem("clock", what, advice);
    }
    match synchronised() {
        Some(true) => ok("clock", "plausible, and synchronised"),
        Some(false) => note(
            "clock",
            "plausible, and the system does not say that it is synchronised",
            "let NTP keep it (timedatectl set-ntp true): the shared context refuses what is 15 minutes ahead",
        ),
        None => note("clock", "plausible; whether it is synchronised cannot be known here", "look at `timedatectl`"),
    }
}

/// What the kernel has been told about its clock.
#[cfg(target_os = "linux")]
fn synchronised() -> Option<bool> {
    // SAFETY: `timex` is a C struct of integers, for which zero is a value; `adjtimex` writes into it alone, and with
    // `modes` of zero it changes nothing.
    #[allow(unsafe_code)]
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    (state >= 0).then_some(state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}

#[cfg(not(target_os = "linux"))]
fn synchronised() -> Option<bool> {
    None
}

/// May the process have as many files open as the node has connections?
pub(super) fn files(config: &AviP2pConfig) -> Finding {
    let limits = &config.limits;
    let listeners = 2 * config.listen_ips.len();
    let connections = config.max_peers + limits.pending_inbound + limits.concurrent_dials;
    let needed = (connections + listeners) as u64 + OTHER_FILES;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let Some(soft) = limit.current else { return ok("files", "any number may be open") };
    if soft >= needed {
        return ok("files", format!("{soft} may be open, {needed} are needed at most"));
    }
    let what = format!("{soft} may be open, and max_peers = {} needs up to {needed}", config.max_peers);
    let hard = limit.maximum.map_or(String::new(), |hard| format!(", up to {hard}"));
    problem("files", what, &format!("`ulimit -n {needed}`{hard}, LimitNOFILE of a service, or fewer max_peers"))
}

/// Does the kernel keep enough datagrams while the node's thread is late?
pub(super) fn buffers(config: &AviP2pConfig) -> Option<Finding> {
    if !config.enable_datagrams {
        return None;
    }
    let text = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    let Some(max) = text.and_then(|text| text.trim().parse::<u64>().ok()) else {
        return Some(note(
            "buffers",
            "how much a UDP socket may keep cannot be known here",
            "look at net.core.rmem_max",
        ));
    };
    let what = format!("a UDP socket may keep {} KiB, a node asks for {}", max / 1024, RECEIVE_BYTES / 1024);
    Some(match max {
        max if max >= RECEIVE_BYTES => ok("buffers", what),
        max if max >= FEW_BYTES => Finding { level: Level::Ok, ..ok("buffers", what + "; that is enough for calls") },
        _ => problem("buffers", what, "sysctl net.core.rmem_max=1048576: audio is lost when the node is late"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_may_open_too_few_files_has_a_problem() {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let finding = files(&AviP2pConfig { max_peers: 1, ..AviP2pConfig::default() });
        assert_eq!(finding.level == Level::Ok, limit >= 75, "{finding:?}");
        if limit < 10_000 {
            assert_eq!(files(&AviP2pConfig { max_peers: 10_000, ..AviP2pConfig::default() }).level, Level::Problem);
        }
    }
}
