//! What the simulator holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::provisioning::Run;

/// Scope for GET endpoints.
pub const READ: &str = "channels:read";
/// Scope for write endpoints.
pub const WRITE: &str = "channels:write";

/// An API key. Debug never shows the secret.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Key {
    pub secret: String,
    pub tenant: String,
    /// Default: both channel scopes.
    pub scopes: BTreeSet<String>,
    /// Restricts the key to one workspace: the others and their channels answer 404.
    pub workspace: Option<String>,
    /// What the ledger and `Channel::created_by` call it; empty takes `key-1`, `key-2`, …
    pub name: String,
    pub revoked: bool,
    pub expired: bool,
}

/// A channel with everything oHallo hides. Debug names credentials without their values.
#[derive(Clone)]
pub struct Channel {
    pub id: String,
    pub workspace: String,
    pub tenant: String,
    pub channel_type: String,
    pub display_name: String,
    pub config: Option<Map<String, Value>>,
    /// The state at the moment of the read. Writing it ends the provisioning workflow.
    pub status: String,
    pub created_at: String,
    pub enabled: bool,
    pub credentials: BTreeMap<String, String>,
    /// Times credentials were stored.
    pub credential_pushes: u32,
    /// Name of the key that created it; `None` for one created in the dashboard.
    pub created_by: Option<String>,
    /// The `Idempotency-Key` header of the create call: recorded, not honoured.
    pub idempotency_key: Option<String>,
    /// Calls of `POST …/test`.
    pub tests: u32,
    /// Test messages sent: email channels only.
    pub test_mails: u32,
    /// Runs of the provisioning workflow, the first included.
    pub runs: u32,
    /// What `POST …/test` answers; `None` takes `Behaviour::test_result`.
    pub test_result: Option<bool>,
    pub(crate) serial: u64,
    pub(crate) run: Run,
}

/// A channel created in the dashboard. Its state is what is given: no workflow runs.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewChannel {
    /// `None` takes the next id of the seed.
    pub id: Option<String>,
    /// A workspace that does not exist has channels that no key can see.
    pub workspace: String,
    pub channel_type: String,
    pub display_name: String,
    /// `None` is answered as `null`.
    pub config: Option<Map<String, Value>>,
    pub status: String,
    pub enabled: bool,
    pub credentials: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub id: String,
    pub tenant: String,
    pub brand: String,
    pub name: String,
    /// Channel ids by age, so that a list costs no sort.
    pub channels: BTreeMap<u64, String>,
}

// === impl Key ===

impl Key {
    /// An unrestricted key with both channel scopes.
    pub fn new(secret: impl Into<String>, tenant: impl Into<String>) -> Self {
        Key { secret: secret.into(), tenant: tenant.into(), ..Key::default() }
    }

    /// Whether it may see this channel.
    pub(crate) fn sees(&self, channel: &Channel) -> bool {
        let only = self.workspace.as_ref();
        channel.tenant == self.tenant && only.is_none_or(|only| *only == channel.workspace)
    }

    /// Restricts it to one workspace.
    pub fn workspace(mut self, id: impl Into<String>) -> Self {
        self.workspace = Some(id.into());
        self
    }

    /// Replaces its scopes.
    pub fn scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.scopes = scopes.into_iter().map(str::to_owned).collect();
        self
    }
}

impl Default for Key {
    fn default() -> Self {
        Key {
            secret: String::new(),
            tenant: String::new(),
            scopes: [READ, WRITE].map(str::to_owned).into(),
            workspace: None,
            name: String::new(),
            revoked: false,
            expired: false,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("tenant", &self.tenant)
            .field("scopes", &self.scopes)
            .field("workspace", &self.workspace)
            .field("revoked", &self.revoked)
            .field("expired", &self.expired)
            .finish_non_exhaustive()
    }
}

// === impl Channel ===

impl Channel {
    /// Brings `status` up to the given moment.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        if let Some(state) = self.run.poll(now_ms) {
            self.status = state;
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id)
            .field("workspace", &self.workspace)
            .field("channel_type", &self.channel_type)
            .field("display_name", &self.display_name)
            .field("config", &self.config)
            .field("status", &self.status)
            .field("enabled", &self.enabled)
            .field("credentials", &self.credentials.keys())
            .field("credential_pushes", &self.credential_pushes)
            .field("created_by", &self.created_by)
            .field("idempotency_key", &self.idempotency_key)
            .field("tests", &self.tests)
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

// === impl NewChannel ===

impl NewChannel {
    /// An active, enabled channel of the given type without config.
    pub fn new(workspace: &str, channel_type: &str, display_name: &str) -> Self {
        NewChannel {
            workspace: workspace.to_owned(),
            channel_type: channel_type.to_owned(),
            display_name: display_name.to_owned(),
            ..NewChannel::default()
        }
    }

    /// Sets the config; anything but an object becomes `null`.
    pub fn config(mut self, config: Value) -> Self {
        self.config = if let Value::Object(config) = config { Some(config) } else { None };
        self
    }

    /// Sets the state.
    pub fn status(mut self, status: &str) -> Self {
        self.status = status.to_owned();
        self
    }
}

impl Default for NewChannel {
    fn default() -> Self {
        NewChannel {
            id: None,
            workspace: String::new(),
            channel_type: "email".to_owned(),
            display_name: "Created in the dashboard".to_owned(),
            config: Some(Map::new()),
            status: "active".to_owned(),
            enabled: true,
            credentials: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for NewChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewChannel")
            .field("workspace", &self.workspace)
            .field("channel_type", &self.channel_type)
            .field("display_name", &self.display_name)
            .field("config", &self.config)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
