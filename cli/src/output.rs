//! Where do lines go? Results to standard output, progress to standard error.

use std::io::{ErrorKind, IsTerminal, Write};

use crate::args::Global;
use crate::exit::Failure;
use crate::line::Line;

/// How a command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    is_json: bool,
    is_quiet: bool,
    has_colour: bool,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        // https://no-color.org: any value that is not empty.
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let has_colour = is_wanted && !global.json && std::io::stdout().is_terminal();
        Self { is_json: global.json, is_quiet: global.quiet, has_colour }
    }

    /// Says nothing.
    pub(crate) fn silent() -> Self {
        Self { is_json: false, is_quiet: true, has_colour: false }
    }

    /// Prints a result.
    pub(crate) fn say(&self, line: &Line) -> Result<(), Failure> {
        let text = match self.is_json {
            true => serde_json::to_string(line).map_err(|error| Failure::Finding(format!("cannot print: {error}")))?,
            false => line.human(self.has_colour),
        };
        self.print(text.as_bytes())
    }

    /// Prints a line as it is.
    pub(crate) fn print(&self, line: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::file("/dev/stdout", error),
        })
    }

    /// Says what goes on. Whether anybody reads it changes nothing.
    pub(crate) fn progress(&self, text: &str) {
        if !self.is_quiet {
            let _ = writeln!(std::io::stderr(), "{}", shown(text));
        }
    }

    /// Says why the command ends.
    pub(crate) fn failed(&self, failure: &Failure) {
        if failure.is_told() {
            let _ = writeln!(std::io::stderr(), "avi: {}", shown(&failure.to_string()));
        }
    }
}

/// Text of others for a terminal: what would control it is escaped.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => safe.push(c),
            // Those that reorder text, so that it reads as something else (Unicode TR 36 §2.7).
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.extend(c.escape_unicode()),
            c if c.is_control() => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_control_the_terminal() {
        assert_eq!(shown("a\u{1b}[2J\u{202e}b\u{7f}\u{9b}c"), "a\\u{1b}[2J\\u{202e}b\\u{7f}\\u{9b}c");
        assert_eq!(shown("Grüße, 日本\tx\n"), "Grüße, 日本\tx\n");
    }
}
