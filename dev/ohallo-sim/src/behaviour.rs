//! How the simulator answers where the documentation is silent.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::provisioning::Provisioning;

/// How to start a [`crate::Sim`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the ids come from: the same seed and the same calls give the same ids.
    pub seed: u64,
    /// The address it listens on; 127.0.0.1 by default.
    pub address: Ipv4Addr,
    /// TCP port; 0 takes a free one.
    pub port: u16,
    /// Serves `/_admin/` too, without any key.
    pub admin: bool,
    /// Calls the ledger remembers; the oldest are dropped first.
    pub ledger_cap: usize,
    pub behaviour: Behaviour,
}

/// Everything that can be changed while the simulator runs. The default is the documentation, read plainly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behaviour {
    /// The undocumented `POST /api/workspaces/{id}/channels`. Default on.
    pub create: Switch,
    /// The undocumented `GET /api/workspaces/{id}/channels`. Default 404.
    pub list: Switch,
    /// What a PATCH does to the config keys it does not name. Default merge.
    pub config_update: ConfigUpdate,
    /// Answers `"config": null` for a channel without config keys, instead of `{}`.
    pub null_config: bool,
    /// Stores display names and config strings trimmed, and config strings with an `@` in lower case.
    pub normalise: bool,
    /// Answers this state for every channel.
    pub unknown_state: Option<String>,
    /// Fields added to every channel that is answered. They never replace a documented one.
    pub extra_fields: Map<String, Value>,
    pub provisioning: Provisioning,
    /// A PATCH that changes `config` runs the provisioning workflow again.
    pub reprovision_on_config: bool,
    /// What `POST …/test` answers, unless the channel has its own value.
    pub test_result: bool,
    /// False: the two workspace endpoints answer 403.
    pub workspaces_readable: bool,
    /// The delay before each call is handled.
    pub latency_ms: u64,
    /// Reads of channels show what was there so long ago, whatever was written since.
    pub read_lag_ms: u64,
    /// The calls that change a channel answer 404 as well until a read shows it.
    pub writes_lag: bool,
    /// A PATCH answers the channel as it was before.
    pub answers_lag: bool,
    /// Config keys that a PATCH leaves as they are.
    pub ignored_keys: BTreeSet<String>,
}

/// An endpoint that oHallo may or may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Switch {
    On,
    /// Answered instead: 404, 405 or 501.
    Status(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConfigUpdate {
    /// Keys that are not named stay. Nested objects are replaced whole.
    Merge,
    /// What is sent is the config.
    Replace,
}

// === impl Default ===

impl Default for Config {
    fn default() -> Self {
        Config {
            seed: 0,
            address: Ipv4Addr::LOCALHOST,
            port: 0,
            admin: false,
            ledger_cap: 2_000_000,
            behaviour: Behaviour::default(),
        }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            create: Switch::On,
            list: Switch::Status(404),
            config_update: ConfigUpdate::Merge,
            null_config: false,
            normalise: false,
            unknown_state: None,
            extra_fields: Map::new(),
            provisioning: Provisioning::default(),
            reprovision_on_config: false,
            test_result: true,
            workspaces_readable: true,
            latency_ms: 0,
            read_lag_ms: 0,
            writes_lag: false,
            answers_lag: false,
            ignored_keys: BTreeSet::new(),
        }
    }
}
