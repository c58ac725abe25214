//! What must hold once nothing is under way any more.

use super::*;
use crate::support::contract::{Secrets, credentials};

impl Evidence {
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
                broken.push(format!("{} is Ready; oHallo has {found:?}", channel.name_any()));
            }
        }
        broken
    }

    /// I14, for the Channels that are there now: oHallo holds what their Secrets hold.
    pub fn secrets_arrived(&self, secrets: &Secrets) -> Vec<String> {
        let mut broken = Vec::new();
        for channel in self.listed.iter().filter(|channel| bound(channel).is_some()) {
            let wanted = credentials(&serde_json::to_value(&channel.spec).unwrap(), secrets);
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
