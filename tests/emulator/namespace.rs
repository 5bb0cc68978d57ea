//! What is a machine of its own on this machine? A network namespace. It takes root, and `ip` of iproute2.
#![allow(dead_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Whether tests may skip what needs namespaces: not if this is `required`.
const REQUIRE: &str = "AVI_NETNS";

pub fn try_ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| format!("`ip`: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("`ip {arguments}`: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A network namespace, named as no other. It goes with its value, also in a panic.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("avi-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        try_ip(&format!("netns add {name}"))?;
        let new = Self(name);
        new.try_ip("link set lo up")?;
        Ok(new)
    }

    pub fn try_ip(&self, arguments: &str) -> Result<String, String> {
        try_ip(&format!("-n {} {arguments}", self.0))
    }

    #[track_caller]
    pub fn ip(&self, arguments: &str) {
        self.try_ip(arguments).unwrap();
    }

    /// A program that starts in it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    /// A thread in it: its sockets, and those of threads that it starts, are this namespace's.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<JoinHandle<std::io::Result<T>>> {
        let file = File::open(Path::new("/run/netns").join(&self.0))?;
        // The tests' harness shows by it which test a panic belongs to.
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        std::thread::Builder::new().name(name).spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = try_ip(&format!("netns del {}", self.0));
    }
}

/// Removes namespaces of processes that were killed.
pub fn remove_leftovers() -> Result<(), String> {
    remove(|process| !Path::new("/proc").join(process.to_string()).exists())
}

/// Removes the namespaces of this process, which is about to end without dropping them.
pub fn remove_own() -> Result<(), String> {
    remove(|process| process == std::process::id())
}

fn remove(is_to_go: impl Fn(u32) -> bool) -> Result<(), String> {
    for line in try_ip("netns list")?.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let process = name.strip_prefix("avi-").and_then(|rest| rest.split('-').next()?.parse().ok());
        if process.is_some_and(&is_to_go) {
            let _ = try_ip(&format!("netns del {name}"));
        }
    }
    Ok(())
}

/// What a test needs of namespaces. `None`, said aloud, where this machine does not allow it; a panic if they are
/// required.
pub fn or_skip<T>(attempt: Result<T, String>) -> Option<T> {
    match attempt {
        Ok(made) => Some(made),
        Err(reason) if std::env::var(REQUIRE).is_ok_and(|value| value == "required") => {
            panic!("network namespaces are required, and cannot be made: {reason}");
        }
        Err(reason) => {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            // Not with eprintln!, which is only shown when a test fails.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: cannot make network namespaces: {reason}");
            None
        }
    }
}
