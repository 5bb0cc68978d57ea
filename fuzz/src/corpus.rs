//! Do the inputs of the corpora, including those that once failed, pass now?

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::{Body, TARGETS};

/// The target of `avi-device`, whose tests replay its corpus.
const OF_DEVICE: &str = "gateway";

/// `None` in the published package of the core, which has none.
fn corpora() -> Option<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    fuzz.is_dir().then(|| fuzz.join("corpus"))
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect();
    names.sort();
    names
}

#[test]
fn every_input_in_the_corpora_keeps_every_promise() {
    let Some(corpora) = corpora() else { return };
    let mut broken = Vec::new();
    for (target, body) in TARGETS {
        let folder = corpora.join(target);
        for name in names(&folder) {
            let input = fs::read(folder.join(&name)).expect("an input can be read");
            if catch_unwind(AssertUnwindSafe(|| body(&input))).is_err() {
                broken.push(format!("fuzz/corpus/{target}/{name}"));
            }
        }
    }
    assert!(broken.is_empty(), "what they break is told above:\n{}", broken.join("\n"));
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let Some(corpora) = corpora() else { return };
    let mut targets: Vec<String> = TARGETS.iter().map(|(target, _): &(&str, Body)| (*target).to_owned()).collect();
    targets.push(OF_DEVICE.to_owned());
    targets.sort();
    assert_eq!(names(&corpora), targets);
    let programs = names(&corpora.with_file_name("fuzz_targets"));
    assert_eq!(programs, targets.iter().map(|target| format!("{target}.rs")).collect::<Vec<_>>());
    for target in targets {
        let inputs = names(&corpora.join(&target)).len();
        assert!((5..=40).contains(&inputs), "{inputs} inputs of {target}");
    }
}
