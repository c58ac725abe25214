//! What docs/safety.md says to do where the operator asks, done to Channels that are so.

use std::collections::BTreeSet;

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Fault, NewChannel, Operation, Provisioning, Switch};
use serde_json::json;

use super::pages;
use super::shell::Shell;
use crate::acts::{AGAIN, INTENT, LOOK, RELEASE, by_hand, parked, told};
use crate::faults::admission::{Policy, probed};
use crate::rig::{Rig, WORKSPACE, id_of};
use crate::tenants::ownership::{CONFIRM, Two};

const SAFETY: &str = include_str!("../../../docs/safety.md");
const READY: &str = "Ready is False";
const BLOCKED: &str = "DeletionBlocked";

/// Each state of a part of the page with its commands; those before the first are of the state `""`.
fn states(part: &str) -> Vec<(&'static str, Vec<String>)> {
    let (_, text) = SAFETY.split_once(&format!("### {part}\n")).unwrap();
    let text = text.split("\n### ").next().unwrap();
    let mut states = vec![("", text.split("**`").next().unwrap())];
    states.extend(text.split("**`").skip(1).map(|state| state.split_once("`**").unwrap()));
    states.into_iter().map(|(state, text)| (state, pages::commands(text))).collect()
}

/// A person with the page, before one namespace.
struct Person {
    shell: Shell,
    part: &'static str,
    done: BTreeSet<(&'static str, usize)>,
}

// === impl Person ===

impl Person {
    fn new(rig: &Rig, part: &'static str) -> Self {
        let mut shell = Shell::new(rig.plane, &rig.namespace);
        shell.key.clone_from(&rig.key);
        Self { shell, part, done: BTreeSet::new() }
    }

    /// Does what the page has in that place of that state's commands.
    fn does(&mut self, state: &str, place: usize, name: &str, id: &str) -> String {
        let states = states(self.part);
        let (state, commands) = states.into_iter().find(|(found, _)| *found == state).unwrap();
        self.done.insert((state, place));
        let words = commands[place].split(' ').map(|word| match word {
            "NAME" => name.to_owned(),
            _ => word
                .replace("UID/ATTEMPT", id)
                .replace("ID/UID", id)
                .replace("=ID", &format!("={id}"))
                .replace("\"ID\"", &format!("{id:?}")),
        });
        self.shell.run(&words.collect::<Vec<_>>().join(" "))
    }

    fn end(self) {
        let states = states(self.part);
        let all =
            states.iter().flat_map(|(state, commands)| (0..commands.len()).map(move |place| (*state, place)));
        assert_eq!(self.done, all.collect(), "each command of {} is run", self.part);
    }
}

async fn blocked(rig: &Rig, name: &str, reason: &str) -> Channel {
    rig.delete(name).await;
    rig.has(name, BLOCKED, reason).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_out_of_a_channel_that_is_not_ready_is_one() {
    let rig = Rig::start().await;
    let mut person = Person::new(&rig, READY);

    // First: once a create has succeeded, a 405 is one object's.
    rig.sim.set(|behaviour| behaviour.create = Switch::Status(405));
    rig.create("unsupported", json!({})).await;
    rig.reason("unsupported", "CreateUnsupported").await;
    let id = by_hand(&rig, "chat", "Channel unsupported");
    person.does("CreateUnsupported", 0, "unsupported", &id);
    rig.reason("unsupported", "Available").await;
    rig.create("later", json!({})).await;
    rig.reason("later", "CreateUnsupported").await;
    rig.sim.set(|behaviour| behaviour.create = Switch::On);
    person.does("CreateUnsupported", 1, "later", "");
    rig.reason("later", "Available").await;

    parked(&rig, "made", true).await;
    assert!(person.does("CreateOutcomeUnknown", 0, "made", "").contains('T'));
    let made =
        rig.sim.channels().into_iter().find(|channel| channel.display_name == "Channel made").unwrap().id;
    person.does("CreateOutcomeUnknown", 1, "made", &made);
    assert_eq!(id_of(&rig.reason("made", "Available").await), made);
    let channel = parked(&rig, "lost", false).await;
    let attempt = told(&channel, "Ready", AGAIN);
    person.does("CreateOutcomeUnknown", 2, "lost", &attempt);
    rig.reason("lost", "Available").await;
    assert_eq!(rig.sim.channel_count(), 4);

    rig.create("thief", json!({"channelId": made})).await;
    rig.reason("thief", "OwnershipConflict").await;
    person.does("OwnershipConflict", 0, "thief", "");
    assert!(rig.sim.channel(&made).is_some());

    let email = rig.sim.insert_channel(NewChannel::new(WORKSPACE, "email", "x"));
    rig.create("other", json!({"channelId": email})).await;
    rig.reason("other", "IdentityMismatch").await;
    person.does("IdentityMismatch", 0, "other", &by_hand(&rig, "chat", "x"));
    rig.reason("other", "Available").await;

    rig.sim.set(|behaviour| behaviour.normalise = true);
    let kept = json!({"config": {"inboundAddress": "Support@Nordic-Parts.dk"}});
    rig.create("fights", kept).await;
    rig.reason("fights", "NotConverging").await;
    rig.sim.set(|behaviour| behaviour.normalise = false);
    person.does("NotConverging", 0, "fights", "");
    rig.reason("fights", "Available").await;
    rig.sim.set(|behaviour| behaviour.normalise = true);
    rig.edit("fights", json!({"spec": {"config": {"inboundAddress": "Sales@Nordic-Parts.dk"}}})).await;
    rig.reason("fights", "NotConverging").await;
    person.does("NotConverging", 1, "fights", "");
    rig.has("fights", "Drifted", "DriftDetected").await;
    rig.reason("fights", "Available").await;
    rig.sim.set(|behaviour| behaviour.normalise = false);

    rig.sim.set(|behaviour| behaviour.provisioning = Provisioning::default().failing(1));
    rig.create("fails", json!({"provisioningRetry": {"limit": 0}})).await;
    rig.has("fails", "Stalled", "ProvisioningFailed").await;
    person.does("ProvisioningFailed", 0, "fails", "");
    rig.reason("fails", "Available").await;
    rig.sim.set(|behaviour| behaviour.provisioning = Provisioning::default());

    rig.sim.add_fault(Fault::on(Operation::TestChannel, Action::Reset { commit: true }).times(1));
    rig.annotate("made", "ohallo.eu/test-requested-at", "1").await;
    rig.has("made", "Connected", "TestOutcomeUnknown").await;
    person.does("TestOutcomeUnknown", 0, "made", "");
    rig.has("made", "Connected", "TestPassed").await;

    probed(&rig).await;
    let policy = Policy::strips_annotation(&rig, INTENT).await;
    rig.create("stripped", json!({})).await;
    rig.reason("stripped", "StatusNotStored").await;
    policy.lift().await;
    person.does("StatusNotStored", 0, "stripped", "");
    rig.reason("stripped", "Available").await;

    let channel = rig.ready("gone", json!({})).await;
    rig.sim.remove_channel(&id_of(&channel));
    rig.annotate("gone", LOOK, "1").await;
    rig.reason("gone", "ChannelNotFound").await;
    person.does("ChannelNotFound", 0, "gone", "");
    std::fs::write(person.shell.file("channel.yaml"), rig.manifest("gone", json!({})).to_string()).unwrap();
    person.does("ChannelNotFound", 1, "gone", "");
    assert_ne!(id_of(&rig.reason("gone", "Available").await), id_of(&channel));

    person.end();
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_out_of_a_deletion_that_is_blocked_is_one() {
    let two = Two::start().await;
    let claimed = two.rig.ready("claimed", json!({})).await;
    two.channel("claimant", json!({"channelId": id_of(&claimed)}));
    two.reason("claimant", "OwnershipConflict").await;
    let mut rig = two.rig;
    for name in ["suspended", "refused", "failing", "hidden", "forged", "kept", "locked"] {
        rig.ready(name, json!({})).await;
    }
    let channel = parked(&rig, "lost", false).await;
    let mut person = Person::new(&rig, BLOCKED);

    let attempt = told(&channel, "Ready", AGAIN);
    let channel = blocked(&rig, "lost", "CreateOutcomeUnknown").await;
    assert_eq!(told(&channel, BLOCKED, RELEASE), attempt);
    person.does("CreateOutcomeUnknown", 0, "lost", &attempt);
    rig.gone("lost").await;

    rig.edit("suspended", json!({"spec": {"suspend": true}})).await;
    blocked(&rig, "suspended", "Suspended").await;
    person.does("Suspended", 0, "suspended", "");
    rig.gone("suspended").await;

    for (name, code, reason) in [("refused", 403, "PermissionDenied"), ("failing", 503, "ApiUnavailable")] {
        let fault = rig.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(code)));
        blocked(&rig, name, reason).await;
        rig.sim.remove_fault(fault);
        rig.annotate(name, LOOK, "1").await;
        rig.gone(name).await;
    }

    let claimed = blocked(&rig, "claimed", "ClaimedByAnother").await;
    person.does("ClaimedByAnother", 0, "claimed", &told(&claimed, BLOCKED, CONFIRM));
    rig.gone("claimed").await;
    assert!(rig.sim.channel(&id_of(&claimed)).is_none());

    let left = rig.sim.channel_count();
    rig.sim.edit_key(&rig.key, |key| key.tenant = "other".into());
    let hidden = blocked(&rig, "hidden", "AbsenceNotProven").await;
    person.does("", 0, "hidden", &told(&hidden, BLOCKED, RELEASE));
    rig.gone("hidden").await;
    let forged = json!({"status": {"channelId": "no/id"}}).to_string();
    person
        .shell
        .run(&format!("kubectl patch channel forged --subresource=status --type=merge -p '{forged}'"));
    blocked(&rig, "forged", "AbsenceNotProven").await;
    person.does("", 0, "forged", "no/id");
    rig.gone("forged").await;
    assert_eq!(rig.sim.channel_count(), left, "what is released is left in oHallo");
    rig.sim.edit_key(&rig.key, |key| key.tenant = crate::rig::TENANT.into());

    rig.stop_operator().await;
    rig.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
    rig.start_operator().await;
    let channel = blocked(&rig, "kept", "KeyUnavailable").await;
    let id = told(&channel, BLOCKED, RELEASE);
    person.does("", 0, "kept", &id);
    rig.gone("kept").await;
    assert!(rig.sim.channel(&id).is_some());
    let id = id_of(&blocked(&rig, "locked", "KeyUnavailable").await);
    person.does("KeyUnavailable", 0, "", "");
    rig.gone("locked").await;
    assert!(rig.sim.channel(&id).is_none());
    person.end();
    rig.finish().await;
}
