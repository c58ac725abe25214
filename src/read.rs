// pure
//! Objects as the API server sends them, whatever nests in them. Where anything goes (`spec.config`, and what
//! `managedFields` tells of it) the API server takes thousands of levels; the JSON library reads 127. One object that
//! can't be read would end the list of all, so what is too deep is cut off here, and judged in `channel/plan.rs`.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::watcher::Event;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The most levels that are read of an object: more than any judge of its content lets through.
const LEVELS: usize = 100;

/// An object as it can be read.
#[derive(Clone, Debug)]
pub struct Read<K>(pub K);

/// `{` and `[` below this many levels become `null`.
fn cut(json: &str, levels: usize) -> String {
    let mut whole = String::with_capacity(json.len());
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    // What is kept is copied in runs: from here on.
    let mut run = 0;
    for (at, byte) in json.bytes().enumerate() {
        if quoted {
            (quoted, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => {
                depth += 1;
                if depth == levels + 1 {
                    whole.push_str(json.get(run..at).unwrap_or_default());
                    whole.push_str("null");
                }
            }
            b'}' | b']' => {
                if depth == levels + 1 {
                    run = at + 1;
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    whole.push_str(json.get(run..).unwrap_or_default());
    whole
}

/// The event about the object itself.
pub fn opened<K>(event: Event<Read<K>>) -> Event<K> {
    match event {
        Event::Apply(Read(object)) => Event::Apply(object),
        Event::Delete(Read(object)) => Event::Delete(object),
        Event::InitApply(Read(object)) => Event::InitApply(object),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

// === impl Read ===

impl<'de, K: DeserializeOwned> Deserialize<'de> for Read<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let read =
            serde_json::from_str(json.get()).or_else(|_| serde_json::from_str(&cut(json.get(), LEVELS)));
        read.map(Self).map_err(D::Error::custom)
    }
}

impl<K: Serialize> Serialize for Read<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<K: Resource> Resource for Read<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use kube::core::{ObjectList, WatchEvent};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::channel::Channel;

    fn nested(levels: usize) -> String {
        format!("{}1{}", "{\"a\":[".repeat(levels / 2), "]}".repeat(levels / 2))
    }

    fn channel(levels: usize) -> String {
        let deep = nested(levels);
        format!(
            r#"{{"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {{"name": "deep", "managedFields": [{{"fieldsV1": {deep}}}]}},
               "spec": {{"channelType": "chat", "config": {{"x": {deep}, "y": 1}}}}, "status": {{"channelId": "id"}}}}"#
        )
    }

    #[test]
    fn an_object_of_any_depth_is_read_alone_in_a_list_and_from_a_watch() {
        for levels in [0, 90, 126, 128, 5000] {
            let one = channel(levels);
            let list =
                format!(r#"{{"apiVersion": "v1", "kind": "List", "metadata": {{}}, "items": [{one}]}}"#);
            let list: ObjectList<Read<Channel>> = serde_json::from_str(&list).unwrap();
            let event = format!(r#"{{"type": "ADDED", "object": {one}}}"#);
            let WatchEvent::Added(watched) = serde_json::from_str(&event).unwrap() else { panic!("{event}") };
            let alone: Read<Channel> = serde_json::from_str(&one).unwrap();
            for Read(channel) in [alone, list.items[0].clone(), watched] {
                assert_eq!(channel.name_any(), "deep");
                assert_eq!(channel.spec.config.unwrap()["y"], 1);
                assert_eq!(channel.status.unwrap().channel_id.as_deref(), Some("id"));
            }
        }
    }

    #[test]
    fn what_is_no_object_of_the_kind_is_an_error_all_the_same() {
        for wrong in [r#"{"metadata": {}, "spec": {"channelType": 7}}"#, "[]", "7", &nested(300)] {
            assert!(serde_json::from_str::<Read<Channel>>(wrong).is_err(), "{wrong}");
        }
    }

    fn cut_value(value: &Value, levels: usize) -> Value {
        match value {
            Value::Array(_) | Value::Object(_) if levels == 0 => Value::Null,
            Value::Array(items) => items.iter().map(|item| cut_value(item, levels - 1)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| (key.clone(), cut_value(value, levels - 1))).collect()
            }
            other => other.clone(),
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(json!(null)), Just(json!(1)), r#"[\\"{}\[\]äa]{0,6}"#.prop_map(Value::from)];
        leaf.prop_recursive(6, 40, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(r#"[\\"{}ä]{0,3}"#, inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_cut_is_what_lies_too_deep(value in any_json(), levels in 0_usize..6) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            for text in [value.to_string(), pretty] {
                let kept: Value = serde_json::from_str(&cut(&text, levels)).unwrap();
                prop_assert_eq!(kept, cut_value(&value, levels));
            }
        }
    }
}
