//! Do the inputs of the gateway's fuzz target, including those that once failed, pass now?

use std::fs;
use std::path::Path;

use super::engine;

#[path = "../../../fuzz/src/gateway.rs"]
mod body;
#[allow(dead_code, reason = "other targets need the rest")]
#[path = "../../../fuzz/src/script.rs"]
mod script;

#[test]
fn every_input_in_the_corpus_keeps_every_promise() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/gateway");
    let mut count = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus") {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("an input can be read");
        let kept = std::panic::catch_unwind(|| body::gateway(&input));
        assert!(kept.is_ok(), "{} breaks what is told above", path.display());
        count += 1;
    }
    assert!(count >= 5, "{count} inputs");
}

#[test]
fn what_a_simple_generator_makes_keeps_every_promise() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..300 {
        let input: Vec<u8> = (0..600)
            .map(|_| {
                // Marsaglia's xorshift.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Mostly small numbers, as the operations are.
                let byte = (state >> 32) as u8;
                if byte & 1 == 0 { byte >> 4 } else { byte }
            })
            .collect();
        body::gateway(&input);
    }
}
