//! How is the mesh in time put into the page? As a list of changes, which the page's script draws at the time of a slider.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::escape;
use crate::mesh::{Change, Kind, Mesh};
use crate::report::Report;

/// The most changes in a page. A change has about 16 bytes.
const MAX_CHANGES: usize = 60_000;
/// The first width of the bins in which changes are combined if there are too many, in milliseconds. It is doubled until they
/// are few enough.
const FIRST_BIN_MS: u64 = 50;

/// A change as the page has it: milliseconds, and a row of numbers and names.
type Row = (u64, Vec<Value>);

/// The view of the mesh; empty if nobody was up.
pub(super) fn section(report: &Report) -> String {
    let Mesh { kinds, is_cut_short, .. } = &report.mesh;
    if report.mesh.changes.is_empty() {
        return String::new();
    }
    let (changes, bin_ms) = rows(&report.mesh);
    let kinds: String = kinds.iter().map(|kind| letter(*kind)).collect();
    let troubles = report.troubles.iter().map(|span| json!([millis(span.from), millis(span.until), span.what]));
    let broken = report.violation.as_ref().map(|broken| json!([millis(broken.at), broken.invariant]));
    let data = json!({
        "end": millis(report.virtual_seconds),
        "kinds": kinds,
        "troubles": troubles.collect::<Vec<_>>(),
        "broken": broken,
        "changes": changes.iter().map(|(at, row)| Value::from_iter([json!(at)].into_iter().chain(row.clone()))).collect::<Vec<_>>(),
    });
    // `<` would end the element, or begin a comment.
    let data = data.to_string().replace('<', "\\u003c");
    let mut notes = String::new();
    if bin_ms > 0 {
        let _ = write!(notes, "<p class=\"faint\">Changes are combined to steps of {bin_ms} ms.</p>");
    }
    if *is_cut_short {
        notes += "<p class=\"faint\">There were more changes than are recorded: the end is missing.</p>";
    }
    let select = (0..kinds.len()).map(|node| format!("<option value=\"{node}\">{node}</option>"));
    include_str!("mesh.html")
        .replace("{nodes}", &select.collect::<String>())
        .replace("{notes}", &notes)
        .replace("{end}", &escape(&format!("{:.3}", report.virtual_seconds)))
        .replace("{script}", include_str!("mesh.js"))
        // The last one, since it may contain anything.
        .replace("{data}", &data)
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::Honest => 'h',
        Kind::Foreign => 'f',
        Kind::Hostile => 'x',
    }
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

/// The changes, combined to steps of so many milliseconds if there are too many.
fn rows(mesh: &Mesh) -> (Vec<Row>, u64) {
    let all = combined(mesh, 0);
    let (mut rows, mut bin_ms) = (all, 0);
    while rows.len() > MAX_CHANGES && bin_ms < 1_000_000_000 {
        bin_ms = if bin_ms == 0 { FIRST_BIN_MS } else { 2 * bin_ms };
        rows = combined(mesh, bin_ms);
    }
    (rows, bin_ms)
}

/// What a change is about: of two changes of one thing in one bin the last one counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Node(u32),
    Peer(u32, u32),
    /// Calls of two nodes: there may be several.
    Call(u32, u32, usize),
    /// Cuts are never combined.
    Cut(usize),
}

fn combined(mesh: &Mesh, bin_ms: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    // What is the case before this bin, and what has changed in it, with its place among the changes.
    let mut before: BTreeMap<Subject, Value> = BTreeMap::new();
    let mut bin: BTreeMap<Subject, (usize, u64, Vec<Value>)> = BTreeMap::new();
    let mut bin_of = 0;
    for (index, (at, change)) in mesh.changes.iter().enumerate() {
        let at_ms = at.as_millis() as u64;
        let this = at_ms.checked_div(bin_ms).unwrap_or(index as u64);
        if this != bin_of {
            flush(&mut rows, &mut before, &mut bin);
            bin_of = this;
        }
        let (subject, row) = row_of(index, change);
        bin.insert(subject, (index, at_ms, row));
    }
    flush(&mut rows, &mut before, &mut bin);
    rows
}

fn flush(
    rows: &mut Vec<Row>,
    before: &mut BTreeMap<Subject, Value>,
    bin: &mut BTreeMap<Subject, (usize, u64, Vec<Value>)>,
) {
    let mut changed: Vec<_> = std::mem::take(bin).into_iter().collect();
    changed.sort_by_key(|(_, (index, ..))| *index);
    for (subject, (_, at, row)) in changed {
        let state = Value::from(row.clone());
        if before.get(&subject) != Some(&state) {
            before.insert(subject, state);
            rows.push((at, row));
        }
    }
}

fn row_of(index: usize, change: &Change) -> (Subject, Vec<Value>) {
    match change {
        Change::Up(node) => (Subject::Node(*node), vec![json!("u"), json!(node)]),
        Change::Left(node) => (Subject::Node(*node), vec![json!("d"), json!(node)]),
        Change::Crashed(node) => (Subject::Node(*node), vec![json!("x"), json!(node)]),
        Change::Peer { of, peer, is_up } => {
            let word = if *is_up { "p" } else { "q" };
            (Subject::Peer(*of, *peer), vec![json!(word), json!(of), json!(peer)])
        }
        Change::Call { from, to, is_up } => {
            let word = if *is_up { "c" } else { "e" };
            (Subject::Call(*from, *to, index), vec![json!(word), json!(from), json!(to)])
        }
        Change::Cut { trouble, from, to } => {
            (Subject::Cut(index), vec![json!("k"), json!(trouble), json!(from), json!(to)])
        }
        Change::Heal { trouble } => (Subject::Cut(index), vec![json!("h"), json!(trouble)]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn flapping(changes: u64) -> Mesh {
        let mut mesh = Mesh::default();
        mesh.kinds = vec![Kind::Honest; 40];
        mesh.changes.extend((0..40).map(|node| (Duration::ZERO, Change::Up(node))));
        for step in 0..changes {
            let (of, peer) = ((step / 2 % 40) as u32, ((step / 2 + 1) % 40) as u32);
            mesh.changes.push((Duration::from_millis(10 + step), Change::Peer { of, peer, is_up: step % 2 == 0 }));
        }
        mesh
    }

    #[test]
    fn few_changes_are_all_there() {
        let (rows, bin_ms) = rows(&flapping(100));
        assert_eq!((rows.len(), bin_ms), (140, 0));
        assert_eq!(rows[40], (10, vec![json!("p"), json!(0), json!(1)]));
    }

    #[test]
    fn of_many_changes_those_that_last_are_left_and_the_end_is_the_same() {
        let mut mesh = flapping(200_000);
        let last = Change::Peer { of: 7, peer: 9, is_up: true };
        mesh.changes.push((Duration::from_secs(250), last));
        let (rows, bin_ms) = rows(&mesh);
        assert!(rows.len() <= MAX_CHANGES && bin_ms >= FIRST_BIN_MS, "{} in steps of {bin_ms} ms", rows.len());
        assert_eq!(rows.last(), Some(&(250_000, vec![json!("p"), json!(7), json!(9)])));
        assert!(rows.windows(2).all(|pair| pair[0].0 / bin_ms <= pair[1].0 / bin_ms));
        assert_eq!(rows.iter().filter(|(_, row)| row[0] == "u").count(), 40);
    }
}
