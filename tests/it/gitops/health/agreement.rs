//! The tools agree with one another in any state of a Channel, except where docs/gitops.md lists a difference.

use std::collections::BTreeSet;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::gitops::health::channels::{answered, transient};
use crate::gitops::health::{Health, assess, sets};
use ohallo_core::api;
use ohallo_core::api::channel::ChannelStatus;
use ohallo_core::api::conditions::{Reason, kind};
use ohallo_core::channel::fixtures::Sample;
use ohallo_core::channel::fixtures::arbitrary::odd;
use ohallo_core::channel::model::{Outcome, Plan};
use ohallo_core::failure::Failure;

const PAGE: &str = include_str!("../../../../docs/gitops.md");

/// How many odd Channels the tools assess, each after some reconciles.
const ODD: usize = 3000;

/// How the tools disagree about one object.
pub fn disagreement(object: &Value, health: &Health) -> Option<String> {
    let holds = |kind: &str, status: &str| {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|found| found["type"] == kind && found["status"] == status)
    };
    let (kstatus, flux, argo) = (health.kstatus.as_str(), health.flux.as_str(), health.argo.health.as_str());
    let ready = holds(kind::READY, "True");
    let one = match (kstatus, argo) {
        ("Current", "Healthy") => {
            ready
                && match flux {
                    "InProgress" => holds(kind::CREDENTIALS_APPLIED, "False"),
                    "Failed" => holds(kind::CONNECTED, "False"),
                    other => other == "Current",
                }
        }
        ("InProgress", "Progressing") => flux == "InProgress",
        ("Failed", "Degraded") => flux == "Failed",
        ("Current" | "InProgress", "Suspended") => {
            holds(kind::SUSPENDED, "True") && (kstatus == "Current") == ready
        }
        ("Terminating", "Progressing") => flux == "InProgress",
        ("Terminating", "Degraded") => flux == "Failed" && holds(kind::DELETION_BLOCKED, "True"),
        _ => false,
    };
    (!one).then(|| format!("kstatus {kstatus}, Argo CD {argo}, Flux {flux}: {object}"))
}

/// The conditions of an object: type, status and reason.
fn shown(object: &Value) -> BTreeSet<(String, String, String)> {
    let word = |condition: &Value, field: &str| condition[field].as_str().unwrap().to_owned();
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.map(|it| (word(it, "type"), word(it, "status"), word(it, "reason"))).collect()
}

/// A Channel in an arbitrary state, after reconciles with any outcome. It was Ready before, or is as the API server stored
/// it; a reconcile without news writes nothing.
fn any_channel(runner: &mut TestRunner) -> Value {
    let ends = proptest::collection::vec(proptest::prelude::any::<u8>(), 1..4);
    let begin = (odd(), proptest::prelude::any::<bool>(), ends);
    let (mut sample, was_ready, ends) = begin.new_tree(runner).unwrap().current();
    let first: ChannelStatus = match was_ready {
        true => Sample::bound().settle().status,
        false => serde_json::from_value(api::unseen()).unwrap(),
    };
    sample.status.observed_generation = first.observed_generation;
    sample.status.conditions = first.conditions;
    for end in ends {
        let summary = sample.summarize(&ended(&sample, end));
        sample.memory.failures = summary.failures;
        if !summary.silent {
            sample.status = summary.status;
        }
    }
    let mut channel = sample.channel;
    channel.status = Some(sample.status);
    serde_json::to_value(channel).unwrap()
}

fn ended(sample: &Sample, end: u8) -> Outcome {
    let mut failures: Vec<_> = transient().into_iter().map(|row| row.1).collect();
    failures.extend([401, 403, 422].map(|status| answered(status, None)));
    failures.push(Failure::missing_input(Reason::WorkspaceNotReady, "Its key was refused."));
    match (end % 4, failures.get(usize::from(end / 4))) {
        (0, Some(failure)) => Outcome::Failed(failure.clone()),
        // What is sent is sent for a channel that is there and is to stay.
        (1, Some(failure)) if !sample.view().terminating() => Outcome::PushFailed(failure.clone()),
        _ => match sample.plan() {
            Plan::Settled(verdict) => Outcome::Settled(verdict),
            Plan::Work(_) => Outcome::More,
        },
    }
}

#[test]
fn whatever_conditions_a_channel_may_have_are_in_a_set() {
    let in_sets: BTreeSet<_> = sets().iter().flat_map(|set| shown(&set.object)).collect();
    let mut runner = TestRunner::deterministic();
    let mut missing = BTreeSet::new();
    for _ in 0..4 * ODD {
        let object = any_channel(&mut runner);
        missing.extend(shown(&object).difference(&in_sets).cloned());
    }
    assert_eq!(missing, BTreeSet::new(), "conditions that no set has");
}

#[test]
fn the_page_has_a_row_for_the_healths_of_each_set_and_no_other() {
    let rows: BTreeSet<_> = PAGE.lines().filter_map(row).collect();
    let created: BTreeSet<_> = sets().iter().map(|set| set.tools.map(str::to_owned)).collect();
    assert_eq!(rows, created, "the table of docs/gitops.md | the sets");
}

/// kstatus, Argo CD and Flux of a row; what follows a comma is a remark.
fn row(line: &str) -> Option<[String; 3]> {
    let cells: Vec<_> = line.strip_prefix("| ")?.trim_end_matches(" |").split(" | ").collect();
    let &[_, kstatus, flux, argo] = cells.as_slice() else { return None };
    let words = [kstatus, argo, flux].map(|cell| cell.split(',').next().unwrap_or_default().to_owned());
    (kstatus != "kstatus").then_some(words)
}

#[test]
#[ignore = "builds Argo CD's Lua and Flux's health checks for minutes, once; .ci/full runs it"]
fn the_tools_agree_on_channels_in_any_state() {
    let mut runner = TestRunner::deterministic();
    let objects: Vec<_> = (0..ODD).map(|_| any_channel(&mut runner)).collect();
    let healths = assess(&objects);
    assert_eq!(healths.len(), ODD);
    let pairs = || objects.iter().zip(&healths);
    let disagreements: Vec<_> = pairs().filter_map(|(object, health)| disagreement(object, health)).collect();
    assert!(disagreements.is_empty(), "{} of {ODD}: {:#?}", disagreements.len(), disagreements.first());
    let reached: BTreeSet<_> =
        healths.iter().map(|health| [&health.kstatus, &health.argo.health, &health.flux]).collect();
    assert!(reached.len() >= 9, "not all is reached: {reached:?}");
}
