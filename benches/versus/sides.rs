//! Which sides are compared, and which executable runs each?

use std::path::PathBuf;

use crate::process::Outcome;

/// The options that choose them.
pub const OPTIONS: &str = "--sides A,B, --relative-to A, --before EXECUTABLE";
/// The names of the sides that run this library begin with this.
const OURS: &str = "ours";
/// In its place: the same side of another executable.
const BEFORE: &str = "before";

/// The sides of a benchmark.
pub struct Sides {
    /// Compared unless others are chosen. The others are relative to the first.
    pub usual: &'static [&'static str],
    /// Compared only if they are chosen.
    pub further: &'static [&'static str],
}

/// A side that is compared.
#[derive(Clone)]
pub struct Chosen {
    /// What the table calls it.
    pub name: String,
    /// What its executable calls it.
    pub side: &'static str,
    pub executable: PathBuf,
}

/// What the command line says of sides.
#[derive(Default)]
pub struct Choice {
    names: Option<Vec<String>>,
    relative_to: Option<String>,
    before: Option<PathBuf>,
}

pub fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

impl Choice {
    /// Takes an option and its value. Returns whether it was one of [`OPTIONS`].
    pub fn parse<'a>(&mut self, option: &str, mut values: impl Iterator<Item = &'a str>) -> Outcome<bool> {
        let mut value = || values.next().ok_or_else(|| format!("{option} needs a value: {OPTIONS}"));
        match option {
            "--sides" => self.names = Some(value()?.split(',').map(str::to_owned).collect()),
            "--relative-to" => self.relative_to = Some(value()?.to_owned()),
            "--before" => self.before = Some(executable(value()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Those that are compared. The first is what the others are relative to.
    pub fn of(&self, sides: &Sides) -> Outcome<Vec<Chosen>> {
        let this = std::env::current_exe()?;
        let here = |side: &&'static str| Chosen { name: (*side).to_owned(), side, executable: this.clone() };
        let mut known: Vec<Chosen> = sides.usual.iter().map(here).collect();
        if let Some(executable) = &self.before {
            known.extend(sides.usual.iter().filter_map(|side| {
                let name = format!("{BEFORE}{}", side.strip_prefix(OURS)?);
                Some(Chosen { name, side, executable: executable.clone() })
            }));
        }
        let usual: Vec<String> = known.iter().map(|side| side.name.clone()).collect();
        known.extend(sides.further.iter().map(here));

        let first = self.relative_to.as_ref().unwrap_or(&usual[0]);
        let mut chosen: Vec<Chosen> = Vec::new();
        for name in std::iter::once(first).chain(self.names.as_ref().unwrap_or(&usual)) {
            let side = known.iter().find(|side| side.name == *name).ok_or_else(|| unknown(name, &known))?;
            if chosen.iter().all(|other| other.name != *name) {
                chosen.push(side.clone());
            }
        }
        Ok(chosen)
    }
}

fn executable(path: &str) -> Outcome<PathBuf> {
    let found = std::fs::canonicalize(path).map_err(|error| format!("--before {path}: {error}"))?;
    match found.is_file() {
        true => Ok(found),
        false => Err(format!("--before {path}: not an executable of this benchmark").into()),
    }
}

fn unknown(name: &str, known: &[Chosen]) -> String {
    let names: Vec<&str> = known.iter().map(|side| side.name.as_str()).collect();
    let hint = if name.starts_with(BEFORE) { "; before needs --before EXECUTABLE" } else { "" };
    format!("no side {name:?} among {}{hint}", names.join(", "))
}
