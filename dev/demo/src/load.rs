//! A team that keeps the operator busy, with everything going wrong that a dashboard shows.

use std::time::Duration;

use anyhow::{Context, Result};
use ohallo_sim::{Action, Fault, Operation, Provisioning, Sim, Until};
use serde_json::{Value, json};
use testbed::{Act, Held, Proxy, Rule, When};

use crate::user_actions::UserActions;

/// The operators' flags: a rate limit that has an effect, and a short timeout. Creates keep the default timeout, in which
/// [`Load::mishaps`] acts while one is under way. Reads of the simulator are never older than a write, so that drift is
/// reported while the names change every few seconds.
pub const FLAGS: [&str; 4] =
    ["--requests-per-second=25", "--burst=5", "--request-timeout=2", "--consistency-window-seconds=0"];
/// In which one of [`Load::round`] the API server takes the id that it did not.
const RELIEF: u64 = 6;
const LATENCY_MS: u64 = 15;
const TYPES: [&str; 4] = ["email", "chat", "whatsapp", "voice"];
/// Of each type.
const CHANNELS: u64 = 6;
const BEAT: Duration = Duration::from_secs(1);

pub struct Load<'a> {
    user_actions: UserActions,
    sim: &'a Sim,
    proxy: &'a Proxy,
    names: Vec<String>,
    /// What keeps an id from being written down.
    late: Option<Held>,
}

// === impl Load ===

impl<'a> Load<'a> {
    pub fn new(user_actions: UserActions, sim: &'a Sim, proxy: &'a Proxy) -> Self {
        Self { user_actions, sim, proxy, names: Vec::new(), late: None }
    }

    /// A team's Channels, and what each lacks that lacks something.
    pub async fn team(&mut self, workspace_id: &str) -> Result<()> {
        self.sim.set(|behaviour| {
            behaviour.latency_ms = LATENCY_MS;
            behaviour.provisioning = Provisioning::millis(900).step("pending_dns", Until::Millis(4000));
        });
        self.rotate(0).await?;
        let keyless = json!({"workspaceId": workspace_id, "apiKeySecretRef": {"name": "nowhere"}});
        self.user_actions.workspace("keyless", keyless).await?;
        for number in 0..CHANNELS {
            for channel_type in TYPES {
                let name = format!("{channel_type}-{number}");
                self.busy(&name, channel_type, json!({"config": {"greeting": "Hi"}})).await?;
                self.names.push(name);
            }
        }
        for name in &self.names {
            self.user_actions.has(name, "Ready", "Available").await?;
        }
        self.plain("without-secret", json!({"credentials": [{"secretRef": {"name": "nowhere"}}]})).await?;
        self.plain("without-key", json!({"workspaceRef": {"name": "keyless"}})).await?;
        self.plain("only-observed", json!({"managementPolicy": "Observe"})).await
    }

    /// What happens once: a create without an answer, a deletion that oHallo refuses, a channel whose object is
    /// replaced while it is created, and one whose id can't be written down for some rounds.
    pub async fn mishaps(&mut self) -> Result<()> {
        let (user_actions, sim) = (&self.user_actions, self.sim);
        sim.add_fault(Fault::on(Operation::CreateChannel, Action::Reset { commit: true }).times(1));
        self.plain("unresolved", json!({})).await?;
        user_actions.has("unresolved", "Ready", "CreateOutcomeUnknown").await?;
        let blocked = user_actions.id("chat-0").await?;
        sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(403)).channel(&blocked));
        user_actions.delete("chat-0").await?;
        user_actions.has("chat-0", "DeletionBlocked", "PermissionDenied").await?;
        self.names.retain(|name| name != "chat-0");
        let hold = Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1);
        let hold = sim.add_fault(hold);
        self.plain("orphan", json!({})).await?;
        sim.held(hold).await?;
        user_actions.edit("orphan", json!({"metadata": {"finalizers": null}})).await?;
        user_actions.delete("orphan").await?;
        user_actions.wait_deleted("orphan").await?;
        sim.release(hold);
        let refuse = Rule::any(When::Before, answer(503)).method("PUT").part("/late/status");
        self.late = Some(self.proxy.add(refuse));
        self.plain("late", json!({})).await
    }

    /// About a second of a day's work; each thing comes back every few rounds.
    pub async fn round(&mut self, round: u64) -> Result<()> {
        let name = self.pick(round)?;
        let every = |rounds: u64| round.is_multiple_of(rounds);
        self.user_actions.edit(name, json!({"spec": {"displayName": format!("Name {round}")}})).await?;
        if every(2) {
            self.drift(self.pick(round + 5)?, round).await?;
        }
        if every(3) {
            let tests = round.is_multiple_of(2);
            self.sim.set(|behaviour| behaviour.test_result = tests);
            let asked = self.pick(round * 7)?;
            self.user_actions.annotate(asked, "ohallo.eu/test-requested-at", &round.to_string()).await?;
        }
        if every(5) {
            self.rotate(round).await?;
        }
        if every(6) {
            self.come_and_go(round).await?;
        }
        if round == RELIEF
            && let Some(late) = self.late.take()
        {
            late.release();
            self.user_actions.has("late", "Ready", "Available").await?;
        }
        self.go_wrong(round);
        tokio::time::sleep(BEAT).await;
        Ok(())
    }

    /// A Channel that does all that one can.
    async fn busy(&self, name: &str, channel_type: &str, more: Value) -> Result<()> {
        let spec = json!({
            "channelType": channel_type,
            "displayName": format!("Channel {name}"),
            "deletionPolicy": "Delete",
            "credentials": [{"secretRef": {"name": "provider"}}],
            "provisioningRetry": {"limit": 3, "backoffSeconds": 10},
        });
        self.user_actions.channel(name, with(spec, more)).await
    }

    async fn plain(&self, name: &str, more: Value) -> Result<()> {
        let spec = json!({"channelType": "chat", "displayName": format!("Channel {name}")});
        self.user_actions.channel(name, with(spec, more)).await
    }

    /// New credentials for all.
    async fn rotate(&self, round: u64) -> Result<()> {
        self.user_actions
            .secret("provider", json!({"apiKey": format!("provider-key-of-the-load-{round}")}))
            .await
    }

    fn pick(&self, number: u64) -> Result<&str> {
        nth(&self.names, number).map(String::as_str)
    }

    /// A user edits it in oHallo's dashboard.
    async fn drift(&self, name: &str, round: u64) -> Result<()> {
        let id = self.user_actions.id(name).await?;
        self.sim.edit_channel(&id, |channel| {
            if round.is_multiple_of(4) {
                channel.display_name = format!("Another's {round}");
            } else if let Some(config) = &mut channel.config {
                config.insert("greeting".into(), format!("Hello {round}").into());
            }
        });
        self.user_actions.annotate(name, "ohallo.eu/reconcile-requested-at", &round.to_string()).await
    }

    /// A Channel whose provisioning fails at first, and the end of an earlier one.
    async fn come_and_go(&self, round: u64) -> Result<()> {
        let provisioning = Provisioning::millis(600).failing(u32::from(round.is_multiple_of(12)));
        self.sim.set(|behaviour| behaviour.provisioning = provisioning);
        self.busy(&format!("campaign-{round}"), nth(&TYPES, round / 6)?, json!({})).await?;
        if round > 24 {
            self.user_actions.delete(&format!("campaign-{}", round - 24)).await?;
        }
        Ok(())
    }

    fn go_wrong(&self, round: u64) {
        let (get, update) = (Operation::GetChannel, Operation::UpdateChannel);
        let fault = match round % 8 {
            0 => Some(Fault::on(get, Action::status(503)).times(2)),
            2 => Some(Fault::on(get, Action::Reset { commit: false }).times(1)),
            4 => Some(Fault::on(get, Action::Hang { commit: false }).times(1)),
            5 => Some(Fault::on(update, Action::status(422)).times(1)),
            7 => Some(Fault::on(get, Action::retry_after(429, "1")).times(1)),
            _ => None,
        };
        if let Some(fault) = fault {
            self.sim.add_fault(fault);
        }
        let status = |code, times| Rule::write(When::Before, answer(code)).part("/status").times(times);
        match round % 7 {
            1 => drop(self.proxy.add(status(422, 1))),
            3 => drop(self.proxy.add(status(503, 2))),
            5 => drop(self.proxy.expire_watches("/channels")),
            _ => {}
        }
    }
}

/// The n-th, over and over.
fn nth<T>(all: &[T], number: u64) -> Result<&T> {
    let at = usize::try_from(number)?.checked_rem(all.len());
    at.and_then(|at| all.get(at)).context("there is none to choose from")
}

fn answer(code: u16) -> Act {
    Act::Answer { code, body: String::new() }
}

fn with(mut spec: Value, more: Value) -> Value {
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    spec
}
