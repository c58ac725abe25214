//! Tenants, workspaces, keys and channels, found by hash. No lookup walks over all channels.

use std::collections::{BTreeMap, HashMap};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::behaviour::Behaviour;
use crate::clock::Now;
use crate::model::{Channel, Key, NewChannel, Workspace};
use crate::provisioning::Run;

#[derive(Debug)]
pub(crate) struct Store {
    pub behaviour: Behaviour,
    pub keys: HashMap<String, Key>,
    pub workspaces: HashMap<String, Workspace>,
    pub channels: HashMap<String, Channel>,
    /// What each channel was, oldest first, by milliseconds since the start; only while reads lag.
    history: HashMap<String, Vec<(u64, Option<Channel>)>>,
    /// Ids of workspaces by age.
    pub workspace_order: Vec<String>,
    rng: StdRng,
    serial: u64,
    named_keys: u64,
}

/// What a channel consists of, whoever creates it.
pub(crate) struct Birth {
    pub id: Option<String>,
    pub workspace: String,
    pub channel_type: String,
    pub display_name: String,
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    pub enabled: bool,
    pub status: String,
    pub run: Run,
    pub created_by: Option<String>,
    pub idempotency_key: Option<String>,
    pub credentials: BTreeMap<String, String>,
}

// === impl Store ===

impl Store {
    pub fn new(seed: u64, behaviour: Behaviour) -> Self {
        Store {
            behaviour,
            keys: HashMap::new(),
            workspaces: HashMap::new(),
            channels: HashMap::new(),
            history: HashMap::new(),
            workspace_order: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            serial: 0,
            named_keys: 0,
        }
    }

    pub fn add_workspace(&mut self, tenant: &str, id: &str, name: &str) {
        let brand = self.uuid();
        let new = Workspace {
            id: id.to_owned(),
            tenant: tenant.to_owned(),
            brand,
            name: name.to_owned(),
            channels: BTreeMap::new(),
        };
        match self.workspaces.get_mut(id) {
            Some(old) => {
                new.tenant.clone_into(&mut old.tenant);
                new.name.clone_into(&mut old.name);
            }
            None => {
                self.workspaces.insert(id.to_owned(), new);
                self.workspace_order.push(id.to_owned());
            }
        }
    }

    pub fn add_key(&mut self, mut key: Key) {
        if key.name.is_empty() {
            self.named_keys += 1;
            key.name = format!("key-{}", self.named_keys);
        }
        self.keys.insert(key.secret.clone(), key);
    }

    /// The key with this secret, if it may be used at all.
    pub fn identify(&self, secret: &str) -> Option<&Key> {
        self.keys.get(secret).filter(|key| !key.revoked && !key.expired)
    }

    /// A workspace the key may see.
    pub fn workspace(&self, key: &Key, id: &str) -> Option<&Workspace> {
        let seen = |found: &&Workspace| {
            found.tenant == key.tenant && key.workspace.as_ref().is_none_or(|only| *only == found.id)
        };
        self.workspaces.get(id).filter(seen)
    }

    /// A channel the key may see, its state brought up to now.
    pub fn channel(&mut self, key: &Key, id: &str, now: Now) -> Option<&mut Channel> {
        let found = self.channels.get_mut(id)?;
        if !key.sees(found) {
            return None;
        }
        found.settle(now.ms);
        Some(found)
    }

    /// The channel as a read that lags shows it.
    pub fn read(&mut self, key: &Key, id: &str, now: Now) -> Option<Channel> {
        let at = now.ms.saturating_sub(self.behaviour.read_lag_ms);
        let past = self.history.get(id).filter(|_| self.behaviour.read_lag_ms > 0);
        let Some(past) = past else { return self.channel(key, id, now).cloned() };
        let mut shown = past.iter().rev().find(|(since, _)| *since <= at)?.1.clone()?;
        if !key.sees(&shown) {
            return None;
        }
        shown.settle(at);
        Some(shown)
    }

    /// A change of a channel that is not a call.
    pub fn change_in_dashboard<T>(&mut self, id: &str, now: Now, change: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.channels.get(id).cloned();
        let changed = change(self);
        self.note(id, before, now);
        changed
    }

    /// Notes what a channel is from now on, and on the first time what it was `before`.
    pub fn note(&mut self, id: &str, before: Option<Channel>, now: Now) {
        if self.behaviour.read_lag_ms == 0 {
            return;
        }
        let after = self.channels.get(id).cloned();
        let past = self.history.entry(id.to_owned()).or_insert_with(|| vec![(0, before)]);
        past.push((now.ms, after));
    }

    pub fn insert(&mut self, birth: Birth, now: Now) -> String {
        let id = birth.id.clone().unwrap_or_else(|| self.uuid());
        self.remove(&id);
        self.serial += 1;
        let serial = self.serial;
        let workspace = self.workspaces.get_mut(&birth.workspace);
        let tenant = workspace.map_or_else(String::new, |workspace| {
            workspace.channels.insert(serial, id.clone());
            workspace.tenant.clone()
        });
        let mut channel = Channel {
            id: id.clone(),
            workspace: birth.workspace,
            tenant,
            channel_type: birth.channel_type,
            display_name: birth.display_name,
            config: birth.config,
            status: birth.status,
            created_at: now.wall.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            enabled: birth.enabled,
            credentials: birth.credentials,
            credential_pushes: 0,
            created_by: birth.created_by,
            idempotency_key: birth.idempotency_key,
            tests: 0,
            test_mails: 0,
            runs: 1,
            test_result: None,
            serial,
            run: birth.run,
        };
        channel.settle(now.ms);
        self.channels.insert(id.clone(), channel);
        id
    }

    pub fn insert_in_dashboard(&mut self, new: NewChannel, now: Now) -> String {
        let birth = Birth {
            id: new.id,
            workspace: new.workspace,
            channel_type: new.channel_type,
            display_name: new.display_name,
            config: new.config,
            enabled: new.enabled,
            status: new.status,
            run: Run::default(),
            created_by: None,
            idempotency_key: None,
            credentials: new.credentials,
        };
        self.insert(birth, now)
    }

    /// Runs `edit` on a channel; what it is and where it belongs can't be changed by it.
    pub fn edit(&mut self, id: &str, now: Now, edit: impl FnOnce(&mut Channel)) -> bool {
        let Some(channel) = self.channels.get_mut(id) else { return false };
        channel.settle(now.ms);
        let before = (channel.status.clone(), channel.workspace.clone(), channel.tenant.clone());
        edit(channel);
        id.clone_into(&mut channel.id);
        (channel.workspace, channel.tenant) = (before.1, before.2);
        if channel.status != before.0 {
            channel.run = Run::default();
        }
        true
    }

    /// Every channel, oldest first, its state brought up to now.
    pub fn all(&mut self, now: Now) -> Vec<Channel> {
        let settled = |channel: &mut Channel| {
            channel.settle(now.ms);
            channel.clone()
        };
        let mut all: Vec<Channel> = self.channels.values_mut().map(settled).collect();
        all.sort_by_key(|channel| channel.serial);
        all
    }

    pub fn remove(&mut self, id: &str) -> bool {
        let Some(gone) = self.channels.remove(id) else { return false };
        if let Some(workspace) = self.workspaces.get_mut(&gone.workspace) {
            workspace.channels.remove(&gone.serial);
        }
        true
    }

    /// The next id, in the form of a UUID version 4.
    fn uuid(&mut self) -> String {
        let bits: u128 = self.rng.random();
        let bits = bits & !(0xf << 76) | (4 << 76);
        let bits = bits & !(0x3 << 62) | (2 << 62);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}
