//! Does `avi doctor` find what is wrong, and nothing where all is well? Networks are namespaces, made and removed by the
//! test.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use common::cable::{Cable, Namespace};
use common::{Ended, Folder, Running, alone, clean, program, run};
use serde_json::Value;

/// `avi doctor` at this host.
fn doctor(cable: &Cable, arguments: &[&str]) -> Ended {
    let mut command = clean(cable.here.command(program()));
    command.args(["--json", "doctor"]).args(arguments);
    run(command)
}

/// The findings of one kind, all of them together as text.
fn findings(ended: &Ended, level: &str, check: &str) -> String {
    let is_it = |line: &&&Value| line["level"] == level && line["check"] == check;
    let found = ended.of("finding");
    let texts: Vec<_> = found.iter().filter(is_it).map(|line| line["what"].as_str().unwrap()).collect();
    texts.join("\n")
}

#[track_caller]
fn has(ended: &Ended, level: &str, check: &str, words: &[&str]) {
    let text = findings(ended, level, check);
    for word in words {
        assert!(text.contains(word), "no {word:?} among {level} {check} in {:#?}", ended.lines);
    }
}

/// What must be done about each problem is said.
#[track_caller]
fn problems(ended: &Ended) -> Vec<&str> {
    let problems: Vec<_> = ended.of("finding").into_iter().filter(|line| line["level"] == "problem").collect();
    assert!(problems.iter().all(|line| line["advice"].is_string()), "{problems:#?}");
    problems.iter().map(|line| line["check"].as_str().unwrap()).collect()
}

#[test]
fn where_all_is_well_no_problem_is_found_and_audio_goes_by_datagrams() {
    let Some(cable) = Cable::new() else { return };
    let (_answer, _) = cable.answer(&["--name", "hall"]);
    let ended = doctor(&cable, &["--peer", "hall"]).expect(0);
    assert_eq!(problems(&ended), [""; 0]);
    has(&ended, "ok", "interfaces", &["eth0 (192.0.2.1", "up, multicast"]);
    has(&ended, "ok", "multicast", &["answered by 192.0.2.2"]);
    has(&ended, "ok", "udp", &["192.0.2.1 on eth0"]);
    has(&ended, "ok", "peers", &["hall ("]);
    has(&ended, "ok", "call", &["hall (", "goes by datagrams", "0 of 2"]);
}

#[test]
fn an_interface_whose_multicast_is_off_is_found() {
    let Some(cable) = Cable::new() else { return };
    cable.here.ip("link set eth0 multicast off");
    let ended = doctor(&cable, &["--wait", "0"]).expect(1);
    assert_eq!(problems(&ended), ["interfaces"]);
    has(&ended, "problem", "interfaces", &["eth0", "without multicast"]);
    let named = doctor(&cable, &["--wait", "0", "--no-mdns"]).expect(0);
    has(&named, "ok", "multicast", &["not needed"]);
}

#[test]
fn a_program_that_keeps_the_port_of_mdns_for_itself_is_found() {
    let Some(cable) = Cable::new() else { return };
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)).unwrap();
    let _holder = cable.here.spawn(bind).unwrap().join().unwrap().unwrap();
    let ended = doctor(&cable, &["--wait", "1s"]).expect(1);
    has(&ended, "problem", "multicast", &["5353", &format!("process {} (", std::process::id())]);
    has(&ended, "problem", "discovery", &["Mdns", "in use"]);
}

/// As a firewall does it, with the rules of routing, which every kernel has.
fn drop_datagrams_from_the_cable(host: &Namespace) {
    host.ip("rule add pref 10 lookup local");
    host.ip("rule add pref 5 iif eth0 ipproto udp blackhole");
    host.ip("rule del pref 0");
}

#[test]
fn datagrams_that_may_not_leave_are_found_and_so_is_what_audio_does_then() {
    let Some(cable) = Cable::new() else { return };
    let (_answer, address) = cable.answer(&[]);
    cable.here.ip("rule add pref 10 ipproto udp blackhole");
    let ended = doctor(&cable, &["--no-mdns", "--peer", &address]).expect(1);
    has(&ended, "problem", "udp", &["192.0.2.2:9000"]);
    has(&ended, "problem", "call", &["over TCP, not by datagrams"]);
    assert_eq!(problems(&ended), ["udp", "call"]);
}

#[test]
fn datagrams_that_the_other_host_drops_are_found_by_a_call() {
    let Some(cable) = Cable::new() else { return };
    let (_answer, address) = cable.answer(&[]);
    drop_datagrams_from_the_cable(&cable.there);
    let ended = doctor(&cable, &["--no-mdns", "--peer", &address]).expect(1);
    assert_eq!(problems(&ended), ["call"], "{:#?}", ended.lines);
    has(&ended, "problem", "call", &["over TCP, not by datagrams", "0 of 2"]);
}

#[test]
fn datagrams_that_this_host_drops_are_found_by_a_call() {
    let Some(cable) = Cable::new() else { return };
    let (_answer, address) = cable.answer(&[]);
    drop_datagrams_from_the_cable(&cable.here);
    let ended = doctor(&cable, &["--no-mdns", "--peer", &address]).expect(1);
    assert_eq!(problems(&ended), ["call"], "{:#?}", ended.lines);
    has(&ended, "problem", "call", &["none comes back", "over TCP", "0 of 2"]);
}

#[test]
fn a_second_node_with_the_same_identity_is_found() {
    let Some(cable) = Cable::new() else { return };
    let folder = Folder::new("identity");
    let (ours, theirs) = (folder.path("ours.key"), folder.path("theirs.key"));
    let (first, address) = cable.answer(&["--identity", &theirs]);
    // As the image of a disk is copied to another device.
    fs::copy(&theirs, &ours).unwrap();
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o600)).unwrap();
    let ended = doctor(&cable, &["--no-mdns", "--identity", &ours, "--connect", &address]).expect(1);
    has(&ended, "problem", "identity", &["192.0.2.2", "has this node's identity"]);
    // Nobody dials it: it is heard by mDNS alone.
    let ended = doctor(&cable, &["--identity", &ours, "--wait", "0"]).expect(1);
    has(&ended, "problem", "identity", &["192.0.2.2", "announces", "this node's identity"]);
    drop(first);
}

#[test]
fn a_host_without_a_network_and_a_peer_that_is_not_there_are_problems() {
    let Some(cable) = Cable::new() else { return };
    let there = ["--no-mdns", "--wait", "3s", "--connect", "/ip4/192.0.2.2/tcp/9000"];
    let ended = doctor(&cable, &there).expect(1);
    has(&ended, "problem", "bootstrap", &["/ip4/192.0.2.2/tcp/9000", "refused"]);
    assert_eq!(problems(&ended), ["bootstrap"]);
    cable.here.ip("link set eth0 down");
    let ended = doctor(&cable, &["--wait", "0"]).expect(1);
    has(&ended, "problem", "interfaces", &["none but loopback"]);
    has(&ended, "ok", "interfaces", &["eth0 is down"]);
}

#[test]
fn a_port_that_another_program_has_is_found_with_its_process() {
    let answer = Running::start(alone(&["answer"]));
    let (address, _) = answer.listens("answering");
    let port = address.rsplit('/').next().unwrap();
    let mut doctor = alone(&["doctor", "--wait", "0"]);
    doctor.args(["--listen", &format!("127.0.0.1:{port}")]);
    let ended = run(doctor).expect(1);
    has(&ended, "problem", "port", &[&format!("127.0.0.1:{port}"), &format!("process {} (avi)", answer.child.id())]);
}

#[test]
fn a_node_that_runs_here_with_the_identity_keeps_it() {
    let folder = Folder::new("kept");
    let key = folder.path("node.key");
    let answer = Running::start(alone(&["answer", "--identity", &key]));
    let (address, id) = answer.listens("answering");
    let ended = run(alone(&["doctor", "--identity", &key, "--connect", &address]));
    has(&ended, "note", "identity", &[&key, "looks with another identity"]);
    has(&ended, "ok", "peers", &[&id]);
}
