//! One event as one line of JSON. Owns the members' order; refuses to decide whether it is written.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tp_actors::tp_core::time::Time;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

/// The event's line, with its line feed.
pub(super) fn of_event(event: &Event<'_>) -> Vec<u8> {
    let mut fields = Fields(Map::new());
    event.record(&mut fields);
    let message = fields.0.shift_remove("message").unwrap_or_default();
    finish(event.metadata(), message, fields.0)
}

/// Says that lines of that place were left out.
pub(super) fn suppressed(metadata: &Metadata<'_>, count: u64) -> Vec<u8> {
    let mut fields = Map::new();
    fields.insert("suppressed".into(), count.into());
    if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
        fields.insert("place".into(), format!("{file}:{line}").into());
    }
    finish(metadata, "lines like the next one were left out".into(), fields)
}

fn finish(metadata: &Metadata<'_>, message: Value, fields: Map<String, Value>) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("time".into(), now().to_string().into());
    object.insert("level".into(), metadata.level().as_str().to_ascii_lowercase().into());
    object.insert("target".into(), metadata.target().into());
    object.insert("message".into(), message);
    for (name, value) in fields {
        object.entry(name).or_insert(value);
    }
    let mut line = serde_json::to_vec(&object).expect("texts and numbers");
    line.push(b'\n');
    line
}

/// The wall clock: engine time is for money.
fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(0).plus_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, value.to_string());
    }
    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, value.to_string());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}
