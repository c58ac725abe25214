//! Pairs of manifest sets: what is applied, and a change of it.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

/// Objects by kind and name, without a namespace.
#[derive(Clone, Debug, Default)]
pub struct Set(pub Vec<Value>);

/// How one Channel changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Same,
    Edited,
    Removed,
    /// The same channel under another name, by its id.
    Renamed,
    /// The same manifest under another name.
    RenamedWithoutId,
}

// === impl Set ===

impl Set {
    fn put(&mut self, object: Value) {
        self.0.retain(|other| key(other) != key(&object));
        self.0.push(object);
    }

    pub fn channels(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(|object| object["kind"] == "Channel")
    }

    /// As one file.
    pub fn text(&self) -> String {
        self.0.iter().map(|object| format!("---\n{object}\n")).collect()
    }
}

fn key(object: &Value) -> (&Value, &Value) {
    (&object["kind"], &object["metadata"]["name"])
}

fn secret(name: &str, value: &str) -> Value {
    // Each value is long enough to be found wherever it leaks.
    let data =
        json!({"apiKey": format!("value-{value}-of-{name}"), "token": format!("token-{value}-of-{name}")});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}

fn channel(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": name}, "spec": spec})
}

fn maybe(random: &mut StdRng, spec: &mut Map<String, Value>, field: &str, values: &[Value]) {
    match values.choose(random) {
        Some(value) if random.random_bool(0.5) => drop(spec.insert(field.to_owned(), value.clone())),
        _ => drop(spec.remove(field)),
    }
}

/// Fields that may change.
fn vary(random: &mut StdRng, pair: usize, spec: &mut Map<String, Value>) {
    let name = format!("{} of {pair}", ["Front desk", "Night shift", "Größe ✓"].choose(random).unwrap());
    spec.insert("displayName".to_owned(), name.into());
    let configs = [
        json!({"greeting": "Hello", "retries": 1}),
        json!({"greeting": "Hi", "hours": {"from": 8, "to": 17}}),
        json!({"hours": {"from": 9}, "tags": ["a", "b"], "nothing": null}),
    ];
    maybe(random, spec, "config", &configs);
    maybe(random, spec, "enabled", &[true.into(), false.into()]);
    let [one, other] = [format!("s-{pair}-1"), format!("s-{pair}-2")];
    let credentials = [
        json!([{"secretRef": {"name": one}}]),
        json!([{"name": "apiKey", "secretKeyRef": {"name": other, "key": "apiKey"}}]),
        json!([{"secretRef": {"name": one}}, {"name": "token", "secretKeyRef": {"name": other, "key": "token"}}]),
        json!([{"secretRef": {"name": format!("missing-{pair}")}}]),
    ];
    maybe(random, spec, "credentials", &credentials);
    maybe(random, spec, "deletionPolicy", &["Delete".into(), "Retain".into()]);
    maybe(random, spec, "driftPolicy", &["Correct".into(), "Report".into()]);
    if spec["channelType"] != "email" {
        maybe(random, spec, "connectivityTest", &["OnChange".into(), "OnRequest".into()]);
    }
    if random.random_bool(0.1) {
        spec.insert("suspend".to_owned(), true.into());
    } else {
        spec.remove("suspend");
    }
    if random.random_bool(0.1) {
        spec.insert("managementPolicy".to_owned(), "Observe".into());
    } else {
        spec.remove("managementPolicy");
    }
}

/// A set to begin with. `adopt` brings a channel in oHallo of this type.
pub fn first(random: &mut StdRng, pair: usize, mut adopt: impl FnMut(&str) -> String) -> Set {
    let mut set = Set::default();
    for number in 1..=2 {
        set.put(secret(&format!("s-{pair}-{number}"), "1"));
    }
    for number in 0..random.random_range(1..4) {
        let channel_type = *["email", "chat", "whatsapp", "voice"].choose(random).unwrap();
        let mut spec = Map::from_iter([("channelType".to_owned(), channel_type.into())]);
        vary(random, pair, &mut spec);
        if random.random_bool(0.3) {
            spec.insert("channelId".to_owned(), adopt(channel_type).into());
        }
        set.put(channel(&format!("p-{pair}-{number}"), spec.into()));
    }
    set
}

/// A change of the set. `id_of` is the id that a Channel is bound to.
pub fn second(
    random: &mut StdRng,
    pair: usize,
    first: &Set,
    id_of: impl Fn(&str) -> Option<String>,
    mut adopt: impl FnMut(&str) -> String,
) -> Set {
    let mut set = Set::default();
    for object in first.0.iter().filter(|object| object["kind"] == "Secret") {
        let name = object["metadata"]["name"].as_str().unwrap();
        let value = if random.random_bool(0.3) { "2" } else { "1" };
        set.put(secret(name, value));
    }
    for object in first.channels() {
        let fates =
            [Fate::Same, Fate::Edited, Fate::Edited, Fate::Removed, Fate::Renamed, Fate::RenamedWithoutId];
        let fate = *fates.choose(random).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let mut spec = object["spec"].as_object().unwrap().clone();
        let renamed = format!("{name}-new");
        match fate {
            Fate::Same => set.put(object.clone()),
            Fate::Removed => {}
            Fate::Edited => {
                let (pinned, tested) =
                    (spec.get("channelId").cloned(), spec.get("connectivityTest").cloned());
                vary(random, pair, &mut spec);
                // With OnRequest, only the operator's memory holds that a change was not tested.
                match tested {
                    Some(tested) => drop(spec.insert("connectivityTest".to_owned(), tested)),
                    None => drop(spec.remove("connectivityTest")),
                }
                let bound = id_of(name).filter(|_| random.random_bool(0.2)).map(Value::from);
                if let Some(id) = pinned.or(bound) {
                    spec.insert("channelId".to_owned(), id);
                }
                let mut object = channel(name, spec.into());
                if random.random_bool(0.2) {
                    object["metadata"]["annotations"] = json!({"ohallo.eu/test-requested-at": "now"});
                }
                set.put(object);
            }
            Fate::Renamed => {
                // Without an id, a rename is a deletion and a create.
                match id_of(name) {
                    Some(id) => drop(spec.insert("channelId".to_owned(), id.into())),
                    None => drop(spec.remove("channelId")),
                }
                set.put(channel(&renamed, spec.into()));
            }
            Fate::RenamedWithoutId => {
                spec.remove("channelId");
                set.put(channel(&renamed, spec.into()));
            }
        }
    }
    if random.random_bool(0.4) {
        let mut spec = Map::from_iter([("channelType".to_owned(), "chat".into())]);
        vary(random, pair, &mut spec);
        if random.random_bool(0.5) {
            spec.insert("channelId".to_owned(), adopt("chat").into());
        }
        set.put(channel(&format!("p-{pair}-added"), spec.into()));
    }
    set
}
