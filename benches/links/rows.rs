//! How do the sides compare? A table, and the same as JSON.

use serde_json::{Value, json};

use crate::options::Options;
use crate::trial::{Heard, Row};

#[derive(Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that it is there: the table comes at the end.
    pub fn add(&mut self, row: Row) {
        eprintln!("{}", cells(&row));
        self.0.push(row);
    }

    pub fn print(&self) {
        println!(
            "\nMilliseconds; `emulator` is how late it handed packets over itself.\n\n\
             | profile | side | p50 | p99 | max | frames missing | late | messages | emulator p99 | max | |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"
        );
        self.0.iter().for_each(|row| println!("{}", cells(row)));
    }

    pub fn without_a_call(&self) -> Vec<String> {
        let why = |row: &Row| Some(format!("{}, {}: {}", row.profile, row.side, row.call.as_ref().err()?));
        self.0.iter().filter_map(why).collect()
    }

    pub fn json(&self, options: &Options) -> String {
        let rows: Vec<Value> = self.0.iter().map(row_json).collect();
        let seconds = options.length.as_secs();
        format!(
            "{:#}\n",
            json!({ "seconds": seconds, "frame_bytes": options.frame_bytes, "seed": options.seed, "rows": rows })
        )
    }
}

fn cells(row: &Row) -> String {
    let ms = |duration: std::time::Duration| format!("{:.2}", duration.as_secs_f64() * 1000.0);
    let call = match &row.call {
        Ok(heard) => heard_cells(row, heard),
        Err(_) => "| | | | | |".to_owned(),
    };
    let note = match &row.call {
        Ok(heard) => heard.ended.as_ref().map(|reason| format!("the call ended {reason}")).unwrap_or_default(),
        Err(reason) => format!("no call: {reason}"),
    };
    let Row { profile, side, emulator, .. } = row;
    format!("| {profile} | {side} {call} {} | {} | {note} |", ms(emulator.p99), ms(emulator.max))
}

fn heard_cells(row: &Row, heard: &Heard) -> String {
    let Heard { frames, late, messages, p50_ms, p99_ms, max_ms, .. } = heard;
    let missing = row.expected_frames.saturating_sub(*frames);
    let part = |count: u64| format!("{count} ({:.1} %)", 100.0 * count as f64 / row.expected_frames.max(1) as f64);
    let (missing, late) = (part(missing), part(*late));
    let ages = if *frames > 0 { format!("{p50_ms:.1} | {p99_ms:.1} | {max_ms:.1}") } else { "| |".to_owned() };
    format!("| {ages} | {missing} | {late} | {messages} of {} |", row.expected_messages)
}

fn row_json(row: &Row) -> Value {
    let us = |duration: std::time::Duration| duration.as_micros() as u64;
    let call = match &row.call {
        Ok(heard) => json!({
            "p50_ms": heard.p50_ms,
            "p99_ms": heard.p99_ms,
            "max_ms": heard.max_ms,
            "frames": heard.frames,
            "missing": row.expected_frames.saturating_sub(heard.frames),
            "late": heard.late,
            "messages": heard.messages,
            "ended": heard.ended,
        }),
        Err(reason) => json!({ "failed": reason }),
    };
    json!({
        "profile": row.profile,
        "side": row.side,
        "expected_frames": row.expected_frames,
        "expected_messages": row.expected_messages,
        "call": call,
        "packets": row.packets,
        "packets_lost": row.packets_lost,
        "emulator_late_us": { "p50": us(row.emulator.p50), "p99": us(row.emulator.p99), "max": us(row.emulator.max) },
    })
}
