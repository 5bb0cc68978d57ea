//! What does the shared context cost, whatever devices do?

use std::collections::BTreeMap;

use super::super::{GatewayLimits, SensorValue};
use super::*;

const ALL: &str = "avi.gateway.12D3KooWGateway.device";

/// What the shared context has, and what is left of what was removed, as the values and traces of one author.
#[derive(Default)]
struct Context {
    values: BTreeMap<String, serde_json::Value>,
    traces: std::collections::BTreeSet<String>,
    writes: usize,
}

impl Context {
    fn read(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let (path, value, replaces) = match output {
                Output::SetContext { path, value } => (path, Some(value), false),
                Output::ReplaceContext { path, value } => (path, Some(value), true),
                Output::RemoveContext { path } => (path, None, true),
                _ => continue,
            };
            self.writes += 1;
            if replaces {
                let is_below = |kept: &String| format!("{kept}.").starts_with(&format!("{path}."));
                self.values.retain(|kept, _| !is_below(kept));
                self.traces.retain(|kept| !is_below(kept));
                self.traces.insert(path.clone());
            }
            value.into_iter().for_each(|value| self.put(&path, &value));
        }
    }

    fn put(&mut self, path: &str, value: &serde_json::Value) {
        match value.as_object() {
            Some(map) => map.iter().for_each(|(key, value)| self.put(&format!("{path}.{key}"), value)),
            None => drop(self.values.insert(path.to_owned(), value.clone())),
        }
    }
}

fn sensor(sensor_name: &str) -> Uplink<'_> {
    Uplink::SensorUpdate { sensor_name, data: SensorValue::Battery(1), custom_data: "x" }
}

#[test]
fn who_names_a_device_after_the_other_is_as_slow_as_one_and_fills_nothing() {
    let mut bench = Bench::new(plain_config());
    let mut context = Context::default();
    let (mut published, mut most) = (0, 0);
    bench.hello(at(2), 9);
    context.read(bench.frame(at(2), &sensor("kitchen")));
    for n in 0..60_000_u64 {
        let mut outputs = bench.hello(at(1), 1000 + n);
        for _ in 0..5 {
            outputs.extend(bench.frame(at(1), &Uplink::Publish { topic: "lamp", data: b"" }));
        }
        outputs.extend(bench.pass(Duration::from_millis(10)));
        published += outputs.iter().filter(|output| matches!(output, Output::Publish { .. })).count();
        context.read(outputs);
        most = most.max(context.values.len() + context.traces.len());
        assert!(bench.engine.to_forget.len() <= 64 && bench.engine.ended.len() <= 256);
    }
    assert!(published <= 50 * 600 + 100, "{published} messages in 600 s");
    assert!(bench.engine.stats().sessions_begun <= 10 * 600 + 30, "{}", bench.engine.stats().sessions_begun);
    assert!(context.writes <= 20 * 600 + 40 + 60, "{} writes", context.writes);
    assert!(context.writes > 2000, "{} writes: it has not filled the context", context.writes);
    assert!(most < 512 + 256 + 10, "{most} entries of one author");
    assert!(context.values.contains_key(&format!("{ALL}.9.sensor.kitchen.value")), "others stay");
}

#[test]
fn all_sensors_together_have_a_bound_and_those_beyond_come_when_others_go() {
    let mut bench = Bench::new(plain_config());
    let mut context = Context::default();
    let names: Vec<_> = (0..64).map(|n| format!("s{n}")).collect();
    for host in 1..=4 {
        context.read(bench.hello(at(host), host.into()));
        for name in &names {
            context.read(bench.frame(at(host), &sensor(name)));
        }
        context.read(bench.pass(seconds(10)));
    }
    assert_eq!(context.values.len(), 384 + 4 * 2, "room is left for the names of all devices");
    assert!(bench.engine.stats().context_refused >= 100, "{}", bench.engine.stats().context_refused);
    context.read(bench.frame(at(1), &Uplink::Goodbye));
    context.read(bench.pass(seconds(10)));
    assert_eq!(context.values.len(), 384 + 3 * 2);
    assert!(context.values.keys().any(|path| path.starts_with(&format!("{ALL}.3.sensor."))));
}

#[test]
fn a_sensor_waits_for_no_other_longer_than_its_turn() {
    let limits = GatewayLimits { context_writes_per_second: 2, ..GatewayLimits::default() };
    let mut bench = Bench::new(GatewayConfig { limits, ..plain_config() });
    let mut written = BTreeMap::<String, usize>::new();
    bench.hello(at(1), 1);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for _ in 0..100 {
        for name in names {
            let mut outputs = bench.frame(at(1), &sensor(name));
            outputs.extend(bench.pass(Duration::from_millis(50)));
            for output in outputs {
                if let Output::SetContext { path, .. } = output {
                    *written.entry(path).or_default() += 1;
                }
            }
        }
    }
    // Two a second for 40 s, of eight sensors.
    assert_eq!(written.len(), names.len(), "{written:?}");
    assert!(written.values().all(|count| (9..=12).contains(count)), "{written:?}");
}
