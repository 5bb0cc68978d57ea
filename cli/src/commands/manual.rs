//! How does a shell, or a person, learn what can be said? Completions and manual pages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Failure;
use crate::output::Output;

pub(crate) fn completions(shell: Shell, out: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "avi", &mut script);
    out.print(script.trim_ascii_end())
}

/// The main page on standard output, or all pages as files.
pub(crate) fn pages(dir: Option<&Path>, out: Output) -> Result<(), Failure> {
    if let Some(dir) = dir {
        return clap_mangen::generate_to(Cli::command(), dir).map_err(|error| Failure::file(dir, error));
    }
    let mut page = Vec::new();
    let page_error = |error| Failure::file("avi.1", error);
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(page_error)?;
    out.print(page.trim_ascii_end())
}
