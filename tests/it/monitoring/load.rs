// I/O
//! Two operators and a team that keeps them busy, with everything going wrong that a dashboard shows.

use std::time::Duration;

use ohallo_sim::{Action, Behaviour, Config, Fault, Operation, Provisioning, Until};
use serde_json::{Value, json};
use testbed::{Act, Proxy, Rule, User, When};

use crate::acts::{LOOK, parked};
use crate::binary::Program;
use crate::replicas::{SHORT, allow_lease};
use crate::rig::{Rig, id_of};

const SECRET: &str = "provider-key-of-the-load";
const TYPES: [&str; 4] = ["email", "chat", "whatsapp", "voice"];
/// Of each type.
const CHANNELS: u64 = 6;
const BEAT: Duration = Duration::from_secs(1);

pub struct Load {
    pub rig: Rig,
    pub programs: Vec<Program>,
    names: Vec<String>,
    /// What a rule keeps from being written down, until a later round.
    late: Option<testbed::Held>,
}

// === impl Load ===

impl Load {
    /// Two replicas, the first of which leads, and no Channel yet.
    pub async fn start() -> Self {
        let behaviour = Behaviour { latency_ms: 15, ..Behaviour::default() };
        let mut rig = Rig::bare(Config { behaviour, ..Config::default() }, &[]).await;
        rig.proxy = Some(Proxy::start(rig.plane, User::Operator).await.unwrap());
        allow_lease(&rig);
        let key = json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": rig.key}});
        rig.put_secret(key).await;
        rig.workspace("default", "ohallo-api-key").await;
        rig.workspace("keyless", "nowhere").await;
        let mut flags = vec![
            format!("--api-url={}", rig.sim.url()),
            format!("--namespace={}", rig.namespace),
            format!("--operator-namespace={}", rig.namespace),
            "--leader-elect".into(),
            "--requests-per-second=25".into(),
            "--burst=5".into(),
            "--request-timeout=2".into(),
            "--create-timeout=2".into(),
        ];
        flags.extend(SHORT.map(String::from));
        let mut programs = Vec::new();
        for role in ["leader", "standby"] {
            let program = Program::with_kubeconfig(rig.proxy().kubeconfig(), &flags);
            program.until("/readyz", 200, &format!("this replica: {role}")).await;
            programs.push(program);
        }
        rig.workspace_reason("default", "Verified").await;
        Self { rig, programs, names: Vec::new(), late: None }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.programs.iter().map(|program| program.address().to_owned()).collect()
    }

    /// A team's Channels, and what each lacks that lacks something.
    pub async fn team(&mut self) {
        self.rig.secret("provider", &[("apiKey", SECRET)]).await;
        let dns = Provisioning::millis(900).step("pending_dns", Until::Millis(4000));
        self.rig.sim.set(|behaviour| behaviour.provisioning = dns);
        for number in 0..CHANNELS {
            for channel_type in TYPES {
                let name = format!("{channel_type}-{number}");
                self.channel(&name, channel_type, json!({"config": {"greeting": "Hi"}})).await;
                self.names.push(name);
            }
        }
        for name in self.names.clone() {
            self.rig.reason(&name, "Available").await;
        }
        let nowhere = json!({"credentials": [{"secretRef": {"name": "nowhere"}}]});
        self.rig.create("without-secret", nowhere).await;
        self.rig.create("without-key", json!({"workspaceRef": {"name": "keyless"}})).await;
        self.rig.create("only-observed", json!({"managementPolicy": "Observe"})).await;
        parked(&self.rig, "parked", true).await;
    }

    async fn channel(&self, name: &str, channel_type: &str, more: Value) {
        let mut spec = json!({
            "channelType": channel_type,
            "deletionPolicy": "Delete",
            "credentials": [{"secretRef": {"name": "provider"}}],
            "provisioningRetry": {"limit": 3, "backoffSeconds": 10},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.rig.create(name, spec).await;
    }

    /// What happens once: a deletion that oHallo refuses, a channel whose object is forced away while it is made,
    /// and one whose id can't be written down until the next call of [`Self::relieve`].
    pub async fn mishaps(&mut self) {
        let rig = &mut self.rig;
        let blocked = id_of(&rig.get("chat-0").await);
        let refuse = Fault::on(Operation::DeleteChannel, Action::status(403)).channel(&blocked);
        rig.sim.add_fault(refuse);
        rig.delete("chat-0").await;
        rig.has("chat-0", "DeletionBlocked", "PermissionDenied").await;
        self.names.retain(|name| name != "chat-0");
        let hold = Fault::on(Operation::CreateChannel, Action::Hold { commit_first: true }).times(1);
        let hold = rig.sim.add_fault(hold);
        rig.create("orphan", json!({})).await;
        rig.sim.held(hold).await.unwrap();
        rig.excused.push("orphan".into());
        rig.edit("orphan", json!({"metadata": {"finalizers": null}})).await;
        rig.deleted("orphan").await;
        rig.sim.release(hold);
        let refused = Act::Answer { code: 503, body: String::new() };
        let refuse = Rule::any(When::Before, refused).method("PUT").part("/late/status");
        self.late = Some(rig.proxy().add(refuse));
        rig.create("late", json!({})).await;
    }

    /// The API server takes the id that it did not.
    pub async fn relieve(&mut self) {
        if let Some(late) = self.late.take() {
            late.release();
            self.rig.reason("late", "Available").await;
        }
    }

    /// About a second of a day's work; each thing comes back every few rounds.
    pub async fn round(&mut self, round: u64) {
        let name = self.pick(round);
        let every = |rounds: u64| round.is_multiple_of(rounds);
        let value = round.to_string();
        self.rig.edit(&name, json!({"spec": {"displayName": format!("Name {round}")}})).await;
        if every(2) {
            self.drift(&self.pick(round + 5), round).await;
        }
        if every(3) {
            let asked = self.pick(round * 7);
            let tests = round.is_multiple_of(2);
            self.rig.sim.set(|behaviour| behaviour.test_result = tests);
            self.rig.annotate(&asked, "ohallo.eu/test-requested-at", &value).await;
        }
        if every(5) {
            self.rig.secret("provider", &[("apiKey", &format!("{SECRET}-{round}"))]).await;
        }
        if every(6) {
            self.come_and_go(round).await;
        }
        self.go_wrong(round);
        tokio::time::sleep(BEAT).await;
    }

    fn pick(&self, number: u64) -> String {
        let count = u64::try_from(self.names.len()).unwrap();
        self.names[usize::try_from(number % count).unwrap()].clone()
    }

    /// Somebody edits it in oHallo's dashboard.
    async fn drift(&self, name: &str, round: u64) {
        let id = id_of(&self.rig.get(name).await);
        self.rig.sim.edit_channel(&id, |channel| {
            if round.is_multiple_of(4) {
                channel.display_name = format!("Somebody's {round}");
            } else if let Some(config) = &mut channel.config {
                config.insert("greeting".into(), format!("Hello {round}").into());
            }
        });
        self.rig.annotate(name, LOOK, &round.to_string()).await;
    }

    /// A Channel whose provisioning fails at first, and the end of an earlier one.
    async fn come_and_go(&self, round: u64) {
        let provisioning = Provisioning::millis(600).failing(u32::from(round.is_multiple_of(12)));
        self.rig.sim.set(|behaviour| behaviour.provisioning = provisioning);
        let at = usize::try_from(round / 6).unwrap() % TYPES.len();
        self.channel(&format!("campaign-{round}"), TYPES[at], json!({})).await;
        if round > 24 {
            self.rig.delete(&format!("campaign-{}", round - 24)).await;
        }
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
            self.rig.sim.add_fault(fault);
        }
        let refused = |code| Act::Answer { code, body: String::new() };
        let status = |code, times| Rule::write(When::Before, refused(code)).part("/status").times(times);
        match round % 7 {
            1 => drop(self.rig.proxy().add(status(422, 1))),
            3 => drop(self.rig.proxy().add(status(503, 2))),
            5 => drop(self.rig.proxy().expire_watches("/channels")),
            _ => {}
        }
    }

    /// The leader ends, and the other one takes over.
    pub async fn failover(&mut self) {
        self.programs[0].terminate();
        assert_eq!(self.programs[0].ended().await.0, Some(0));
        self.programs[1].until("/readyz", 200, "this replica: leader").await;
    }

    pub async fn finish(self) {
        drop(self.programs);
        self.rig.sim.clear_faults();
        self.rig.proxy().clear();
        self.rig.finish().await;
    }
}
