//! How do entries look as JSON, and JSON as entries?

use serde_json::{Map, Value};

use super::entry::{MAX_VALUE_BYTES, Op, is_leaf};
use super::path::Path;
use super::store::Store;
use crate::error::AviP2pError;

/// The values of a JSON value at a path. A key of an object is a path of its own; an array is one value.
///
/// # Errors
/// [`AviP2pError::InvalidContextPath`] for keys that cannot be in a path; [`AviP2pError::PayloadTooLarge`] for a value that
/// is too long; [`AviP2pError::InvalidContextValue`] for one that is nested too deep.
pub(crate) fn leaves(path: &Path, value: &Value) -> Result<Vec<(Path, Op)>, AviP2pError> {
    let mut leaves = Vec::new();
    collect(path, value, &mut leaves)?;
    Ok(leaves)
}

fn collect(path: &Path, value: &Value, leaves: &mut Vec<(Path, Op)>) -> Result<(), AviP2pError> {
    match value {
        Value::Object(map) if map.is_empty() => leaves.push((path.clone(), Op::Object)),
        Value::Object(map) => {
            for (key, value) in map {
                // Its depth is bounded, and with it this recursion.
                let child = path.child(key).map_err(|expected| {
                    invalid_path(format!("{}.{key}", path.as_str()).trim_start_matches('.'), expected)
                })?;
                collect(&child, value, leaves)?;
            }
        }
        value => leaves.push((path.clone(), Op::Value(encoded(path, value)?.into()))),
    }
    Ok(())
}

fn encoded(path: &Path, value: &Value) -> Result<Vec<u8>, AviP2pError> {
    let refused = |expected: &str| AviP2pError::InvalidContextValue {
        path: path.as_str().to_owned(),
        expected: expected.to_owned(),
    };
    if path.is_root() {
        return Err(refused("an object, since the whole context is one"));
    }
    let json = serde_json::to_vec(value).map_err(|error| refused(&format!("JSON: {error}")))?;
    if json.len() > MAX_VALUE_BYTES {
        let limit = "the bytes of one value of the context as JSON";
        return Err(AviP2pError::PayloadTooLarge { len: json.len(), max: MAX_VALUE_BYTES, limit });
    }
    // What it cannot read back, others cannot read either.
    if is_leaf(&json) { Ok(json) } else { Err(refused("arrays nested less than 128 deep")) }
}

pub(crate) fn invalid_path(text: &str, expected: &str) -> AviP2pError {
    let path = text.chars().take(80).collect();
    AviP2pError::InvalidContextPath { path, expected: expected.to_owned() }
}

/// What is at a path. A path is an object if anything is below it, and else has its own value.
pub(crate) fn value_at(store: &Store, path: &Path) -> Option<Value> {
    // The value is at the empty key of this.
    let mut holder = Map::new();
    for (at, slot) in store.slots_under(path.as_str()) {
        let Some(shown) = slot.shown() else { continue };
        let below = at.as_str().get(path.as_str().len()..).unwrap_or_default();
        let segments: Vec<_> = below.split('.').filter(|segment| !segment.is_empty()).collect();
        let value = match &shown.op {
            Op::Value(json) => serde_json::from_slice(json).unwrap_or_default(),
            Op::Object | Op::Removed => Value::Object(Map::new()),
        };
        insert(&mut holder, "", &segments, value);
    }
    holder.remove("")
}

/// Puts a value where these keys lead. What is on the way becomes an object.
fn insert(map: &mut Map<String, Value>, key: &str, keys: &[&str], value: Value) {
    let place = map.entry(key).or_insert(Value::Null);
    let Some((next, rest)) = keys.split_first() else {
        *place = value;
        return;
    };
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    if let Value::Object(below) = place {
        insert(below, next, rest, value);
    }
}
