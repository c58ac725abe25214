// pure
//! What must hold once nothing is under way any more.

use k8s_openapi::api::core::v1::Secret;

use super::*;

impl World {
    /// I15, for the Channels that are there now: Ready with the current generation means applied and active.
    pub fn ready_is_true(&self) -> Vec<String> {
        let ready = |channel: &&Channel| {
            condition(channel, "Ready").is_some_and(|r| r.1 == "True" && r.3 == channel.metadata.generation)
        };
        let mut broken = Vec::new();
        for channel in self.listed.iter().filter(ready) {
            let id = bound(channel).unwrap_or_default();
            let name = channel.spec.display_name.clone().unwrap_or_default();
            let fits = self.live.iter().any(|live| {
                let enabled = channel.spec.enabled.is_none_or(|wanted| wanted == live.enabled);
                live.id == id && live.status == "active" && live.display_name == name && enabled
            });
            if !fits {
                let found: Vec<_> = self.live.iter().filter(|live| live.id == id).collect();
                broken.push(format!("{} says Ready; oHallo has {found:?}", channel.name_any()));
            }
        }
        broken
    }

    /// I14, for the Channels that are there now: oHallo holds what their Secrets hold.
    pub fn secrets_arrived(&self, secrets: &[Secret]) -> Vec<String> {
        let mut broken = Vec::new();
        for channel in self.listed.iter().filter(|channel| bound(channel).is_some()) {
            let wanted = wanted(channel, secrets);
            let live = self.live.iter().find(|live| Some(&live.id) == bound(channel).as_ref());
            if live.is_none_or(|live| {
                wanted.iter().any(|(name, value)| live.credentials.get(name) != Some(value))
            }) {
                broken
                    .push(format!("oHallo has other credentials of {} than its Secrets", channel.name_any()));
            }
        }
        broken
    }
}

/// Later sources win.
fn wanted(channel: &Channel, secrets: &[Secret]) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    let text = |value: &k8s_openapi::ByteString| String::from_utf8_lossy(&value.0).into_owned();
    let data = |name: &str| {
        let found = secrets.iter().find(|secret| secret.name_any() == name);
        found.and_then(|secret| secret.data.clone()).unwrap_or_default()
    };
    for source in &channel.spec.credentials {
        if let Some(all) = &source.secret_ref {
            wanted.extend(data(&all.name).iter().map(|(name, value)| (name.clone(), text(value))));
        }
        if let (Some(name), Some(one)) = (&source.name, &source.secret_key_ref) {
            wanted.extend(data(&one.name).get(&one.key).map(|value| (name.clone(), text(value))));
        }
    }
    wanted
}
