//! Writes what the tests include: copies of the library's `src/wake.rs` that use loom, one as it is, and one for each
//! broken promise.

use std::path::Path;
use std::{env, fs};

const SOURCE: &str = "../src/wake.rs";

/// A name, the text in the source, and the text that replaces it and breaks a promise.
const MUTATIONS: [(&str, &str, &str); 4] = [
    (
        "no_second_look_after_registering",
        "        if self.is_due() || is_due() {\n            self.is_awake.swap(true, Ordering::SeqCst);\n            self.set_attended(true);\n            return false;\n        }\n",
        "        let _ = is_due;\n",
    ),
    (
        "no_note_left_before_waking",
        "        if !self.is_set.swap(true, Ordering::SeqCst) {\n            self.wake.set_due();\n            self.wake.wake();\n        }\n",
        "        self.wake.wake();\n        self.is_set.store(true, Ordering::SeqCst);\n        self.wake.set_due();\n",
    ),
    (
        "the_last_look_before_the_end",
        "        if turn.attends {\n            self.set_attended(false);\n        }\n        (self.is_due() || is_due()) &&",
        "        let is_due = self.is_due() || is_due();\n        if turn.attends {\n            self.set_attended(false);\n        }\n        is_due &&",
    ),
    (
        "no_end_at_all",
        "        if turn.attends {\n            self.set_attended(false);\n        }\n        (self.is_due() || is_due()) && !self.set_attended(true)\n",
        "        let _ = (turn.attends, is_due);\n        false\n",
    ),
];

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let source = fs::read_to_string(SOURCE).expect("the library's wake.rs can be read");
    // An included file may have no documentation of its own.
    let code: Vec<_> = source.lines().filter(|line| !line.starts_with("//!")).collect();
    let code = replace(&code.join("\n"), "use std::sync::atomic::", "use loom::sync::atomic::");
    let code = replace(&code, "use std::sync::Mutex;", "use loom::sync::Mutex;");
    let folder = env::var("OUT_DIR").expect("cargo says where");
    let write = |name: &str, code: &str| {
        fs::write(Path::new(&folder).join(format!("{name}.rs")), code).expect("a file can be written");
    };
    write("as_it_is", &code);
    for (name, before, after) in MUTATIONS {
        write(name, &replace(&code, before, after));
    }
}

fn replace(code: &str, before: &str, after: &str) -> String {
    let found = code.matches(before).count();
    assert_eq!(found, 1, "{SOURCE} has changed: this stands there {found} times, not once:\n{before}");
    code.replacen(before, after, 1)
}
