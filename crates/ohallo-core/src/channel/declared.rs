//! The declared values that oHallo returns, `displayName` and `config`: how they are sent, compared and hashed.

use std::collections::HashSet;

use serde_json::Map;

use crate::api::channel::ChannelSpec;
use crate::channel::config::{self, Differs};
use crate::remote::{Changes, NewChannel, RemoteChannel};

/// The fields, as the metric label `field` names them.
pub const FIELDS: [&str; 2] = ["displayName", "config"];

/// The field that a declared path belongs to.
pub fn field_of(path: &str) -> &'static str {
    if path.starts_with("config.") { "config" } else { "displayName" }
}

/// The body of a create.
pub fn body(spec: &ChannelSpec) -> NewChannel {
    NewChannel {
        channel_type: spec.channel_type.clone().unwrap_or_default(),
        display_name: spec.display_name.clone().unwrap_or_default(),
        config: spec.config.as_ref().map(|config| config::overlay(config, &Map::new())),
        enabled: spec.enabled,
    }
}

/// The body of an update: the fields with differences that are due, without the paths that are only reported.
pub fn changes(
    spec: &ChannelSpec,
    remote: &RemoteChannel,
    due: &[Differs],
    reported: &[Differs],
    enabled: Option<bool>,
) -> Changes {
    let sends = |field: &str| due.iter().any(|differs| field_of(&differs.path) == field);
    let reported: HashSet<_> =
        reported.iter().filter_map(|drift| drift.path.strip_prefix("config.")).collect();
    let config = spec.config.as_ref().filter(|_| sends("config"));
    let config = config.map(|declared| config::without(declared, &|path| reported.contains(path)));
    Changes {
        display_name: spec.display_name.clone().filter(|_| sends("displayName")),
        config: config.map(|declared| config::overlay(&declared, &remote.config)),
        enabled,
    }
}

/// Whether an update sends a value that oHallo returns.
pub fn has_values(changes: &Changes) -> bool {
    changes.display_name.is_some() || changes.config.is_some()
}

/// Where the channel differs from the declared values; `None` stands for a channel that has none.
pub fn differences(spec: &ChannelSpec, remote: Option<&RemoteChannel>) -> Vec<Differs> {
    let display_name = remote.and_then(|remote| remote.display_name.as_deref());
    let name = spec.display_name.as_deref().filter(|name| Some(*name) != display_name);
    let name = name.map(|name| Differs {
        path: "displayName".into(),
        declared: name.into(),
        actual: display_name.map(Into::into),
    });
    let none = Map::new();
    let actual = remote.map_or(&none, |remote| &remote.config);
    let of_config = spec.config.iter().flat_map(|declared| config::differences(declared, actual));
    let of_config = of_config.map(|differs| Differs { path: format!("config.{}", differs.path), ..differs });
    name.into_iter().chain(of_config).collect()
}

/// SHA-256 of the declared values and of this `enabled`.
pub fn digest(spec: &ChannelSpec, enabled: Option<bool>) -> String {
    config::digest(spec.display_name.as_deref().unwrap_or_default(), spec.config.as_ref(), enabled)
}

/// SHA-256 of the values that oHallo returned.
pub fn answer_digest(remote: &RemoteChannel) -> String {
    config::digest(remote.display_name.as_deref().unwrap_or_default(), Some(&remote.config), None)
}

/// Drops the values that the cache does not hold, apart from the config, whose size remains known.
pub fn leave_out(spec: &mut ChannelSpec) {
    spec.display_name = None;
}
