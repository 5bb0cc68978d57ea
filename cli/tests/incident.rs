//! Does a recording tell what `docs/incidents.md` says that it tells? The incident is made again, and the page is compared.
#![cfg(target_os = "linux")]

mod common;

use common::cable::Cable;
use common::{Folder, Running, avi, clean, program, run};

const PAGE: &str = include_str!("../../docs/incidents.md");

/// The text with `N` in place of each number, and `PEER` of each peer id.
fn outline(text: &str) -> String {
    let words = text.split_inclusive([' ', '(', ')', ':', ',', '/']).map(|word| match word.starts_with("12D3Koo") {
        true => format!("PEER{}", word.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric())),
        false => word.to_owned(),
    });
    let mut outline = String::new();
    for letter in words.collect::<String>().chars() {
        match letter.is_ascii_digit() {
            true if outline.ends_with('N') => {}
            true => outline.push('N'),
            false => outline.push(letter),
        }
    }
    outline.replace("N.N", "N")
}

/// What the page says that `--why` prints.
fn told() -> Vec<String> {
    let lines = PAGE.lines().filter(|line| line.starts_with("at ") && line.contains("(record "));
    lines.map(outline).collect()
}

#[test]
fn the_recording_of_a_call_that_broke_tells_what_the_page_says() {
    let Some(cable) = Cable::new() else { return };
    let folder = Folder::new("incident");
    let file = folder.path("kitchen.rec");
    let config = folder.file("kitchen.toml", &format!("node_name = \"kitchen\"\n[recorder]\nfile = {file:?}\n"));
    let (_hall, address) = cable.answer(&["--name", "hall", "--no-mdns"]);
    let mut command = clean(cable.here.command(program()));
    command.args(["--json", "--config", &config, "--listen", "192.0.2.1", "--no-mdns", "call", &address]);
    command.args(["--seconds", "80"]);
    let call = Running::start(command);
    call.wait_for("call_figures", |line| line["sent"].as_u64() > Some(100));
    cable.there.ip("link set eth0 down");
    // The peer is silent for 14 s, and then the call waits for 15 s.
    call.wait_for("call_figures", |line| line["dropped"].as_u64() > Some(500));
    call.wait_for("call_ended", |line| line["reason"].is_string());
    call.ends().expect(1);

    let mut command = avi();
    command.args(["--json", "replay", &file, "--why", "stream:1"]);
    let ended = run(command).expect(0);
    let causes: Vec<_> = ended
        .of("cause")
        .iter()
        .map(|line| {
            outline(&format!("at {} s (record {}): {}", line["time_s"], line["number"], line["text"].as_str().unwrap()))
        })
        .collect();
    let told = told();
    assert!(told.len() > 5, "{told:?}");
    for line in told {
        assert!(causes.contains(&line), "{line}\nis not in {causes:#?}");
    }
}
