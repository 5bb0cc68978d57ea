//! Do the commands of the README do what it says?
#![cfg(unix)]

mod common;

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use common::{Folder, WITHIN, clean, program};

const README: &str = include_str!("../README.md");

/// The programs of the README, each with the line before it.
fn blocks() -> Vec<&'static str> {
    let blocks = README.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|block| block.contains("avi ") && !block.contains("cargo install")).collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn every_block_of_the_readme_runs() {
    let folder = Folder::new("readme");
    // What runs on the machine of the test has no part in it.
    let config = folder.file("avi.toml", "enable_mdns = false\n");
    let path = format!("{}:{}", program().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let blocks = blocks();
    assert!(blocks.len() >= 7, "{}", blocks.len());
    for block in blocks {
        let script = block.replace("9001", &free_port().to_string());
        let mut bash = clean(Command::new("bash"));
        bash.args(["-euo", "pipefail", "-c", &script]).env("PATH", &path).env("AVI_CONFIG", &config);
        let mut child = bash.current_dir(&folder.0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            // It closes when all of its processes have ended.
            let _ = stderr.read_to_string(&mut text);
            let _ = sender.send(text);
        });
        let errors = ended.recv_timeout(WITHIN).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("it runs on:\n{script}")
        });
        assert!(child.wait().unwrap().success(), "{script}\n{errors}");
    }
}
