//! How is a run executed in its own process?

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, process};

use avi_sim::report::Report;
use thiserror::Error;

use super::{CliError, Setup};

/// The number of lines of a failed child's stderr that are shown.
const LAST_WORDS: usize = 12;

/// Why a child left no report.
#[derive(Debug, Error)]
pub(super) enum ChildError {
    #[error("cannot be started: {0}")]
    Start(io::Error),
    #[error("died without a report ({status}); the end of its stderr:\n{stderr}")]
    Died { status: ExitStatus, stderr: String },
    #[error("its report cannot be read: {0}")]
    Report(io::Error),
}

/// The folder for the children's reports, removed when this is dropped.
pub(super) struct Reports(PathBuf);

impl Reports {
    pub(super) fn new() -> Result<Self, CliError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let folder = env::temp_dir().join(format!("avi-sim-{}-{}", process::id(), since.as_nanos()));
        match fs::create_dir(&folder) {
            Ok(()) => Ok(Self(folder)),
            Err(error) => Err(CliError::File { file: folder.display().to_string(), error }),
        }
    }

    /// A file in the folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs a seed in a child process, with these arguments too, and waits for it. `name` distinguishes the reports.
    pub(super) fn run(&self, name: &str, setup: &Setup, seed: u64, more: &[String]) -> Result<Report, ChildError> {
        let file = self.0.join(format!("{name}.json"));
        let child = Command::new(env::current_exe().map_err(ChildError::Start)?)
            .args(setup.arguments(seed))
            .args(more)
            .arg("--json")
            .arg(&file)
            // The panic message should be the last output.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()
            .map_err(ChildError::Start)?;
        // Exit code 1 means a broken promise, which is in the report.
        if !matches!(child.status.code(), Some(0 | 1)) {
            return Err(ChildError::Died { status: child.status, stderr: last_words(&child.stderr) });
        }
        let text = fs::read_to_string(&file).map_err(ChildError::Report)?;
        let _ = fs::remove_file(&file);
        serde_json::from_str(&text).map_err(|error| ChildError::Report(error.into()))
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LAST_WORDS)..];
    if tail.is_empty() { "  (nothing)".to_owned() } else { format!("  {}", tail.join("\n  ")) }
}
