//! What does the shared context say of small devices? At most so many writes a second: every node keeps it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::session::{NAME_VALUES, SENSOR_VALUES, Sensor, Session};
use super::{GatewayEngine, Output, Time};

/// How often one sensor's value is written. The last one always is.
const SENSOR_EVERY: Duration = Duration::from_secs(1);
/// When to go on with what was too much. Values that wait do so to a multiple of it: that many deadlines there are.
const TURN: Duration = Duration::from_millis(100);
/// After so many removals all devices are written at once. An author may by default have 1,024 values and removals.
const FORGOTTEN: usize = 256;

impl GatewayEngine {
    fn all_devices(&self) -> String {
        format!("avi.gateway.{}.device", self.node)
    }

    /// Where a device is in the shared context.
    fn path(&self, device: u64) -> String {
        format!("{}.{device}", self.all_devices())
    }

    /// Whether one more may be written now. If not, the gateway goes on soon.
    fn may_write(&mut self, time: Time) -> bool {
        let may = self.context_writes.take(1, time.now);
        if !may {
            self.fall_behind(time);
        }
        may
    }

    fn fall_behind(&mut self, time: Time) {
        self.is_behind = true;
        self.wake_at(time.now.saturating_add(TURN));
    }

    /// A session has ended. What the context has of its device is another one's of the same number now, or goes.
    pub(super) fn leave_context(&mut self, time: Time, session: Session) {
        self.context_values -= session.context_values();
        let (id, was_named) = (session.id, session.named.is_some());
        let Some(heir) = self.sessions.of(id).and_then(|key| self.sessions.get_mut(key)) else {
            if was_named {
                self.forget_in_context(time, id);
            }
            return;
        };
        let before = heir.context_values();
        heir.named = heir.named.take().or(session.named);
        for (name, sensor) in session.sensors {
            let Some(written) = sensor.written else { continue };
            let next_write = sensor.next_write;
            let heirs = heir.sensors.entry(name).or_insert(Sensor { next_write, written: None, waiting: None });
            heirs.written.get_or_insert(written);
        }
        self.context_values += heir.context_values() - before;
    }

    /// The session of a device has ended, which the context has. Nobody is named before those are removed who wait for
    /// that: so they are never more than there may be sessions.
    fn forget_in_context(&mut self, time: Time, device: u64) {
        self.to_forget.insert(device);
        if !self.is_behind && self.may_write(time) {
            self.forget(device);
        }
        // There is room for what did not fit.
        let waits = |session: &Session| {
            session.named.is_none() || session.sensors.values().any(|sensor| sensor.waiting.is_some())
        };
        if self.sessions.iter().any(|(_, session)| waits(session)) {
            self.fall_behind(time);
        }
    }

    fn forget(&mut self, device: u64) {
        if self.to_forget.remove(&device) {
            let path = self.path(device);
            self.outputs.push_back(Output::RemoveContext { path });
            self.forgotten += 1;
        }
        if self.forgotten >= FORGOTTEN {
            self.write_all();
        }
    }

    /// What is removed leaves a trace in every node. One write of all devices takes the place of all traces.
    fn write_all(&mut self) {
        self.forgotten = 0;
        self.to_forget.clear();
        let path = self.all_devices();
        let mut named = Map::<String, Value>::new();
        for (_, session) in self.sessions.iter() {
            let Some(value) = &session.named else { continue };
            let device = named.entry(session.id.to_string()).or_insert_with(|| value.clone());
            for (name, sensor) in &session.sensors {
                if let Some(written) = &sensor.written {
                    device["sensor"][key_of(name)] = written.clone();
                }
            }
        }
        self.outputs.push_back(match named.is_empty() {
            true => Output::RemoveContext { path },
            false => Output::ReplaceContext { path, value: Value::Object(named) },
        });
    }

    /// At the end: whatever it costs.
    pub(super) fn forget_all(&mut self) {
        while let Some(device) = self.to_forget.first().copied() {
            self.forget(device);
        }
    }

    /// A device has a session: the context gets it.
    pub(super) fn name_in_context(&mut self, time: Time, device: u64) {
        let most = self.config.limits.context_values as usize;
        if self.is_behind || self.context_values + NAME_VALUES > most || !self.may_write(time) {
            return;
        }
        let path = self.path(self.id_of(device));
        let Some(session) = self.sessions.get_mut(device) else { return };
        let mode = if session.is_plain() { "plain" } else { "secure" };
        let value = json!({ "mode": mode, "since": time.unix_s });
        session.named = Some(value.clone());
        self.context_values += NAME_VALUES;
        self.outputs.push_back(Output::SetContext { path, value });
    }

    /// Whether the context has room for a sensor: it has been there, or leaves room for the names of devices.
    pub(super) fn has_room_for(&self, sensor: &Sensor) -> bool {
        let (most, names) = (self.config.limits.context_values as usize, self.config.limits.sessions as usize);
        let for_sensors = most - (names * NAME_VALUES).min(most / 2);
        let named = self.sessions.iter().filter(|(_, session)| session.named.is_some()).count();
        let of_sensors = self.context_values - named * NAME_VALUES;
        sensor.written.is_some() || of_sensors + SENSOR_VALUES <= for_sensors
    }

    /// A sensor has a value that waits: the context gets it, now or when its time has come.
    pub(super) fn write_sensor(&mut self, time: Time, device: u64, name: &str) {
        let path = format!("{}.sensor.{}", self.path(self.id_of(device)), key_of(name));
        let Some(session) = self.sessions.get(device).filter(|session| session.named.is_some()) else { return };
        let Some(sensor) = session.sensors.get(name).filter(|sensor| sensor.waiting.is_some()) else { return };
        let next_write = sensor.next_write;
        if next_write > time.now {
            return self.wake_at(next_write);
        }
        if self.is_behind || !self.has_room_for(sensor) || !self.may_write(time) {
            return;
        }
        let sensor = self.sessions.get_mut(device).and_then(|session| session.sensors.get_mut(name));
        let Some((sensor, value)) = sensor.and_then(|sensor| sensor.waiting.take().map(|value| (sensor, value))) else {
            return;
        };
        sensor.next_write = next_turn(time.now.saturating_add(SENSOR_EVERY));
        if sensor.written.replace(value.clone()).is_none() {
            self.context_values += SENSOR_VALUES;
        }
        self.outputs.push_back(Output::SetContext { path, value });
    }

    /// Writes what waits and may be written: who is gone, who is new, what sensors say, those first whose turn is next.
    pub(super) fn write_context(&mut self, time: Time) {
        self.is_behind = false;
        while let Some(device) = self.to_forget.first().copied() {
            if !self.may_write(time) {
                return;
            }
            self.forget(device);
        }
        let unnamed = self.sessions.iter().filter(|(_, session)| session.named.is_none());
        for device in unnamed.map(|(device, _)| device).collect::<Vec<_>>() {
            self.name_in_context(time, device);
        }
        let due = self.sessions.iter().flat_map(|(device, session)| {
            let due = session.sensors.iter().filter(|(_, sensor)| sensor.is_due(time.now));
            due.map(move |(name, _)| (device, name.clone()))
        });
        let mut due = due.collect::<Vec<_>>();
        let next = due.partition_point(|sensor| *sensor <= self.last_written);
        due.rotate_left(next);
        for (device, name) in due {
            self.write_sensor(time, device, &name);
            if self.is_behind {
                return;
            }
            self.last_written = (device, name);
        }
    }
}

/// A name as a key: a dot would begin a deeper path.
fn key_of(name: &str) -> String {
    name.replace('.', "_")
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
