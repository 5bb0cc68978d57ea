//! Does the page contain the report, for any report?

use std::time::Duration;

use super::*;
use crate::mesh::{Change, Kind};
use crate::report::{Audio, Connections, Joins, Messages, Sample, Span, histogram};

fn plausible() -> Report {
    let latencies: Vec<f64> = (1..4000_u32)
        .map(|i| 18.0 + 60.0 * f64::from(i * 7919 % 997) / 997.0 + if i % 23 == 0 { f64::from(i % 190) } else { 0.0 })
        .collect();
    let degrees: Vec<f64> = (0..50_u32).map(|i| f64::from(6 + i * 31 % 11)).collect();
    let sample = |second: u64| {
        let published = second.saturating_sub(10) * 2;
        let possible = published * 49;
        let behind = if (20..35).contains(&second) { (second - 20) * 40 } else { 0 };
        let up = if (40..50).contains(&second) { 44 } else { second.min(2) * 25 };
        Sample {
            at: second as f64,
            published,
            delivered: possible - behind.min(possible),
            possible,
            up,
            degree_mean: (second as f64 * 1.5).min(10.4),
            degree_max: (second * 2).min(16),
            heard_mean: second.saturating_sub(30) as f64 / 40.0,
            bytes_sent: second * 95_000 + if second > 35 { 700_000 } else { 0 },
        }
    };
    Report {
        scenario: "partition".to_owned(),
        settings: String::new(),
        description: "Half of the mesh loses the other half for a while".to_owned(),
        nodes: 50,
        seed: 7,
        network: "events".to_owned(),
        homes: 0,
        virtual_seconds: 60.0,
        wall_seconds: 4.2,
        peak_memory_bytes: 48_300_000,
        trace: "5b1c0f".repeat(10),
        repro: "cargo sim run partition --nodes 50 --seed 7  # commit 0123abc".to_owned(),
        messages: Messages {
            published: 100,
            possible: 4900,
            delivered: 4893,
            latency_ms: Percentiles::of(latencies.clone()),
            latency_histogram: histogram(&latencies, 40),
            ..Messages::default()
        },
        audio: Audio { calls: 4, sent: 2000, received: 1988, missing: 12, ..Audio::default() },
        connections: Connections {
            degree: Percentiles::of(degrees.clone()),
            opened: 1120,
            dials: 640,
            degree_histogram: histogram(&degrees, 16),
            ..Connections::default()
        },
        joins: Joins { nodes: 1, heard: Percentiles::of(vec![0.75]), ..Joins::default() },
        known_broken: Vec::new(),
        bytes_sent: Percentiles::of(vec![118_000.0, 120_500.0, 131_000.0]),
        timeline: (0..=60).map(sample).collect(),
        troubles: vec![
            Span { from: 20.0, until: 35.0, what: "partition of 25 and 25 nodes (Hold)".to_owned() },
            Span { from: 40.0, until: 50.0, what: "crash of 6 nodes".to_owned() },
            Span { from: 55.0, until: 55.0, what: "leave of 2 nodes".to_owned() },
        ],
        violation: None,
        ..Report::default()
    }
}

fn broken() -> Violation {
    Violation {
        invariant: "a message arrives once".to_owned(),
        at: 41.25,
        detail: "node 3 got message 17 of <node 9> twice & more".to_owned(),
        tail: vec!["41.201 node 9 publishes 17".to_owned(), "41.250 node 3 delivers 17".to_owned()],
    }
}

#[test]
fn the_page_is_complete_in_itself_and_says_what_held() {
    let page = render(&plausible()).unwrap();
    assert!(page.contains("<title>partition: 50 nodes, seed 7</title>"));
    assert!(page.contains("All promises held") && page.contains("4893 of 4900 (99.857 %)"));
    assert_eq!(page.matches("<figure").count(), plots::ALL.len());
    assert!(page.contains("partition of 25 and 25 nodes") && page.contains("# commit 0123abc"));
    for outside in ["<script", "<link", "src=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_broken_promise_stands_on_top_with_its_tail() {
    let page = render(&Report { violation: Some(broken()), ..plausible() }).unwrap();
    let verdict = page.find("Broken: a message arrives once").unwrap();
    assert!(verdict < page.find("Summary").unwrap() && !page.contains("All promises held"));
    assert!(page.contains("at 41.250 s") && page.contains("41.250 node 3 delivers 17"));
}

#[test]
fn what_a_report_says_is_never_markup() {
    let hostile = "<b>&\"'".to_owned();
    let span = Span { from: 1.0, until: 2.0, what: hostile.clone() };
    let report = Report { scenario: hostile, troubles: vec![span], violation: Some(broken()), ..plausible() };
    let page = render(&report).unwrap();
    assert!(!page.contains("<b>") && !page.contains("<node 9>"));
}

#[test]
fn nothing_that_the_script_reads_ends_its_element() {
    let span = Span { from: 1.0, until: 2.0, what: "</script><b>{data}<!--".to_owned() };
    let mut report = Report { troubles: vec![span], violation: Some(broken()), ..plausible() };
    report.mesh.kinds = vec![Kind::Honest, Kind::Hostile];
    report.mesh.changes = vec![(Duration::from_secs(1), Change::Up(1))];
    let page = render(&report).unwrap();
    assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (2, 2));
    assert!(!page.contains("<b>") && !page.contains("<!--") && page.contains("\\u003c/script>"));
    assert!(page.contains("[1000,\"u\",1]"));
}

#[test]
fn an_empty_or_absurd_report_still_makes_a_page() {
    let page = render(&Report::default()).unwrap();
    assert_eq!(page.matches("<figure").count(), 0);
    let mut report = plausible();
    report.virtual_seconds = f64::NAN;
    report.timeline[5].degree_mean = f64::INFINITY;
    report.timeline[6].bytes_sent = u64::MAX;
    report.messages.latency_histogram[3].count = u64::MAX;
    report.troubles = vec![Span { from: 1.0, until: 1e18, what: String::new() }; 1000];
    render(&report).unwrap();
}

#[test]
fn a_long_run_does_not_make_a_long_page() {
    let mut report = plausible();
    report.timeline = (0..86_400_u32).map(|second| Sample { at: second.into(), ..Sample::default() }).collect();
    assert!(render(&report).unwrap().len() < 200_000);
}

#[test]
fn the_dark_has_a_colour_for_each_of_the_light() {
    let page = render(&Report { violation: Some(broken()), ..plausible() }).unwrap();
    let body = page.split_once("<body>").unwrap().1;
    for attribute in ["fill=\"#", "stroke=\"#"] {
        for (at, _) in body.match_indices(attribute) {
            let color = &body[at + attribute.len() - 1..][..7];
            assert!(PALETTE.iter().any(|(light, _)| plots::hex(*light) == color), "{color}");
        }
    }
}
