//! Which situations have runs reached, and which should they have?

use std::collections::BTreeMap;
use std::fmt::Write as _;

use avi_p2p::situation::Situation;
use avi_sim::situations::Situations;
use serde_json::json;

use super::{CliError, Outcome, print, table};

/// The columns of a list of names.
const COLUMNS: usize = 110;

/// What must be reached.
#[derive(clap::Args)]
pub(super) struct Expected {
    /// Situations that must be reached, by their names: fails if one never is. `cargo sim situations` lists the names.
    #[arg(long = "expect", value_name = "NAME,..", value_delimiter = ',', value_parser = named)]
    expected: Vec<Situation>,
}

fn named(name: &str) -> Result<Situation, String> {
    Situation::named(name).ok_or_else(|| "no situation has this name: `cargo sim situations` lists them".to_owned())
}

/// Prints all names, and what each means.
pub(super) fn list() -> Result<Outcome, CliError> {
    let mut table = table(&["situation", "what has happened then"]);
    for situation in Situation::ALL {
        table.add_row([situation.name(), situation.what().trim()]);
    }
    print(&format!("{}\n", table.trim_fmt()))?;
    Ok(Outcome::Good)
}

/// How often a situation was reached, and in how many runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    times: u64,
    runs: u64,
}

/// What one run, or several, have reached.
pub(super) struct Reached(BTreeMap<Situation, Count>);

impl Reached {
    pub(super) fn of<'a>(runs: impl Iterator<Item = &'a Situations>) -> Self {
        let mut reached: BTreeMap<_, Count> =
            Situation::ALL.iter().map(|situation| (*situation, Count::default())).collect();
        for counts in runs {
            for (situation, count) in &mut reached {
                let times = counts.get(situation.name()).copied().unwrap_or_default();
                count.times += times;
                count.runs += u64::from(times > 0);
            }
        }
        Self(reached)
    }

    /// Two lists: what was reached, with its counts, and what never was.
    pub(super) fn text(&self) -> String {
        let (reached, never): (Vec<_>, Vec<_>) = self.0.iter().partition(|(_, count)| count.times > 0);
        let counted = |(situation, count): &(&Situation, &Count)| match count.runs {
            1 => format!("{} {}", situation.name(), count.times),
            runs => format!("{} {} in {runs} runs", situation.name(), count.times),
        };
        let title = format!("situations reached ({} of {}): ", reached.len(), self.0.len());
        let mut text = wrapped(&title, reached.iter().map(counted));
        if !never.is_empty() {
            text += &wrapped("never: ", never.iter().map(|(situation, _)| situation.name().to_owned()));
        }
        text
    }

    /// The counts of a sweep.
    pub(super) fn json(&self, scenario: &str, seeds: usize, failed: usize) -> String {
        let counts = self.0.iter().map(|(situation, count)| {
            (situation.name().to_owned(), json!({ "times": count.times, "seeds": count.runs }))
        });
        let counts: serde_json::Map<_, _> = counts.collect();
        let all = json!({ "scenario": scenario, "seeds": seeds, "failed": failed, "situations": counts });
        format!("{all:#}\n")
    }
}

impl Expected {
    /// Those that were never reached.
    pub(super) fn missed(&self, reached: &Reached) -> Vec<Situation> {
        let is_missed = |situation: &&Situation| reached.0.get(situation).is_none_or(|count| count.times == 0);
        self.expected.iter().filter(is_missed).copied().collect()
    }
}

/// What is said if something expected was never reached.
pub(super) fn complaint(missed: &[Situation]) -> String {
    let mut text = String::new();
    for situation in missed {
        let _ = writeln!(text, "NEVER REACHED: {}:{}", situation.name(), situation.what());
    }
    text
}

fn wrapped(title: &str, words: impl Iterator<Item = String>) -> String {
    let (mut text, mut column) = (title.to_owned(), title.len());
    for (index, word) in words.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        if column + comma.len() + 1 + word.len() > COLUMNS {
            text += comma;
            text += "\n    ";
            column = 4;
        } else if index > 0 {
            text += ", ";
            column += 2;
        }
        column += word.len();
        text += &word;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Situations {
        pairs.iter().map(|(name, times)| ((*name).to_owned(), *times)).collect()
    }

    #[test]
    fn counts_of_several_runs_are_added_and_what_none_reached_is_named() {
        let runs =
            [counts(&[("call_resumed", 2), ("peer_silent", 1)]), counts(&[("call_resumed", 3), ("peer_silent", 0)])];
        let reached = Reached::of(runs.iter());
        let text = reached.text();
        assert!(text.contains("call_resumed 5 in 2 runs") && text.contains("peer_silent 1"), "{text}");
        assert!(text.contains("never: message_held, message_released"), "{text}");
        assert!(text.lines().all(|line| line.len() <= COLUMNS + 1), "{text}");
        let expected = Expected { expected: vec![Situation::CallResumed, Situation::PeerBanned] };
        assert_eq!(expected.missed(&reached), [Situation::PeerBanned]);
        assert!(complaint(&expected.missed(&reached)).starts_with("NEVER REACHED: peer_banned: A peer was banned."));
        let json: serde_json::Value = serde_json::from_str(&reached.json("quiet", 2, 1)).unwrap();
        assert_eq!(json["situations"]["call_resumed"], json!({ "times": 5, "seeds": 2 }));
    }
}
