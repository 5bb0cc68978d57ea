//! Does the page of a report work in a browser? It is opened in a headless one: Debian's `chromium`, or `google-chrome`.
//! Without one, these tests say that they are skipped, unless `AVI_CHROMIUM=required`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long Chromium may take for a page, with other work on the machine.
const WITHIN: Duration = Duration::from_secs(120);

fn browser() -> Option<&'static str> {
    let runs = |program: &&str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(runs);
    if found.is_none() {
        let is_required = env::var_os("AVI_CHROMIUM").is_some_and(|value| value == "required");
        assert!(!is_required, "AVI_CHROMIUM=required, and there is no chromium: install Debian's package `chromium`");
        eprintln!("SKIPPED: there is no chromium: install Debian's package `chromium`");
    }
    found
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}"))
}

/// The page of a run.
fn page(name: &str, arguments: &[&str]) -> PathBuf {
    let file = place(&format!("{name}.html"));
    let output =
        Command::new(env!("CARGO_BIN_EXE_avi-sim")).arg("run").args(arguments).arg("--report").arg(&file).output();
    let output = output.unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

/// The document after its scripts have run for some seconds of its time, and what it has written to the console.
fn opened(browser: &str, name: &str, file: &Path, hash: &str) -> (String, Vec<String>) {
    let profile = place(&format!("{name}-profile"));
    let mut command = Command::new(browser);
    // As root, in a container, Chromium has no sandbox. It opens a file of these tests alone.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.args(["--virtual-time-budget=4000", "--dump-dom"]).arg(format!("file://{}{hash}", file.display()));
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(command.output()));
    let output = told.recv_timeout(WITHIN).expect("chromium ends in time").unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(dom.contains("</html>"), "{log}");
    (dom, log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect())
}

/// An attribute of the element with this id.
fn attribute<'a>(dom: &'a str, id: &str, name: &str) -> &'a str {
    let element = dom.split_once(&format!("id=\"{id}\"")).unwrap().1.split_once('>').unwrap().0;
    element.split_once(&format!(" {name}=\"")).map_or("", |(_, rest)| rest.split_once('"').unwrap().0)
}

fn text<'a>(dom: &'a str, id: &str) -> &'a str {
    let element = dom.split_once(&format!("id=\"{id}\"")).unwrap().1.split_once('>').unwrap().1;
    element.split_once('<').unwrap().0
}

fn circles(dom: &str, class: &str) -> usize {
    let nodes = dom.split_once("id=\"mesh-nodes\"").unwrap().1.split_once("</g>").unwrap().0;
    nodes.matches(&format!("class=\"{class} ")).count()
}

const FAULTS: &str = r#"
seconds = 50

[calls]
seconds = 20
list = [{ at = 12, node = 3 }]

[[faults]]
kind = "partition"
from = 20
until = 25
nodes = [0, 1, 2, 3]

[[faults]]
kind = "crash"
at = 30
nodes = [5, 6]
restart_at = 45
"#;

fn faults() -> PathBuf {
    let scenario = place("faults.toml");
    fs::write(&scenario, FAULTS).unwrap();
    page("faults", &[scenario.to_str().unwrap(), "--nodes", "12", "--seed", "3"])
}

#[test]
fn the_picture_shows_the_mesh_at_the_time_of_the_slider() {
    let Some(browser) = browser() else { return };
    let file = faults();
    let at = |time: &str| {
        let (dom, console) = opened(browser, &format!("at-{time}"), &file, &format!("#t={time}"));
        assert!(console.is_empty(), "{console:?}");
        dom
    };
    let start = at("0");
    assert_eq!((circles(&start, "absent"), attribute(&start, "mesh-links", "d")), (11, ""));
    assert!(text(&start, "mesh-now").starts_with("0.00 s: 1 of 12 nodes is up"), "{}", text(&start, "mesh-now"));
    let calm = at("15");
    assert_eq!((circles(&calm, "up"), attribute(&calm, "mesh-severed", "d")), (12, ""));
    assert!(text(&calm, "mesh-now").contains("12 of 12 nodes are up") && text(&calm, "mesh-now").contains("1 call"));
    assert!(
        attribute(&calm, "mesh-links", "d").starts_with('M') && attribute(&calm, "mesh-calls", "d").starts_with('M')
    );
    let cut = at("22");
    assert!(
        attribute(&cut, "mesh-severed", "d").starts_with('M') && attribute(&cut, "mesh-sides", "d").starts_with('M')
    );
    assert!(text(&cut, "mesh-now").contains("partition of 4 and 8 nodes"), "{}", text(&cut, "mesh-now"));
    let dark = at("31");
    assert_eq!((circles(&dark, "crashed"), circles(&dark, "up")), (2, 10));
    // Nobody has noticed yet: the others believe in their connections.
    assert!(attribute(&dark, "mesh-halves", "d").starts_with('M'));
    assert!(dark.contains("30.00 s node 5 loses power"));
    assert_eq!(circles(&at("48"), "up"), 12);
}

#[test]
fn the_slider_the_buttons_and_the_choice_of_a_node_change_the_picture() {
    let Some(browser) = browser() else { return };
    let page = fs::read_to_string(faults()).unwrap();
    let done = |name: &str, script: &str| {
        let file = place(&format!("{name}.html"));
        let script =
            format!("<script>const $ = (name) => document.getElementById('mesh-' + name);\n{script}</script></body>");
        fs::write(&file, page.replace("</body>", &script)).unwrap();
        let (dom, console) = opened(browser, name, &file, "#t=15");
        assert!(console.is_empty(), "{console:?}");
        dom
    };
    let moved = done("moved", "$('time').value = 22; $('time').dispatchEvent(new Event('input'));");
    assert!(
        text(&moved, "mesh-now").starts_with("22.00 s: ") && attribute(&moved, "mesh-severed", "d").starts_with('M')
    );
    let stepped = done("stepped", "$('after').click();");
    assert!(text(&stepped, "mesh-now").starts_with("20.00 s: "), "{}", text(&stepped, "mesh-now"));
    let back = done("back", "$('after').click(); $('after').click(); $('before').click();");
    assert!(text(&back, "mesh-now").starts_with("20.00 s: "), "{}", text(&back, "mesh-now"));
    let chosen = done("chosen", "$('node').value = '3'; $('node').dispatchEvent(new Event('change'));");
    assert!(attribute(&chosen, "mesh-focus", "d").starts_with('M'));
    assert!(text(&chosen, "mesh-about").starts_with("node 3: up, "), "{}", text(&chosen, "mesh-about"));
    // Four seconds of its time at twenty times the speed are more than the rest of the run.
    let played = done("played", "$('speed').value = '20'; $('play').click();");
    assert!(text(&played, "mesh-now").starts_with("50.00 s: "), "{}", text(&played, "mesh-now"));
    assert_eq!(text(&played, "mesh-play"), "Play");
}

#[test]
fn a_mistake_in_a_script_would_be_noticed() {
    let Some(browser) = browser() else { return };
    let file = place("mistake.html");
    fs::write(&file, "<!DOCTYPE html><html><body><script>undefined_function();</script></body></html>").unwrap();
    let (_, console) = opened(browser, "mistake", &file, "");
    assert!(console.iter().any(|line| line.contains("undefined_function")), "{console:?}");
}

#[test]
fn the_page_of_two_hundred_nodes_is_light_and_loads_nothing() {
    let page =
        fs::read_to_string(page("many", &["chaos_plain", "--nodes", "200", "--seed", "3", "--seconds", "75"])).unwrap();
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(page.contains("id=\"mesh-data\"") && !page.contains(" src=") && !page.contains("url("));
    // The only address is the name of the namespace that the script makes its elements in, and that of the plots.
    let addresses = page.split("http").skip(1).filter(|rest| !rest.starts_with("://www.w3.org/2000/svg"));
    assert_eq!(addresses.count(), 0);
}
