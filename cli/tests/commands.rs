//! Does each command do what it says, between two processes on loopback?
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use common::{Folder, Running, alone, avi, run};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A node that subscribes, and where it is.
fn subscriber(arguments: &[&str]) -> (Running, String, String) {
    let sub = Running::start(alone(&[&["sub", "lobby"], arguments].concat()));
    let (address, id) = sub.listens("started");
    (sub, address, id)
}

#[test]
fn a_published_message_is_printed_by_a_subscriber_who_is_named() {
    let (sub, address, id) = subscriber(&["--name", "hall", "--count", "1"]);
    let published = run(alone(&["pub", "lobby", "Grüße\n", "--connect", &address, "--name", "desk"])).expect(0);
    let line = published.of("published")[0].clone();
    assert_eq!(line["subscribers"], json!([{ "peer_id": id, "name": "hall" }]));
    assert_eq!((&line["topic"], &line["bytes"]), (&json!("lobby"), &json!(8)));
    let sub = sub.ends().expect(0);
    let message = sub.of("message")[0];
    assert_eq!(
        (&message["text"], &message["topic"], &message["hex"]),
        (&json!("Grüße\n"), &json!("lobby"), &Value::Null)
    );
}

#[test]
fn standard_input_is_one_message_and_bytes_that_are_no_text_are_shown_as_such() {
    let (sub, address, _) = subscriber(&["--count", "1"]);
    let mut publish = alone(&["pub", "lobby", "-", "--connect", &address]);
    publish.stdin(Stdio::piped());
    let mut publish = Running::start(publish);
    publish.child.stdin.take().unwrap().write_all(b"\xff\x00\n").unwrap();
    publish.ends().expect(0);
    let sub = sub.ends().expect(0);
    let message = sub.of("message")[0];
    assert_eq!((&message["hex"], &message["text"]), (&json!("ff000a"), &Value::Null));
}

#[test]
fn a_message_that_nobody_hears_is_told() {
    run(alone(&["pub", "lobby", "x", "--wait", "200ms"])).says(1, &["nobody subscribes to lobby"]);
    let (_sub, address, _) = subscriber(&[]);
    let few = alone(&["pub", "lobby", "x", "--wait", "2s", "--subscribers", "2", "--connect", &address]);
    let ended = run(few).says(1, &["1 of 2 subscribers were there"]);
    assert_eq!(ended.of("published").len(), 1, "those who were there have it");
}

#[test]
fn peers_are_shown_with_name_and_distance() {
    let (_sub, address, id) = subscriber(&["--name", "hall"]);
    let ended = run(alone(&["peers", "--connect", &address, "--count", "1", "--wait", "20s"])).expect(0);
    let peer = ended.of("peer")[0];
    assert_eq!((&peer["peer_id"], &peer["name"], &peer["direction"]), (&json!(id), &json!("hall"), &json!("outbound")));
    run(alone(&["peers", "--count", "1", "--wait", "100ms"])).says(1, &["0 of 1 peers"]);
}

#[test]
fn an_interrupt_ends_a_node_cleanly_and_its_peers_are_told() {
    let (sub, address, id) = subscriber(&[]);
    let watch = Running::start(alone(&["peers", "--watch", "--connect", &address]));
    watch.wait_for("peer_connected", |line| line["peer_id"] == id.as_str());
    sub.signal(Signal::INT);
    assert_eq!(sub.ends().expect(130).errors, "");
    watch.wait_for("peer_disconnected", |line| line["peer_id"] == id.as_str());
    watch.signal(Signal::TERM);
    watch.ends().expect(143);
}

#[test]
fn an_output_that_nobody_reads_ends_quietly() {
    let mut sub = alone(&["sub", "lobby"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(sub.stdout.take().unwrap());
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        output.read_line(line).unwrap();
    }
    let started: Value = serde_json::from_str(&lines[0]).unwrap();
    // After the line that says that it is subscribed, this closes the pipe.
    drop(output);
    run(alone(&["pub", "lobby", "x", "--connect", started["addresses"][0].as_str().unwrap()])).expect(0);
    assert_eq!(wait_bounded(&mut sub), (Some(0), String::new()));
}

/// How it ended, and what it said on standard error.
fn wait_bounded(child: &mut Child) -> (Option<i32>, String) {
    let mut errors = String::new();
    // It closes with the process.
    child.stderr.as_mut().unwrap().read_to_string(&mut errors).unwrap();
    (child.wait().unwrap().code(), errors)
}

#[test]
fn what_is_written_into_the_context_is_read_by_others_and_removed() {
    let watch = Running::start(alone(&["context", "watch", "kitchen"]));
    let (address, _) = watch.listens("started");
    let context = |action: &[&str]| run(alone(&[&["context"], action, &["--connect", &address]].concat()));
    let written = context(&["set", "kitchen.light", r#"{"on": true, "dim": 0.5}"#]).expect(0);
    assert_eq!(written.of("context_written")[0]["peers"], 1);
    watch.wait_for("context_changed", |line| line["path"] == "kitchen.light.dim" || line["path"] == "kitchen.light");
    context(&["set", "kitchen.name", "die Küche"]).expect(0);
    let all = context(&["get"]).expect(0);
    let value = json!({ "kitchen": { "light": { "on": true, "dim": 0.5 }, "name": "die Küche" } });
    assert_eq!(all.of("context")[0]["value"], value);
    context(&["remove", "kitchen.light"]).expect(0);
    watch.wait_for("context_changed", |line| line["value"].is_null());
    context(&["get", "kitchen.light"]).says(1, &["nothing at \"kitchen.light\""]);
    context(&["set", "a..b", "1"]).says(2, &["invalid path"]);
    run(alone(&["context", "set", "a", "1", "--wait", "200ms"])).says(1, &["with this node alone"]);
}

#[test]
fn a_tone_goes_there_and_back_and_its_figures_are_shown() {
    let answer = Running::start(alone(&["answer", "--echo", "--calls", "1", "--name", "hall"]));
    let (address, id) = answer.listens("answering");
    let ended = run(alone(&["call", "hall", "--connect", &address, "--tone", "440", "--seconds", "2.5"])).expect(0);
    assert_eq!(ended.of("call_began")[0]["name"], "hall");
    assert!(ended.of("call_figures").len() >= 2, "{:#?}", ended.lines);
    let last = ended.of("call_ended")[0];
    assert_eq!((&last["peer_id"], &last["reason"]), (&json!(id), &json!("this end closed it")));
    assert_eq!((&last["path"], &last["lost"]), (&json!("datagrams"), &json!(0)));
    let figure = |name: &str| last[name].as_f64().unwrap_or_else(|| panic!("{name} in {last}"));
    // 125 frames of 20 ms; a machine that is busy drops some.
    assert!((100.0..=126.0).contains(&figure("sent")) && figure("received") >= 80.0, "{last}");
    assert!(figure("rtt_ms") < 200.0 && figure("remote_lost") == 0.0, "{last}");
    let there = answer.ends().expect(0);
    assert_eq!(there.of("call_began")[0]["label"], "avi call");
    assert_eq!(there.of("call_ended")[0]["reason"], "the other end closed it");
}

#[test]
fn a_file_that_is_played_is_recorded_there() {
    let folder = Folder::new("wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let played: Vec<i16> = (0..16_000_i32).map(|n| (n * 7919 % 60_000 - 30_000) as i16).collect();
    let mut wav = hound::WavWriter::create(folder.path("played.wav"), spec).unwrap();
    played.iter().for_each(|sample| wav.write_sample(*sample).unwrap());
    wav.finalize().unwrap();
    let answer = Running::start(alone(&["answer", "--calls", "1", "--record", &folder.path("heard.wav")]));
    let (address, _) = answer.listens("answering");
    run(alone(&["call", &address, "--wav", &folder.path("played.wav")])).expect(0);
    answer.ends().expect(0);
    let mut wav = hound::WavReader::open(folder.path("heard.wav")).unwrap();
    assert_eq!(wav.spec(), spec);
    let heard: Vec<i16> = wav.samples().collect::<Result<_, _>>().unwrap();
    // Frames of 320 samples: each is there as it was, or was lost or concealed.
    let frames = |samples: &[i16]| samples.chunks(320).map(<[i16]>::to_vec).collect::<Vec<_>>();
    let heard = frames(&heard);
    let there = frames(&played).into_iter().filter(|frame| heard.contains(frame)).count();
    assert!(there >= 45, "{there} of 50 frames are there");
}

#[test]
fn a_call_that_nobody_takes_is_told() {
    let (_sub, address, id) = subscriber(&["--name", "hall"]);
    let folder = Folder::new("untaken");
    let config = folder.file("avi.toml", "accept_timeout = \"300 ms\"\n");
    let call = |peer: &str| run(alone(&["--config", &config, "call", peer, "--connect", &address, "--wait", "20s"]));
    call(&id).says(1, &["not answered", "in time"]);
    call(&id[id.len() - 6..]).says(1, &["not answered"]);
    let nobody = alone(&["call", "cellar", "--connect", &address, "--wait", "1s"]);
    run(nobody).says(1, &["no peer \"cellar\" was found", &id, "hall"]);
}

#[test]
fn a_name_that_two_peers_have_is_not_called() {
    let (_one, first, id) = subscriber(&["--name", "hall"]);
    let (_two, second, other) = subscriber(&["--name", "hall"]);
    let call = alone(&["call", "hall", "--connect", &first, "--connect", &second]);
    run(call).says(2, &["may be any of", &id, &other]);
}

#[test]
fn a_wrong_configuration_is_named_with_its_line_and_what_was_expected() {
    let folder = Folder::new("config");
    let peers = |text: &str| {
        let file = folder.file("avi.toml", text);
        (run(alone(&["peers", "--wait", "0", "--config", &file])), file)
    };
    let (ended, file) = peers("node_name = \"a\"\nlisten_prot = 1\n");
    ended.says(3, &[&format!("{file}:2: unknown field `listen_prot`"), "listen_port"]);
    let (ended, file) = peers("\n\nmax_peers = 0\n");
    ended.says(3, &[&format!("{file}:3: "), "max_peers = 0: expected 1 to 10000"]);
    let (ended, file) = peers("[limits]\nmax_topics = \"many\"\n");
    ended.says(3, &[&format!("{file}:2: "), "expected usize"]);
    run(alone(&["peers", "--config", "/nowhere/avi.toml"])).says(3, &["/nowhere/avi.toml", "No such file"]);
    let broken = folder.file("broken.wav", "RIFF no sound");
    run(alone(&["call", "hall", "--wav", &broken])).says(3, &["broken.wav"]);
}

#[test]
fn exit_codes_tell_the_command_line_and_the_network_apart() {
    for wrong in [&["bogus"][..], &["sub"], &["peers", "--wait", "soon"], &["--name", "", "peers"]] {
        run(alone(wrong)).expect(2);
    }
    run(alone(&["peers", "--connect", "/ip4/192.0.2.1/udp/1"])).says(2, &["/tcp/<port>"]);
    run(alone(&["answer", "--record", "x.wav", "--calls", "2"])).says(2, &["--calls 1"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut peers = avi();
    peers.args(["--no-mdns", "--json", "peers", "--listen", &address]);
    run(peers).says(4, &["cannot listen on", "listen_port", "--listen 0"]);
}

#[test]
fn a_pipe_gets_no_colours_and_completions_and_pages_are_complete() {
    let folder = Folder::new("man");
    let text = |arguments: &[&str]| {
        let output = avi().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(text(&["completions", shell]).contains("doctor"), "{shell}");
    }
    assert!(text(&["man"]).contains(".TH avi 1"));
    text(&["man", "--dir", &folder.path("")]);
    for page in ["avi.1", "avi-doctor.1", "avi-context-set.1"] {
        assert!(std::fs::read_to_string(folder.path(page)).unwrap().contains(".TH"), "{page}");
    }
    let help = text(&["--help"]);
    assert!(help.contains("Exit codes") && !help.contains('\u{1b}'));
}
