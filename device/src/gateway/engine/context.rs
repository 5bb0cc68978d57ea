//! What does the shared context say of small devices? At most so many writes a second: every node keeps it.

use std::time::Duration;

use serde_json::{Value, json};

use super::session::Mode;
use super::{GatewayEngine, Output, Time};

/// How often one sensor's value is written. The last one always is.
const SENSOR_EVERY: Duration = Duration::from_secs(1);
/// When to go on with what was too much.
const AGAIN: Duration = Duration::from_millis(100);

impl GatewayEngine {
    /// Where a device is in the shared context.
    fn path(&self, device: u64) -> String {
        format!("avi.gateway.{}.device.{device}", self.node)
    }

    /// The session of a device has ended.
    pub(super) fn forget_in_context(&mut self, device: u64, was_named: bool) {
        if was_named {
            self.to_forget.insert(device);
        }
    }

    /// Writes what has changed, in turn: who is gone, who is new, what sensors say.
    pub(super) fn write_context(&mut self, time: Time) {
        let is_done = self.forget(time) && self.name_new(time) && self.write_sensors(time);
        if !is_done {
            self.wake_at(time.now.saturating_add(AGAIN));
        }
    }

    fn forget(&mut self, time: Time) -> bool {
        while let Some(device) = self.to_forget.first().copied() {
            if !self.context_writes.take(1, time.now) {
                return false;
            }
            self.forget_now(device);
        }
        true
    }

    fn forget_now(&mut self, device: u64) {
        self.to_forget.remove(&device);
        let path = self.path(device);
        self.outputs.push_back(Output::RemoveContext { path });
    }

    /// At the end: whatever it costs.
    pub(super) fn forget_all(&mut self) {
        while let Some(device) = self.to_forget.first().copied() {
            self.forget_now(device);
        }
    }

    fn name_new(&mut self, time: Time) -> bool {
        let unnamed = self.sessions.iter().filter(|(_, session)| !session.is_named);
        for device in unnamed.map(|(device, _)| device).collect::<Vec<_>>() {
            if !self.context_writes.take(1, time.now) {
                return false;
            }
            let path = self.path(device);
            let Some(session) = self.sessions.get_mut(device) else { continue };
            session.is_named = true;
            let mode = if matches!(session.mode, Mode::Secure(_)) { "secure" } else { "plain" };
            let value = json!({ "mode": mode, "since": time.unix_s });
            self.outputs.push_back(Output::SetContext { path, value });
        }
        true
    }

    fn write_sensors(&mut self, time: Time) -> bool {
        let now = time.now;
        let node = &self.node;
        for (device, session) in self.sessions.iter_mut() {
            let due = session.sensors.iter_mut().filter(|(_, sensor)| sensor.is_due(now));
            for (name, sensor) in due {
                if !self.context_writes.take(1, now) {
                    return false;
                }
                let Some(value) = sensor.waiting.take() else { continue };
                sensor.next_write = now.saturating_add(SENSOR_EVERY);
                // A full stop would begin a deeper path.
                let name = name.replace('.', "_");
                let path = format!("avi.gateway.{node}.device.{device}.sensor.{name}");
                self.outputs.push_back(Output::SetContext { path, value });
            }
        }
        true
    }
}

/// A sensor's value in the context. An addition that is empty is left out.
pub(super) fn sensor_value(value: &Value, unit: &str, custom_data: &str, unix_s: u64) -> Value {
    let mut entry = json!({ "value": value, "unit": unit, "ts": unix_s });
    if !custom_data.is_empty() {
        entry["custom"] = custom_data.into();
    }
    entry
}
