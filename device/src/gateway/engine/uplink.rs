//! What does a device's frame do?

use serde_json::{Value, json};

use super::context::sensor_value;
use super::session::Sensor;
use super::topics::Need;
use super::{Downlink, ErrorCode, GatewayEngine, Output, PressType, SensorValue, Time, Uplink};

/// The longest topic, reason and name of a peer, in bytes.
const MAX_TEXT_BYTES: usize = 200;
/// The longest name of a sensor, in bytes.
const MAX_SENSOR_BYTES: usize = 64;
/// The topic of contexts of AVI's older nodes: a device must not write them in the gateway's name.
const OLD_CONTEXT_TOPIC: &str = "avi-context-updates";

impl GatewayEngine {
    pub(super) fn handle_uplink(&mut self, time: Time, device: u64, frame: Uplink<'_>) {
        match frame {
            Uplink::Hello { device_id } => self.handle_hello_again(time, device, device_id, false),
            Uplink::HelloExtended { device_id } => self.handle_hello_again(time, device, device_id, true),
            Uplink::Subscribe { topic } => self.subscribe(time, device, topic),
            Uplink::Unsubscribe { topic } => self.unsubscribe(time, device, topic),
            Uplink::Publish { topic, data } => match may_publish(self.id_of(device), topic) {
                true => self.publish(time, device, topic.to_owned(), data.to_vec()),
                false => self.refuse(time, device, ErrorCode::BadName),
            },
            Uplink::StreamStart { local_stream_id, target_peer_id, reason } => {
                self.start_stream(time, device, local_stream_id, target_peer_id, reason);
            }
            Uplink::StreamData { local_stream_id, data } => self.stream_data(time, device, local_stream_id, data),
            Uplink::StreamClose { local_stream_id } => self.close_stream(time, device, local_stream_id),
            Uplink::StreamAccept { local_stream_id } => self.accept_stream(time, device, local_stream_id),
            Uplink::ButtonPress { button_id, press_type, custom_data } => {
                self.button(time, device, button_id, press_type, custom_data);
            }
            Uplink::SensorUpdate { sensor_name, data, custom_data } => {
                self.sensor(time, device, sensor_name, data, custom_data);
            }
            Uplink::Ping { token } => drop(self.send(time, device, &Downlink::Pong { token })),
            Uplink::Goodbye => self.end(time, device),
        }
    }

    /// The number that the device of a session says it has.
    pub(super) fn id_of(&self, device: u64) -> u64 {
        self.sessions.get(device).map_or(device, |session| session.id)
    }

    /// A `Hello` with a session: of this device or another at its address. Within a secure session there is none.
    fn handle_hello_again(&mut self, time: Time, device: u64, says: u64, extended: bool) {
        let session = self.sessions.get(device).map(|session| (session.is_plain(), session.address));
        let id = self.id_of(device);
        match session {
            // Who names another device costs as much as a stranger.
            Some((true, address)) if says == id || self.may_look_at(time, address) => {
                self.handle_hello(time, address, says, extended);
            }
            Some((true, _)) => {}
            _ => {
                self.stats.bad_frames += 1;
                self.tell(time, device, ErrorCode::BadFrame);
            }
        }
    }

    fn subscribe(&mut self, time: Time, device: u64, topic: &str) {
        let Some(session) = self.sessions.get_mut(device) else { return };
        let is_new = !session.subscriptions.contains_key(topic);
        if !is_text(topic, MAX_TEXT_BYTES) || is_reserved(topic) {
            return self.refuse(time, device, ErrorCode::BadName);
        }
        if is_new && session.subscriptions.len() >= self.config.limits.subscriptions as usize {
            return self.refuse(time, device, ErrorCode::TooManySubscriptions);
        }
        if is_new && !session.rates.messages.take(1, time.now) {
            return self.limit(time, device);
        }
        if !self.topics.contains(topic) && self.topics.len() >= self.config.limits.topics as usize {
            match self.topics.make_room() {
                Some(topic) => self.outputs.push_back(Output::Unsubscribe { topic }),
                None => return self.refuse(time, device, ErrorCode::TooManySubscriptions),
            }
        }
        if is_new {
            session.subscriptions.insert(topic.to_owned(), false);
        }
        match self.topics.subscribe(topic, device) {
            Need::Subscribe => self.outputs.push_back(Output::Subscribe { topic: topic.to_owned() }),
            Need::Answer => {}
            Need::Nothing => drop(self.send(time, device, &Downlink::SubscribeAck { topic })),
        }
    }

    /// Ends a subscription of this device alone. One that it has not got is ended already.
    fn unsubscribe(&mut self, time: Time, device: u64, topic: &str) {
        let Some(session) = self.sessions.get_mut(device) else { return };
        if session.subscriptions.remove(topic).is_some() {
            self.topics.unsubscribe(topic, device, time.now);
            self.wake_for_topics();
        }
        self.send(time, device, &Downlink::UnsubscribeAck { topic });
    }

    fn publish(&mut self, time: Time, device: u64, topic: String, data: Vec<u8>) {
        let Some(session) = self.sessions.get_mut(device) else { return };
        if !session.rates.messages.take(1, time.now) {
            return self.limit(time, device);
        }
        self.stats.published += 1;
        self.outputs.push_back(Output::Publish { device, topic, data });
    }

    fn button(&mut self, time: Time, device: u64, button_id: u8, press_type: PressType, custom_data: &str) {
        let press_type = match press_type {
            PressType::Single => "Single",
            PressType::Double => "Double",
            PressType::Long => "Long",
        };
        let payload = json!({ "button_id": button_id, "type": press_type, "data": custom_data, "ts": time.unix_s });
        let id = self.id_of(device);
        self.publish(time, device, format!("device/{id}/button"), payload.to_string().into_bytes());
    }

    fn sensor(&mut self, time: Time, device: u64, name: &str, data: SensorValue, custom_data: &str) {
        let Some((value, unit)) = value_of(data).filter(|_| is_text(name, MAX_SENSOR_BYTES)) else {
            return self.refuse(time, device, ErrorCode::BadName);
        };
        let Some(session) = self.sessions.get_mut(device) else { return };
        if !session.sensors.contains_key(name) && session.sensors.len() >= self.config.limits.sensors as usize {
            return self.refuse(time, device, ErrorCode::TooManySensors);
        }
        if !session.rates.messages.take(1, time.now) {
            return self.limit(time, device);
        }
        let data = json!({ "value": value, "unit": unit, "custom": custom_data });
        let payload = json!({ "name": name, "data": data, "ts": time.unix_s });
        let sensor = session.sensors.entry(name.to_owned());
        let sensor = sensor.or_insert(Sensor { next_write: time.now, written: None, waiting: None });
        sensor.waiting = Some(sensor_value(&value, unit, custom_data, time.unix_s));
        let sensor = self.sessions.get(device).and_then(|session| session.sensors.get(name));
        let has_room = sensor.is_some_and(|sensor| self.has_room_for(sensor));
        self.stats.context_refused += u64::from(!has_room);
        self.stats.published += 1;
        let (topic, data) = (format!("device/{}/sensor/{name}", self.id_of(device)), payload.to_string().into_bytes());
        self.outputs.push_back(Output::Publish { device, topic, data });
        self.write_sensor(time, device, name);
    }
}

/// The value and its unit. `None` if it is no number.
fn value_of(data: SensorValue) -> Option<(Value, &'static str)> {
    // The shortest decimal that is this number, as 21.6: not what it is in double precision.
    let decimal = |value: f32| value.is_finite().then(|| value.to_string().parse::<f64>().ok()).flatten();
    Some(match data {
        SensorValue::Temperature(value) => (json!(decimal(value)?), "C"),
        SensorValue::Humidity(value) => (json!(decimal(value)?), "%"),
        SensorValue::Battery(value) => (json!(value), ""),
        SensorValue::Status(value) => (json!(value), ""),
        SensorValue::Raw(value) => (json!(value), ""),
    })
}

pub(super) fn is_text(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len()) && !text.chars().any(char::is_control)
}

pub(super) fn is_reason(text: &str) -> bool {
    text.is_empty() || is_text(text, MAX_TEXT_BYTES)
}

/// Topics by which nodes speak among themselves.
fn is_reserved(topic: &str) -> bool {
    topic.starts_with("/avi/") || topic == OLD_CONTEXT_TOPIC
}

/// Whether a device may publish there: not where the gateway says what another device's buttons and sensors do.
fn may_publish(device: u64, topic: &str) -> bool {
    let names_another = || {
        let mut parts = topic.split('/');
        let (Some("device"), Some(id), Some("button" | "sensor")) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        id.parse::<u64>().is_ok_and(|id| id != device)
    };
    is_text(topic, MAX_TEXT_BYTES) && !is_reserved(topic) && !names_another()
}
