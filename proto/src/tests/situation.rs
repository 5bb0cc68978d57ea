//! Is the list of situations the list of those that the engine marks?

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

/// The sources of this crate, without its tests.
fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            sources(&path, all);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            *all += &std::fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn every_situation_in_the_list_is_marked_somewhere() {
    let mut all = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    for situation in Situation::ALL {
        let mark = format!("Situation::{situation:?}");
        let is_marked = all.match_indices(&mark).any(|(at, _)| {
            let after = all[at + mark.len()..].chars().next();
            after.is_none_or(|letter| !letter.is_alphanumeric())
        });
        assert!(is_marked, "{mark} is in the list, and nothing marks it");
    }
}

#[test]
fn names_are_unique_words_for_a_command_line() {
    let names: BTreeSet<_> = Situation::ALL.iter().map(|situation| situation.name()).collect();
    assert_eq!(names.len(), Situation::ALL.len());
    for situation in Situation::ALL {
        let letters = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        assert!(situation.name().chars().all(letters), "{situation:?}");
        // The same words as the variant, so that either is found by the other.
        let words = situation.name().replace('_', "");
        assert_eq!(words, format!("{situation:?}").to_lowercase());
        assert!(situation.what().trim().ends_with('.'), "{situation:?}");
    }
}

#[test]
fn an_event_has_the_target_and_the_field_that_listeners_look_for() {
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};

    #[derive(Clone, Default)]
    struct Listener(Arc<Mutex<Vec<String>>>);
    impl Visit for Listener {
        fn record_str(&mut self, field: &Field, value: &str) {
            assert_eq!(field.name(), FIELD);
            self.0.lock().unwrap().push(value.to_owned());
        }
        fn record_debug(&mut self, field: &Field, _: &dyn std::fmt::Debug) {
            panic!("{field} is no string");
        }
    }
    impl tracing::Subscriber for Listener {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            metadata.target() == TARGET
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    let listener = Listener::default();
    tracing::subscriber::with_default(listener.clone(), || reached(Situation::CallResumed));
    assert_eq!(*listener.0.lock().unwrap(), ["call_resumed"]);
}
