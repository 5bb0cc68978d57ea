//! Is a file a valid scenario? Reads it, and reports where it is not.

use std::ops::Range;
use std::path::Path;

use avi_links::ProfileError;
use thiserror::Error;

use super::{
    CallAt, Calls, Expect, Expected, Fault, ForeignNode, IdOrder, Join, Lack, Link, MessageAt, NodeSetup, Nodes,
    Publish, Scenario, SharedContext,
};

/// Why a file is not a valid scenario.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// It cannot be read.
    #[error("{file}: {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why it cannot be read.
        error: std::io::Error,
    },
    /// It is not TOML, or a field is unknown or of the wrong type.
    #[error("{file}:{line}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What was expected.
        message: String,
    },
    /// A value is out of range.
    #[error("{file}:{line}: {field} = {value}: expected {expected}")]
    Range {
        /// The file.
        file: String,
        /// The line of the field's name, counted from 1; 1 if it is not found.
        line: usize,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// A link profile of it does not exist, or is not valid.
    #[error("{file}:{line}: link.profiles: {error}")]
    Profile {
        /// The file.
        file: String,
        /// The line of the field's name, counted from 1.
        line: usize,
        /// What is wrong with the profile.
        error: ProfileError,
    },
}

impl Scenario {
    /// Reads a file, or the built-in scenario with this name.
    ///
    /// # Errors
    /// [`ScenarioError`], with the file, the line, and what was expected.
    pub fn load(name: &str) -> Result<Self, ScenarioError> {
        let builtin = BUILTIN.iter().find(|(builtin, _)| *builtin == name);
        if let Some((name, text)) = builtin {
            return Self::parse(&format!("sim/scenarios/{name}.toml"), text);
        }
        let text = std::fs::read_to_string(Path::new(name)).map_err(|error| ScenarioError::Unreadable {
            file: name.to_owned(),
            error: match error.kind() {
                std::io::ErrorKind::NotFound => {
                    let names: Vec<_> = BUILTIN.iter().map(|(name, _)| *name).collect();
                    std::io::Error::other(format!("no such file, and no scenario of the built-in {}", names.join(", ")))
                }
                _ => error,
            },
        })?;
        Self::parse(name, &text)
    }

    /// Reads a scenario from text; `file` is for errors.
    ///
    /// # Errors
    /// [`ScenarioError`], with the file, the line, and what was expected.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::Syntax {
            file: file.to_owned(),
            line: error.span().map_or(1, |span| line_of(text, span)),
            message: error.message().to_owned(),
        })?;
        scenario.check(file, text)?;
        Ok(scenario)
    }

    fn check(&self, file: &str, text: &str) -> Result<(), ScenarioError> {
        let check = |field: &str, ok: bool, value: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(ScenarioError::Range {
                file: file.to_owned(),
                line: line_of_field(text, field),
                field: field.to_owned(),
                value,
                expected: expected.to_owned(),
            }),
        };
        let end = self.seconds.0;
        check("seconds", end > 0.0 && end <= 86_400.0, end.to_string(), "more than 0 and at most 86400")?;
        let is_named = (self.expected == Expected::Broken) != self.breaks.is_empty();
        check(
            "breaks",
            is_named,
            format!("{:?}", self.breaks),
            "the broken promises if expected is \"broken\", else none",
        )?;
        let NodeSetup { max_peers, event_queue, start_within, .. } = self.node;
        check("node.max_peers", (1..=10_000).contains(&max_peers), max_peers.to_string(), "1 to 10000")?;
        check("node.event_queue", (1..=1_000_000).contains(&event_queue), event_queue.to_string(), "1 to 1000000")?;
        let starts = (0.0..=end).contains(&start_within);
        check("node.start_within", starts, start_within.to_string(), "0 to the scenario's seconds")?;
        let Link { latency_min_ms: low, latency_max_ms: high, jitter_ms, .. } = self.link;
        check("link.latency_min_ms", low >= 0.0 && low <= high, low.to_string(), "0 to latency_max_ms")?;
        check("link.latency_max_ms", high <= 60_000.0, high.to_string(), "at most 60000")?;
        check("link.jitter_ms", (0.0..=60_000.0).contains(&jitter_ms), jitter_ms.to_string(), "0 to 60000")?;
        self.link.load_profiles().map_err(|error| ScenarioError::Profile {
            file: file.to_owned(),
            line: line_of_field(text, "link.profiles"),
            error,
        })?;
        let uplink_kbit = self.link.uplink_kbit;
        let ok = uplink_kbit == 0 || self.link.profiles.is_empty();
        check("link.uplink_kbit", ok, uplink_kbit.to_string(), "0, beside link.profiles")?;
        let Publish { topics, bytes, .. } = self.publish;
        check("publish.topics", (1..=100).contains(&topics), topics.to_string(), "1 to 100")?;
        check("publish.bytes", (16..=65_536).contains(&bytes), bytes.to_string(), "16 to 65536")?;
        let SharedContext { writes, from, until, skew, equal_within, .. } = self.context;
        let ok = writes == 0 || (0.0..=until).contains(&from) && until + equal_within + 1.0 <= end;
        let expected = "from 0 to until, and until + equal_within + 1 within the scenario";
        check("context.from", ok, format!("{from}, until {until}"), expected)?;
        check("context.skew", (0.0..=86_400.0).contains(&skew), skew.to_string(), "0 to 86400")?;
        let lifetime = self.context.tombstone_lifetime;
        let ok = lifetime == 0.0 || (60.0..=86_400.0).contains(&lifetime);
        check("context.tombstone_lifetime", ok, lifetime.to_string(), "0, or 60 to 86400")?;
        let ok = self.hostile.context_flood == 0 || writes > 0;
        check("hostile.context_flood", ok, self.hostile.context_flood.to_string(), "0 without context.writes")?;
        let Calls { frame_ms, frame_bytes, seconds, .. } = self.calls;
        check("calls.frame_ms", (1..=1000).contains(&frame_ms), frame_ms.to_string(), "1 to 1000")?;
        check("calls.frame_bytes", (16..=65_536).contains(&frame_bytes), frame_bytes.to_string(), "16 to 65536")?;
        check(
            "calls.seconds",
            seconds > 0.0 && seconds <= end,
            seconds.to_string(),
            "more than 0, within the scenario",
        )?;
        let Join { nodes, at, discover_every, .. } = self.join;
        let is_within = nodes == 0 || (0.0..=end).contains(&at);
        check("join.at", is_within, at.to_string(), "0 to the scenario's seconds")?;
        let ok = discover_every == 0.0 || (1.0..=86_400.0).contains(&discover_every);
        check("join.discover_every", ok, discover_every.to_string(), "0, or 1 to 86400")?;
        let Expect { form_within, heal_within, deliver_within, join_within, frame_within, frame_growth, .. } =
            self.expect;
        for (field, value) in [
            ("expect.form_within", form_within),
            ("expect.heal_within", heal_within),
            ("expect.deliver_within", deliver_within),
            ("expect.join_within", join_within),
            ("expect.frame_within", frame_within),
            ("expect.frame_growth", frame_growth),
        ] {
            check(field, (0.0..=86_400.0).contains(&value), value.to_string(), "0 to 86400")?;
        }
        let homes = self.topology.homes;
        check("topology.homes", homes <= 100_000, homes.to_string(), "0 to 100000")?;
        let ok = homes != 1 || !self.faults.iter().any(Fault::is_between_homes);
        check("topology.homes", ok, homes.to_string(), "another number, because a fault is between homes")?;
        let begin = self.hostile.from;
        check("hostile.from", (0.0..=end).contains(&begin), begin.to_string(), "0 to the scenario's seconds")?;
        let sybils = self.hostile.sybils;
        check("hostile.sybils", sybils <= 10_000, sybils.to_string(), "at most 10000")?;
        let lacks = &self.foreign.lacks;
        check("foreign.lacks", are_different(lacks), written(lacks), "each of ping, kad and name once at most")?;
        let has_foreign = self.foreign.nodes > 0 || !self.foreign.list.is_empty();
        let ok = !(self.node.private && has_foreign);
        check("node.private", ok, "true".to_owned(), "false, beside nodes of another make, which have no key")?;
        for fault in &self.faults {
            let moves_at_all = !fault.moves() || fault.restarts();
            check("moves", moves_at_all, "true".to_owned(), "false, or a restart_at beside it")?;
            if let Fault::Clock { by, .. } = fault {
                check("by", (-86_400.0..=86_400.0).contains(by), by.to_string(), "-86400 to 86400")?;
            }
            let Range { start, end: stop } = fault.span();
            let ok = start >= 0.0 && start <= stop && stop <= end;
            check("faults", ok, format!("{start} to {stop}"), "a begin before its end, within the scenario's seconds")?;
        }
        self.check_lists(file, text)
    }

    /// Checks what is listed item by item: messages, calls, and the nodes of faults.
    fn check_lists(&self, file: &str, text: &str) -> Result<(), ScenarioError> {
        let check = |list: &str, index: usize, field: &str, ok: bool, value: String, expected: String| match ok {
            true => Ok(()),
            false => Err(ScenarioError::Range {
                file: file.to_owned(),
                line: line_of_item(text, list, index, field),
                field: format!("{list}[{index}].{field}"),
                value,
                expected,
            }),
        };
        let (end, topics) = (self.seconds.0, self.publish.topics);
        let within = || format!("0 to {end}, the scenario's seconds");
        for (index, MessageAt { at, topic, .. }) in self.publish.list.iter().enumerate() {
            check("publish.list", index, "at", (0.0..=end).contains(at), at.to_string(), within())?;
            let below = format!("less than {topics}, the number of topics");
            check("publish.list", index, "topic", *topic < topics, topic.to_string(), below)?;
        }
        for (index, CallAt { at, .. }) in self.calls.list.iter().enumerate() {
            check("calls.list", index, "at", (0.0..=end).contains(at), at.to_string(), within())?;
        }
        for (index, fault) in self.faults.iter().enumerate() {
            let nodes = fault.named();
            let mut once = nodes.to_vec();
            once.sort_unstable();
            once.dedup();
            let ok = once.len() == nodes.len();
            check("faults", index, "nodes", ok, format!("{nodes:?}"), "each number once".to_owned())?;
            if let Fault::Overlap { nodes: Nodes::These(_), id, .. } = fault {
                let (ok, expected) = (*id == IdOrder::Any, "\"any\", beside the numbers of the nodes");
                check("faults", index, "id", ok, format!("{id:?}").to_lowercase(), expected.to_owned())?;
            }
        }
        for (index, ForeignNode { node, lacks }) in self.foreign.list.iter().enumerate() {
            let is_new = self.foreign.list[..index].iter().all(|earlier| earlier.node != *node);
            check("foreign.list", index, "node", is_new, node.to_string(), "each number once".to_owned())?;
            let expected = "each of ping, kad and name once at most".to_owned();
            check("foreign.list", index, "lacks", are_different(lacks), written(lacks), expected)?;
        }
        Ok(())
    }
}

fn are_different(lacks: &[Lack]) -> bool {
    lacks.iter().enumerate().all(|(index, lack)| !lacks[..index].contains(lack))
}

/// As in a file.
fn written(lacks: &[Lack]) -> String {
    format!("{lacks:?}").to_lowercase()
}

fn line_of(text: &str, span: Range<usize>) -> usize {
    text[..span.start.min(text.len())].matches('\n').count() + 1
}

/// The line where a field of an item of a list is set: below the item's header, or else that of the list.
fn line_of_item(text: &str, list: &str, index: usize, field: &str) -> usize {
    let header = format!("[[{list}]]");
    let headers = text.lines().enumerate().filter(|(_, line)| line.trim() == header);
    let Some(begin) = headers.map(|(line, _)| line).nth(index) else { return line_of_field(text, list) };
    let item = text.lines().skip(begin + 1).take_while(|line| !line.trim_start().starts_with('['));
    let is_set =
        |line: &str| line.trim_start().strip_prefix(field).is_some_and(|rest| rest.trim_start().starts_with('='));
    let below = item.enumerate().find_map(|(below, line)| is_set(line).then_some(below + 1)).unwrap_or_default();
    begin + below + 1
}

/// The line where a field's own name is set. After parsing, no better position is known.
fn line_of_field(text: &str, field: &str) -> usize {
    let (section, name) = field.rsplit_once('.').unwrap_or(("", field));
    let header = format!("[{section}]");
    let begin = text.lines().position(|line| line.trim() == header).unwrap_or_default();
    let is_set = |line: &str| {
        let line = line.trim_start().trim_start_matches('[');
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
    };
    text.lines().skip(begin).position(is_set).map_or(1, |line| begin + line + 1)
}

/// Name and text of the built-in scenarios.
pub const BUILTIN: [(&str, &str); 41] = [
    ("quiet", include_str!("../../scenarios/quiet.toml")),
    ("calls", include_str!("../../scenarios/calls.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("waves", include_str!("../../scenarios/waves.toml")),
    ("join", include_str!("../../scenarios/join.toml")),
    ("moves", include_str!("../../scenarios/moves.toml")),
    ("partition", include_str!("../../scenarios/partition.toml")),
    ("slow_consumers", include_str!("../../scenarios/slow_consumers.toml")),
    ("hostile", include_str!("../../scenarios/hostile.toml")),
    ("sybils", include_str!("../../scenarios/sybils.toml")),
    ("lan", include_str!("../../scenarios/lan.toml")),
    ("chaos", include_str!("../../scenarios/chaos.toml")),
    ("voice_lan", include_str!("../../scenarios/voice_lan.toml")),
    ("voice_wifi", include_str!("../../scenarios/voice_wifi.toml")),
    ("voice_wifi_busy", include_str!("../../scenarios/voice_wifi_busy.toml")),
    ("voice_wifi_power_save", include_str!("../../scenarios/voice_wifi_power_save.toml")),
    ("voice_roaming", include_str!("../../scenarios/voice_roaming.toml")),
    ("voice_dsl", include_str!("../../scenarios/voice_dsl.toml")),
    ("voice_thin_256", include_str!("../../scenarios/voice_thin_256.toml")),
    ("voice_thin_128", include_str!("../../scenarios/voice_thin_128.toml")),
    ("voice_thin_50", include_str!("../../scenarios/voice_thin_50.toml")),
    ("voice_bulk", include_str!("../../scenarios/voice_bulk.toml")),
    ("voice_bulk_thin", include_str!("../../scenarios/voice_bulk_thin.toml")),
    ("voice_bulk_lan", include_str!("../../scenarios/voice_bulk_lan.toml")),
    ("voice_small_thin", include_str!("../../scenarios/voice_small_thin.toml")),
    ("voice_small_dsl", include_str!("../../scenarios/voice_small_dsl.toml")),
    ("voice_small_lan", include_str!("../../scenarios/voice_small_lan.toml")),
    ("voice_outage", include_str!("../../scenarios/voice_outage.toml")),
    ("voice_reset", include_str!("../../scenarios/voice_reset.toml")),
    ("voice_far", include_str!("../../scenarios/voice_far.toml")),
    ("restart", include_str!("../../scenarios/restart.toml")),
    ("resubscribe", include_str!("../../scenarios/resubscribe.toml")),
    ("restart_young", include_str!("../../scenarios/restart_young.toml")),
    ("overlap", include_str!("../../scenarios/overlap.toml")),
    ("overlap_crash", include_str!("../../scenarios/overlap_crash.toml")),
    ("mixed", include_str!("../../scenarios/mixed.toml")),
    ("farewell", include_str!("../../scenarios/farewell.toml")),
    ("context", include_str!("../../scenarios/context.toml")),
    ("context_one_clock", include_str!("../../scenarios/context_one_clock.toml")),
    ("context_hostile", include_str!("../../scenarios/context_hostile.toml")),
    ("chaos_plain", include_str!("../../scenarios/chaos_plain.toml")),
];
