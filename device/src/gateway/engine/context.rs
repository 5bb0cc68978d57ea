//! What does the shared context say of small devices? At most so many writes a second: every node keeps it.

use std::time::Duration;

use serde_json::{Value, json};

use super::session::Mode;
use super::{GatewayEngine, Output, Time};

/// How often one sensor's value is written. The last one always is.
const SENSOR_EVERY: Duration = Duration::from_secs(1);
/// When to go on with what was too much. Values that wait do so to a multiple of it: that many deadlines there are.
const TURN: Duration = Duration::from_millis(100);

impl GatewayEngine {
    /// Where a device is in the shared context.
    fn path(&self, device: u64) -> String {
        format!("avi.gateway.{}.device.{device}", self.node)
    }

    /// Whether one more may be written now. If not, the gateway goes on soon.
    fn may_write(&mut self, time: Time) -> bool {
        let may = self.context_writes.take(1, time.now);
        if !may {
            self.wake_at(time.now.saturating_add(TURN));
        }
        may
    }

    /// The session of a device has ended, which the context has.
    pub(super) fn forget_in_context(&mut self, time: Time, device: u64) {
        self.to_forget.insert(device);
        if self.may_write(time) {
            self.forget(device);
        }
    }

    fn forget(&mut self, device: u64) {
        if self.to_forget.remove(&device) {
            let path = self.path(device);
            self.outputs.push_back(Output::RemoveContext { path });
        }
    }

    /// At the end: whatever it costs.
    pub(super) fn forget_all(&mut self) {
        while let Some(device) = self.to_forget.first().copied() {
            self.forget(device);
        }
    }

    /// A device has a session: the context gets it.
    pub(super) fn name_in_context(&mut self, time: Time, device: u64) {
        if !self.may_write(time) {
            return;
        }
        // What an earlier session said.
        self.forget(device);
        let path = self.path(device);
        let Some(session) = self.sessions.get_mut(device) else { return };
        session.is_named = true;
        let mode = if matches!(session.mode, Mode::Secure(_)) { "secure" } else { "plain" };
        let value = json!({ "mode": mode, "since": time.unix_s });
        self.outputs.push_back(Output::SetContext { path, value });
    }

    /// A sensor has a value that waits: the context gets it, now or when its time has come.
    pub(super) fn write_sensor(&mut self, time: Time, device: u64, name: &str) {
        // A dot would begin a deeper path.
        let path = format!("{}.sensor.{}", self.path(device), name.replace('.', "_"));
        let Some(session) = self.sessions.get_mut(device).filter(|session| session.is_named) else { return };
        let Some(sensor) = session.sensors.get_mut(name).filter(|sensor| sensor.waiting.is_some()) else { return };
        let next_write = sensor.next_write;
        if next_write > time.now {
            return self.wake_at(next_write);
        }
        if !self.may_write(time) {
            return;
        }
        let sensor = self.sessions.get_mut(device).and_then(|session| session.sensors.get_mut(name));
        let Some((sensor, value)) = sensor.and_then(|sensor| sensor.waiting.take().map(|value| (sensor, value))) else {
            return;
        };
        sensor.next_write = next_turn(time.now.saturating_add(SENSOR_EVERY));
        self.outputs.push_back(Output::SetContext { path, value });
    }

    /// Writes what waits and may be written: who is gone, who is new, what sensors say.
    pub(super) fn write_context(&mut self, time: Time) {
        while let Some(device) = self.to_forget.first().copied() {
            if !self.may_write(time) {
                return;
            }
            self.forget(device);
        }
        let unnamed = self.sessions.iter().filter(|(_, session)| !session.is_named);
        for device in unnamed.map(|(device, _)| device).collect::<Vec<_>>() {
            self.name_in_context(time, device);
        }
        let due = self.sessions.iter().flat_map(|(device, session)| {
            let due = session.sensors.iter().filter(|(_, sensor)| sensor.is_due(time.now));
            due.map(move |(name, _)| (device, name.clone()))
        });
        for (device, name) in due.collect::<Vec<_>>() {
            self.write_sensor(time, device, &name);
        }
    }
}

/// The first multiple of a turn that is not before `at`.
fn next_turn(at: Duration) -> Duration {
    let turn_ns = TURN.as_nanos();
    u64::try_from(at.as_nanos().div_ceil(turn_ns) * turn_ns).map_or(at, Duration::from_nanos)
}

/// A sensor's value in the context. An addition that is empty is left out.
pub(super) fn sensor_value(value: &Value, unit: &str, custom_data: &str, unix_s: u64) -> Value {
    let mut entry = json!({ "value": value, "unit": unit, "ts": unix_s });
    if !custom_data.is_empty() {
        entry["custom"] = custom_data.into();
    }
    entry
}
