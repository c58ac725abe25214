//! The instructions of docs/safety.md, run on Channels in that state.

use std::collections::BTreeSet;

use ohallo_core::api::channel::Channel;
use ohallo_sim::{Action, Fault, NewChannel, Operation, Provisioning, Switch};
use serde_json::json;

use crate::support::admission::{Policy, probed};
use crate::support::harness::{Harness, WORKSPACE, id_of};
use crate::support::pages;
use crate::support::shell::Shell;
use crate::support::steps::CONFIRM_DELETION;
use crate::support::steps::{
    CREATE_AGAIN, CREATE_INTENT, RECONCILE_REQUESTED, RELEASE, insert_in_dashboard, unresolved_create,
    value_in_message,
};
use crate::support::two_namespaces::TwoNamespaces;

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
    fn new(harness: &Harness, part: &'static str) -> Self {
        let mut shell = Shell::new(harness.plane, &harness.namespace);
        shell.key.clone_from(&harness.key);
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

async fn blocked(harness: &Harness, name: &str, reason: &str) -> Channel {
    harness.delete(name).await;
    harness.has(name, BLOCKED, reason).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_documented_remedy_for_a_channel_that_is_not_ready_works() {
    let harness = Harness::start().await;
    let mut person = Person::new(&harness, READY);

    // First: once a create has succeeded, a 405 is one object's.
    harness.sim.set(|behaviour| behaviour.create = Switch::Status(405));
    harness.create("unsupported", json!({})).await;
    harness.reason("unsupported", "CreateUnsupported").await;
    let id = insert_in_dashboard(&harness, "chat", "Channel unsupported");
    person.does("CreateUnsupported", 0, "unsupported", &id);
    harness.reason("unsupported", "Available").await;
    harness.create("later", json!({})).await;
    harness.reason("later", "CreateUnsupported").await;
    harness.sim.set(|behaviour| behaviour.create = Switch::On);
    person.does("CreateUnsupported", 1, "later", "");
    harness.reason("later", "Available").await;

    unresolved_create(&harness, "made", true).await;
    assert!(person.does("CreateOutcomeUnknown", 0, "made", "").contains('T'));
    let created =
        harness.sim.channels().into_iter().find(|channel| channel.display_name == "Channel made").unwrap().id;
    person.does("CreateOutcomeUnknown", 1, "made", &created);
    assert_eq!(id_of(&harness.reason("made", "Available").await), created);
    let channel = unresolved_create(&harness, "lost", false).await;
    let attempt = value_in_message(&channel, "Ready", CREATE_AGAIN);
    person.does("CreateOutcomeUnknown", 2, "lost", &attempt);
    harness.reason("lost", "Available").await;
    assert_eq!(harness.sim.channel_count(), 4);

    harness.create("thief", json!({"channelId": created})).await;
    harness.reason("thief", "OwnershipConflict").await;
    person.does("OwnershipConflict", 0, "thief", "");
    assert!(harness.sim.channel(&created).is_some());

    let email = harness.sim.insert_channel(NewChannel::new(WORKSPACE, "email", "x"));
    harness.create("other", json!({"channelId": email})).await;
    harness.reason("other", "IdentityMismatch").await;
    person.does("IdentityMismatch", 0, "other", &insert_in_dashboard(&harness, "chat", "x"));
    harness.reason("other", "Available").await;

    harness.sim.set(|behaviour| behaviour.normalise = true);
    let kept = json!({"config": {"inboundAddress": "Support@Nordic-Parts.dk"}});
    harness.create("fights", kept).await;
    harness.reason("fights", "NotConverging").await;
    harness.sim.set(|behaviour| behaviour.normalise = false);
    person.does("NotConverging", 0, "fights", "");
    harness.reason("fights", "Available").await;
    harness.sim.set(|behaviour| behaviour.normalise = true);
    harness.edit("fights", json!({"spec": {"config": {"inboundAddress": "Sales@Nordic-Parts.dk"}}})).await;
    harness.reason("fights", "NotConverging").await;
    person.does("NotConverging", 1, "fights", "");
    harness.has("fights", "Drifted", "DriftDetected").await;
    harness.reason("fights", "Available").await;
    harness.sim.set(|behaviour| behaviour.normalise = false);

    harness.sim.set(|behaviour| behaviour.provisioning = Provisioning::default().failing(1));
    harness.create("fails", json!({"provisioningRetry": {"limit": 0}})).await;
    harness.has("fails", "Stalled", "ProvisioningFailed").await;
    person.does("ProvisioningFailed", 0, "fails", "");
    harness.reason("fails", "Available").await;
    harness.sim.set(|behaviour| behaviour.provisioning = Provisioning::default());

    harness.sim.add_fault(Fault::on(Operation::TestChannel, Action::Reset { commit: true }).times(1));
    harness.annotate("made", "ohallo.eu/test-requested-at", "1").await;
    harness.has("made", "Connected", "TestOutcomeUnknown").await;
    person.does("TestOutcomeUnknown", 0, "made", "");
    harness.has("made", "Connected", "TestPassed").await;

    probed(&harness).await;
    let policy = Policy::strips_annotation(&harness, CREATE_INTENT).await;
    harness.create("stripped", json!({})).await;
    harness.reason("stripped", "StatusNotStored").await;
    policy.lift().await;
    person.does("StatusNotStored", 0, "stripped", "");
    harness.reason("stripped", "Available").await;

    let channel = harness.ready("gone", json!({})).await;
    harness.sim.remove_channel(&id_of(&channel));
    harness.annotate("gone", RECONCILE_REQUESTED, "1").await;
    harness.reason("gone", "ChannelNotFound").await;
    person.does("ChannelNotFound", 0, "gone", "");
    std::fs::write(person.shell.file("channel.yaml"), harness.manifest("gone", json!({})).to_string())
        .unwrap();
    person.does("ChannelNotFound", 1, "gone", "");
    assert_ne!(id_of(&harness.reason("gone", "Available").await), id_of(&channel));

    person.end();
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_documented_remedy_for_a_blocked_deletion_works() {
    let two = TwoNamespaces::start().await;
    let claimed = two.harness.ready("claimed", json!({})).await;
    two.channel("claimant", json!({"channelId": id_of(&claimed)}));
    two.reason("claimant", "OwnershipConflict").await;
    let mut harness = two.harness;
    for name in ["suspended", "refused", "failing", "hidden", "forged", "kept", "locked"] {
        harness.ready(name, json!({})).await;
    }
    let channel = unresolved_create(&harness, "lost", false).await;
    let mut person = Person::new(&harness, BLOCKED);

    let attempt = value_in_message(&channel, "Ready", CREATE_AGAIN);
    let channel = blocked(&harness, "lost", "CreateOutcomeUnknown").await;
    assert_eq!(value_in_message(&channel, BLOCKED, RELEASE), attempt);
    person.does("CreateOutcomeUnknown", 0, "lost", &attempt);
    harness.wait_deleted("lost").await;

    harness.edit("suspended", json!({"spec": {"suspend": true}})).await;
    blocked(&harness, "suspended", "Suspended").await;
    person.does("Suspended", 0, "suspended", "");
    harness.wait_deleted("suspended").await;

    for (name, code, reason) in [("refused", 403, "PermissionDenied"), ("failing", 503, "ApiUnavailable")] {
        let fault = harness.sim.add_fault(Fault::on(Operation::DeleteChannel, Action::status(code)));
        blocked(&harness, name, reason).await;
        harness.sim.remove_fault(fault);
        harness.annotate(name, RECONCILE_REQUESTED, "1").await;
        harness.wait_deleted(name).await;
    }

    let claimed = blocked(&harness, "claimed", "ClaimedByAnother").await;
    person.does("ClaimedByAnother", 0, "claimed", &value_in_message(&claimed, BLOCKED, CONFIRM_DELETION));
    harness.wait_deleted("claimed").await;
    assert!(harness.sim.channel(&id_of(&claimed)).is_none());

    let left = harness.sim.channel_count();
    harness.sim.edit_key(&harness.key, |key| key.tenant = "other".into());
    let hidden = blocked(&harness, "hidden", "AbsenceNotProven").await;
    person.does("", 0, "hidden", &value_in_message(&hidden, BLOCKED, RELEASE));
    harness.wait_deleted("hidden").await;
    let forged = json!({"status": {"channelId": "no/id"}}).to_string();
    person
        .shell
        .run(&format!("kubectl patch channel forged --subresource=status --type=merge -p '{forged}'"));
    blocked(&harness, "forged", "AbsenceNotProven").await;
    person.does("", 0, "forged", "no/id");
    harness.wait_deleted("forged").await;
    assert_eq!(harness.sim.channel_count(), left, "what is released is left in oHallo");
    harness.sim.edit_key(&harness.key, |key| key.tenant = crate::support::harness::TENANT.into());

    harness.stop_operator().await;
    harness.secrets().delete("ohallo-api-key", &Default::default()).await.unwrap();
    harness.start_operator().await;
    let channel = blocked(&harness, "kept", "KeyUnavailable").await;
    let id = value_in_message(&channel, BLOCKED, RELEASE);
    person.does("", 0, "kept", &id);
    harness.wait_deleted("kept").await;
    assert!(harness.sim.channel(&id).is_some());
    let id = id_of(&blocked(&harness, "locked", "KeyUnavailable").await);
    person.does("KeyUnavailable", 0, "", "");
    harness.wait_deleted("locked").await;
    assert!(harness.sim.channel(&id).is_none());
    person.end();
    harness.finish().await;
}
