//! How is a scenario written, with no more than what matters?

use std::fmt;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use toml::{Table, Value};

use super::Scenario;

/// The nodes of a fault: `nodes = 3`, or `nodes = [0, 4, 7]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Nodes {
    /// This many, chosen by the seed.
    Count(usize),
    /// Those with these numbers.
    These(Vec<u32>),
}

impl Nodes {
    /// How many they are.
    pub fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::These(nodes) => nodes.len(),
        }
    }

    /// The numbers of the nodes, if they are named.
    pub fn named(&self) -> &[u32] {
        match self {
            Self::Count(_) => &[],
            Self::These(nodes) => nodes,
        }
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodesVisitor)
    }
}

struct NodesVisitor;

impl<'de> Visitor<'de> for NodesVisitor {
    type Value = Nodes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of nodes, or a list of their numbers")
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Nodes, E> {
        let count = usize::try_from(count).map_err(|_| E::invalid_value(Unexpected::Unsigned(count), &self))?;
        Ok(Nodes::Count(count))
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Nodes, E> {
        let count = usize::try_from(count).map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))?;
        Ok(Nodes::Count(count))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Nodes, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Nodes::These(nodes))
    }
}

impl Scenario {
    /// The scenario as TOML, without what has its default value.
    pub fn to_toml(&self) -> String {
        let (mut table, default) = (table(self), table(&Self::default()));
        reduce(&mut table, &default);
        // Strings, numbers, tables and arrays: all of them can be written.
        toml::to_string(&table).unwrap_or_default()
    }

    /// The highest number of a node that the scenario names.
    pub fn highest_named(&self) -> Option<u32> {
        let topology = self.topology.absent.iter().chain(self.topology.knows.iter().flatten());
        let faults = self.faults.iter().flat_map(|fault| fault.named());
        let authors = self.publish.list.iter().map(|message| &message.node);
        let callers = self.calls.list.iter().map(|call| &call.node);
        let foreign = self.foreign.list.iter().map(|foreign| &foreign.node);
        let others = foreign.chain(&self.slow_consumers.nodes);
        topology.chain(faults).chain(authors).chain(callers).chain(others).copied().max()
    }
}

fn table(scenario: &Scenario) -> Table {
    Table::try_from(scenario).unwrap_or_default()
}

fn reduce(table: &mut Table, default: &Table) {
    table.retain(|name, value| match (value, default.get(name)) {
        (Value::Table(inner), Some(Value::Table(default))) => {
            reduce(inner, default);
            !inner.is_empty()
        }
        (value, default) => default != Some(value),
    });
}

#[cfg(test)]
mod tests {
    use super::super::BUILTIN;
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same_scenario() {
        for (name, text) in BUILTIN {
            let scenario = Scenario::parse(name, text).unwrap();
            assert_eq!(Scenario::parse(name, &scenario.to_toml()).unwrap(), scenario, "{}", scenario.to_toml());
        }
        assert_eq!(Scenario::default().to_toml(), "");
    }

    #[test]
    fn the_nodes_of_a_fault_are_a_count_or_a_list() {
        let of = |nodes: &str| {
            let text = format!("[[faults]]\nkind = \"stall\"\nfrom = 1\nuntil = 2\nnodes = {nodes}\n");
            Scenario::parse("test.toml", &text).map(|scenario| scenario.faults[0].named().to_vec())
        };
        assert_eq!(of("3").unwrap(), [0u32; 0]);
        assert_eq!(of("[4, 1]").unwrap(), [4, 1]);
        for wrong in ["-1", "\"some\"", "[-1]", "0.5"] {
            let error = of(wrong).unwrap_err().to_string();
            assert!(error.contains("expected"), "{wrong}: {error}");
        }
    }
}
