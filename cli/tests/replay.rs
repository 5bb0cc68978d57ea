//! Does a recording show what happened, and is what is wrong with it told?
#![cfg(unix)]

mod common;

use std::fs;

use avi_p2p_proto::recording::{Replay, reseal};
use common::{Ended, Folder, Running, alone, avi, run};
use rustix::process::Signal;
use serde_json::json;

/// The recording of the caller in a call of a second and a half; the id of the other end.
fn recorded_call(folder: &Folder) -> (String, String) {
    let file = folder.path("call.rec");
    let config = folder.file("avi.toml", &format!("enable_mdns = false\nrecorder = {{ file = {file:?} }}\n"));
    let answer = Running::start(alone(&["answer", "--name", "hall"]));
    let (address, id) = answer.listens("answering");
    run(alone(&["--config", &config, "call", &address, "--seconds", "1.5"])).expect(0);
    answer.signal(Signal::INT);
    answer.ends().expect(130);
    (file, id)
}

fn replay(arguments: &[&str]) -> Ended {
    let mut command = avi();
    command.args(["--json", "replay"]).args(arguments);
    run(command)
}

fn inputs(ended: &Ended) -> String {
    ended.of("step").iter().map(|step| format!("{}\n", step["input"].as_str().unwrap())).collect()
}

#[test]
fn a_call_is_replayed_record_by_record_and_shown_by_peer_stream_and_time() {
    let folder = Folder::new("replay");
    let (file, id) = recorded_call(&folder);
    let all = replay(&[&file, "--all"]).expect(0);
    let end = all.of("replayed")[0];
    assert_eq!((&end["agrees"], &end["end"]), (&json!(true), &json!("at its end")));
    assert_eq!(end["steps"], all.of("step").len());
    // 75 frames of 20 ms.
    assert!(inputs(&all).matches("SendAudio").count() >= 50, "{}", inputs(&all));

    let notable = replay(&[&file]).expect(0);
    let shown = inputs(&notable);
    assert!(
        shown.contains("RequestStream") && shown.contains("CloseStream") && !shown.contains("SendAudio"),
        "{shown}"
    );

    let stream = replay(&[&file, "--stream", "1"]).expect(0);
    assert!(inputs(&stream).contains("SendAudio") && !inputs(&stream).contains("Identified"));
    assert!(stream.of("step").len() < all.of("step").len());
    let nothing = replay(&[&file, "--stream", "9"]).says(1, &["nothing in this recording is about it"]);
    assert_eq!((nothing.of("step").len(), nothing.of("replayed").len()), (0, 1));

    for peer in ["hall", &id, &id[id.len() - 6..]] {
        let shown = inputs(&replay(&[&file, "--peer", peer]).expect(0));
        assert!(shown.contains("Identified") && shown.contains("SendAudio"), "{peer}: {shown}");
        assert!(inputs(&all).contains("Listening") && !shown.contains("Listening"), "{peer}: {shown}");
    }
    replay(&[&file, "--peer", "cellar"]).says(1, &["has no peer \"cellar\"", &id]);

    let early = replay(&[&file, "--all", "--until", "1s"]).expect(0);
    let times: Vec<_> = early.of("step").iter().map(|step| step["time_s"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times.iter().all(|at| *at <= 1.0) && times.len() > 20, "{times:?}");
    assert_eq!(early.of("replayed")[0]["end"], "stopped where it was asked to");
}

#[test]
fn a_call_is_drawn_as_one_page() {
    let folder = Folder::new("timeline");
    let (file, id) = recorded_call(&folder);
    let page = folder.path("call.html");
    let ended = replay(&[&file, "--timeline", &page]).expect(0);
    assert_eq!(ended.of("step").len(), 0);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    for part in [&format!("hall, {id}"), ">stream 1<", "connected from", "open from", "this end closed it"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.len() < 100_000, "{} bytes", page.len());
    replay(&[&file, "--timeline", "/nowhere/call.html"]).says(3, &["/nowhere/call.html"]);
}

#[test]
fn what_is_wrong_with_a_recording_is_told_with_its_byte() {
    let folder = Folder::new("damaged");
    let (file, _) = recorded_call(&folder);
    let whole = fs::read(&file).unwrap();
    let with = |bytes: &[u8]| {
        fs::write(folder.path("bad.rec"), bytes).unwrap();
        replay(&[&folder.path("bad.rec")])
    };
    // The last record is not whole: as after a power failure.
    let cut = with(&whole[..whole.len() - 1]).expect(0);
    assert!(cut.of("replayed")[0]["end"].as_str().unwrap().contains(&format!("ends at byte {}", whole.len() - 1)));
    let mut flipped = whole.clone();
    flipped[whole.len() - 1] ^= 1;
    let ended = with(&flipped).says(3, &["bad.rec", "damaged at byte"]);
    assert!(ended.of("replayed")[0]["steps"].as_u64().unwrap() > 50, "what is before it is shown");
    // Another answer of the engine than the one that was recorded.
    let mut replayed = Replay::new(whole.clone()).unwrap();
    let step = replayed.nth(30).unwrap().unwrap();
    let next = replayed.next().unwrap().unwrap().offset;
    let mut planted = whole.clone();
    planted[next - 1] ^= 1;
    reseal(&mut planted, step.offset);
    let number = format!("record {}", step.number);
    let ended = with(&planted).says(1, &[&number, &format!("byte {}", step.offset)]);
    assert_eq!(ended.of("replayed")[0]["agrees"], false);
    with(b"RIFF").says(3, &["not a recording"]);
    with(&whole[..20]).says(3, &["ends at byte 20"]);
    replay(&["/nowhere/call.rec"]).says(3, &["No such file"]);
}

#[test]
fn a_node_is_recorded_until_it_is_interrupted_and_the_last_run_is_told_apart() {
    let folder = Folder::new("record");
    let file = folder.path("node.rec");
    for _ in 0..2 {
        let record = Running::start(alone(&["record", &file, "--topic", "lobby"]));
        let (address, id) = record.listens("started");
        run(alone(&["pub", "lobby", "a secret of the lobby", "--connect", &address])).expect(0);
        record.wait("peer_disconnected");
        record.signal(Signal::INT);
        let ended = record.ends().expect(130);
        assert_eq!(ended.of("recorded")[0]["bytes"], fs::metadata(&file).unwrap().len());
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(8).any(|part| part == b"a secret"), "messages are private");
        let ended = replay(&[&file, "--all"]).expect(0);
        assert!(inputs(&ended).contains("lobby") && ended.of("replayed")[0]["agrees"] == true);
        assert!(ended.of("step").iter().any(|step| step["outputs"].to_string().contains(&id)));
    }
    // The recording of the first run is beside that of the second.
    assert!(fs::metadata(folder.path("node.rec.1")).is_ok());
    let ended = replay(&[&file]).says(0, &["node.rec.1 is left out"]);
    assert_eq!(ended.of("step").iter().filter(|step| step["input"] == "the node starts").count(), 1);
    run(alone(&["record", "/nowhere/node.rec", "--seconds", "1"])).says(3, &["/nowhere/node.rec"]);
}

#[test]
fn the_half_before_that_a_node_leaves_is_read_first() {
    let folder = Folder::new("halves");
    let file = folder.path("call.rec");
    let config = folder.file("avi.toml", &format!("recorder = {{ file = {file:?}, bytes = 65536 }}\n"));
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    // Four seconds, in frames of 5 ms.
    let mut wav = hound::WavWriter::create(folder.path("long.wav"), spec).unwrap();
    (0..384_000_u32).for_each(|n| wav.write_sample((n % 1_000) as i16).unwrap());
    wav.finalize().unwrap();
    let answer = Running::start(alone(&["answer", "--echo", "--name", "hall"]));
    let (address, _) = answer.listens("answering");
    run(alone(&["--config", &config, "call", &address, "--wav", &folder.path("long.wav")])).expect(0);
    let newer = replay(&[&file, "--all"]).says(0, &["call.rec.1 is read first"]);
    let end = newer.of("replayed")[0];
    assert!(end["agrees"] == true && end["end"] == "at its end", "{end}");
    let begins = inputs(&newer).matches("the recording goes on").count();
    assert_eq!((begins, inputs(&newer).matches("after a gap").count()), (2, 0));
    assert!(end["from_s"].as_f64().unwrap() > 0.0, "what is older was dropped: {end}");
    // The stream has begun before; the peer has said its name before.
    let page = folder.path("call.html");
    replay(&[&file, "--timeline", &page]).expect(0);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(">stream 1<") && page.contains("hall"));
}

fn causes(ended: &Ended) -> String {
    ended.of("cause").iter().map(|cause| format!("{}\n", cause["text"].as_str().unwrap())).collect()
}

#[test]
fn why_a_stream_ended_a_peer_went_and_a_message_did_not_arrive_is_said() {
    let folder = Folder::new("why");
    let (file, id) = recorded_call(&folder);
    let stream = replay(&[&file, "--why", "stream:1"]).expect(0);
    assert!(causes(&stream).contains("the application closes it"), "{}", causes(&stream));
    assert_eq!(stream.of("step").len(), 0, "the causes alone");
    for who in [&format!("peer:{id}"), "peer:hall"] {
        let peer = causes(&replay(&[&file, "--why", who]).expect(0));
        assert!(
            peer.contains("this node closes connection 1")
                && peer.contains("shut")
                && peer.contains("that was its last connection"),
            "{peer}"
        );
    }
    replay(&[&file, "--why", "message:3"]).says(1, &["nothing in this recording is about it"]);
    replay(&[&file, "--why", "peer:cellar"]).says(1, &["has no peer \"cellar\""]);
    // A whole id can be asked about, whether or not the recording has it.
    let stranger = "peer:12D3KooWGQ3Ao3XzcqVpzPo7PFrUCz4erRTtWCATErx943YEFDVR";
    replay(&[&file, "--why", stranger]).says(1, &["nothing in this recording is about it"]);
    replay(&[&file, "--why", "tea"]).says(2, &["expected stream:N, peer:WHO or message:RECORD"]);
}

#[test]
fn with_pseudonyms_nobody_is_named() {
    let folder = Folder::new("pseudonyms");
    let (file, id) = recorded_call(&folder);
    let page = folder.path("call.html");
    let ended = replay(&[&file, "--pseudonyms", "--all", "--timeline", &page]).expect(0);
    let steps = format!("{:?}", ended.lines);
    let page = fs::read_to_string(page).unwrap();
    for text in [&steps, &page] {
        assert!(text.contains("peer-1") && text.contains("stream 1") | text.contains("StreamId(1)"));
        for name in [&id, &id[id.len() - 8..], "hall", "127.0.0.1", "12D3KooW"] {
            assert!(!text.contains(name), "{name}");
        }
    }
    let peer = replay(&[&file, "--pseudonyms", "--peer", "peer-2"]).expect(0);
    assert!(inputs(&peer).contains("Identified"));
    let unknown = replay(&[&file, "--pseudonyms", "--peer", "cellar"]).says(1, &["peer-2"]);
    assert!(!unknown.errors.contains(&id));
}
