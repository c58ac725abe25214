// pure
//! Views that nobody would think of: every field is drawn by itself.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::channel::{CreateStatus, ProvisioningRetry, ProvisioningStatus, TestStatus};
use crate::channel::consistency::{Answer, Values};
use crate::channel::delete::claims::Wait;
use crate::index::Elsewhere;

/// Draws numbers from bytes; smaller bytes are the more ordinary choice, so that a failure shrinks towards one.
struct Dice<'a>(&'a [u8]);

pub fn odd() -> impl Strategy<Value = Sample> {
    prop::collection::vec(any::<u8>(), 92).prop_map(|bytes| draw(&mut Dice(&bytes)))
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#?}\n{:#?}\n{:#?}\n{:#?}", self.channel, self.status, self.observed, self.memory)
    }
}

impl Dice<'_> {
    fn of(&mut self, sides: u8) -> u8 {
        let (first, rest) = self.0.split_first().expect("enough bytes");
        self.0 = rest;
        first % sides
    }

    fn text(&mut self, choices: &[Option<&str>]) -> Option<String> {
        let chosen = self.of(u8::try_from(choices.len()).unwrap());
        choices[usize::from(chosen)].map(Into::into)
    }

    /// One time in `sides`.
    fn rarely(&mut self, sides: u8) -> bool {
        self.of(sides) == sides - 1
    }
}

fn draw(dice: &mut Dice) -> Sample {
    let mut sample = Sample::bound();
    manifest(&mut sample, dice);
    applied(&mut sample, dice);
    observed(&mut sample, dice);
    memory(&mut sample, dice);
    sample
}

fn manifest(it: &mut Sample, dice: &mut Dice) {
    let spec = &mut it.channel.spec;
    spec.channel_type = dice.text(&[Some("chat"), Some("chat"), Some("email"), None]);
    spec.display_name = dice.text(&[Some("Support"), Some("Support"), Some("Other"), None]);
    spec.suspend = dice.rarely(8).then_some(true);
    spec.management_policy = dice.text(&[None, Some("Manage"), None, Some("Observe")]);
    spec.drift_policy = dice.text(&[None, Some("Correct"), Some("Report")]);
    spec.deletion_policy = dice.text(&[None, Some("Delete"), Some("Retain"), Some("?")]);
    spec.connectivity_test = dice.text(&[None, Some("OnChange")]);
    spec.channel_id = dice.text(&[None, None, None, Some(ID), Some("c2"), Some("..")]);
    spec.enabled = [None, Some(true), Some(false)][usize::from(dice.of(3))];
    spec.config = match dice.of(8) {
        0..4 => None,
        4 | 5 => Some(map(json!({"a": 1}))),
        6 => Some(map(json!({"a": 2, "o": {"p": [1.0], "n": null}, "line\nbreak": "\u{202e}"}))),
        _ => Some(too_large()),
    };
    spec.interval_seconds = [None, Some(60), Some(i64::MIN)][usize::from(dice.of(3))];
    let limit = [None, Some(0), Some(i64::MAX)][usize::from(dice.of(3))];
    let backoff_seconds = [None, Some(10), Some(i64::MIN)][usize::from(dice.of(3))];
    spec.provisioning_retry = Some(ProvisioningRetry { limit, backoff_seconds });
    let metadata = &mut it.channel.metadata;
    metadata.generation = Some(1 + i64::from(dice.of(3)));
    if dice.rarely(5) {
        metadata.finalizers = None;
    }
    metadata.annotations = None;
    let intent = [Some(INTENT), Some(INTENT), None, Some("uid-0/3/2026-01-10T07:00:00Z"), Some("odd")];
    for (name, choices) in [
        (annotation::CREATE_INTENT, &intent[..]),
        (annotation::CREATE_AGAIN, &[None, None, Some("uid-1/1"), Some("uid-0/3"), Some("uid-1/0")]),
        (annotation::RELEASE, &[None, None, None, Some(ID), Some("uid-1/1"), Some("true")]),
        (annotation::CONFIRM_DELETION, &[None, None, None, Some("c1/uid-1"), Some(ID), Some("c1/uid-0")]),
        (annotation::TEST_REQUESTED, &[None, None, Some("t1")]),
        (annotation::RETRY_REQUESTED, &[None, None, Some("r1")]),
        (annotation::RECONCILE_REQUESTED, &[None, None, Some("q1")]),
    ] {
        if let Some(value) = dice.text(choices) {
            it.annotate(name, &value);
        }
    }
}

fn applied(it: &mut Sample, dice: &mut Dice) {
    let digest = it.view().digest();
    let status = &mut it.status;
    status.channel_id = dice.text(&[Some(ID), Some(ID), Some(ID), None, None, Some("..")]);
    status.bound_uid = dice.text(&[Some(UID), Some(UID), Some(UID), Some("uid-0"), None]);
    status.workspace_id = dice.text(&[Some("ws1"), Some("ws1"), Some("ws1"), Some("ws2"), None]);
    status.origin = dice.text(&[Some("Created"), Some("Created"), Some("Adopted"), None]);
    status.observed_generation = [None, Some(1), Some(2)][usize::from(dice.of(3))];
    let enabled = [None, Some(true), Some(false)][usize::from(dice.of(3))];
    let digest = Some(if dice.rarely(3) { "other".into() } else { digest });
    status.applied = (!dice.rarely(5)).then_some(AppliedStatus { enabled, digest });
    let outcome = dice.text(&[None, None, Some("Rejected"), Some("NotSent"), Some("Unknown"), Some("?")]);
    status.create = outcome.map(|outcome| CreateStatus {
        attempt: [1, 2, i64::MAX][usize::from(dice.0[0] % 3)],
        outcome,
        sent_at: None,
    });
    let next_attempt_at =
        dice.text(&[None, Some("2026-01-10T07:59:00Z"), Some("2026-01-10T08:05:00Z"), Some("odd")]);
    let attempts = [0, 2, 5, i64::MAX, i64::MIN][usize::from(dice.of(5))];
    let handled_request = dice.text(&[None, Some("r1")]);
    status.provisioning = (!dice.rarely(3)).then_some(ProvisioningStatus {
        attempts,
        last_attempt_at: None,
        next_attempt_at,
        handled_request,
    });
    let result = dice.text(&[Some("Passed"), Some("Failed"), Some("Unknown"), None, Some("?")]);
    let request = dice.text(&[None, Some("t1")]);
    status.test = dice.rarely(2).then_some(TestStatus {
        handled_request: request.clone(),
        request,
        result,
        finished_at: None,
    });
}

fn observed(it: &mut Sample, dice: &mut Dice) {
    let sent = [None, Some(("x", "1")), Some(("w", "1")), Some(("x", "2"))][usize::from(dice.of(4))];
    match dice.of(6) {
        0..2 => {}
        2 | 3 => it.credentials(ready("x", "1"), sent),
        4 => it.credentials(missing(), sent),
        _ => it.credentials(invalid(), sent),
    }
    let remote = it.remote();
    remote.status = dice.text(&[
        Some("active"),
        Some("active"),
        Some("provisioning"),
        Some("error"),
        Some("pending_dns"),
        None,
    ]);
    remote.channel_type = dice.text(&[Some("chat"), Some("chat"), Some("email"), None]);
    remote.workspace_id = dice.text(&[Some("ws1"), Some("ws1"), Some("ws1"), Some("ws2"), None]);
    remote.display_name = dice.text(&[Some("Support"), Some("Support"), Some("Their\nname "), None]);
    remote.config = [map(json!({})), map(json!({"a": 1})), map(json!({"a": "1", "o": 3}))]
        [usize::from(dice.of(3))]
    .clone();
    let observed = &mut it.observed;
    match dice.of(10) {
        0..5 => {}
        9 => observed.remote = Remote::Stale { again: s(4) },
        5 => observed.remote = Remote::Unread,
        8 => observed.remote = Remote::AsKnown { next_look: Duration::from_secs(300) },
        6 => observed.remote = Remote::Absent { proven: true },
        _ => observed.remote = Remote::Absent { proven: false },
    }
    match dice.of(8) {
        0..6 => {}
        6 => observed.place = Err(Failure::input(Reason::WorkspaceNotReady, "The workspace is not ready.")),
        _ => observed.place = Err(Failure::user(Reason::WorkspaceNotAllowed, "Not allowed.")),
    }
    if let Ok(place) = &mut observed.place {
        place.create_unsupported = dice.rarely(4);
    }
    observed.workspace_suspended = dice.rarely(8);
    observed.owner =
        [None, None, None, Some(None), Some(Some("winner".into()))][usize::from(dice.of(5))].clone();
    observed.candidates = if dice.rarely(2) { vec!["c7".into()] } else { Vec::new() };
    observed.updated = dice.rarely(4);
    observed.claims = Some(claims(dice));
    window(it, dice);
    if dice.rarely(3) {
        it.terminate();
        if dice.rarely(3) {
            it.observed.remote = Remote::Absent { proven: true };
        }
    }
}

/// Which reads may be older than a write.
fn window(it: &mut Sample, dice: &mut Dice) {
    let end = it.instant + s(20);
    let mut open = || dice.rarely(4).then_some(end);
    let (absence, retry, deleted, began) = (open(), open(), open(), open());
    let (declared, digest) = (it.view().values_digest(), "answered".to_owned());
    let values = match dice.of(8) {
        0..4 => None,
        4 => Some((declared, Answer::Shows(digest))),
        5 => Some((declared, Answer::Differs(digest))),
        6 => Some((declared, Answer::Lost)),
        _ => Some(("others".into(), Answer::Shows(digest))),
    };
    let values = values.map(|(declared, answer)| (end, Values { declared, answer }));
    it.observed.window = Window { absence, values, retry, deleted, began };
}

fn claims(dice: &mut Dice) -> Claims {
    let elsewhere = [None, Some(Elsewhere::Nobody), Some(Elsewhere::Named), Some(Elsewhere::Shown)];
    Claims {
        heir: [None, None, None, Some(None), Some(Some("heir".into()))][usize::from(dice.of(5))].clone(),
        outranked: dice.rarely(6),
        beside: if dice.rarely(4) { vec!["renamed".into(), "copy".into()] } else { Vec::new() },
        more: dice.rarely(8),
        elsewhere: elsewhere[usize::from(dice.of(4))],
    }
}

fn memory(it: &mut Sample, dice: &mut Dice) {
    let (instant, sent) = (it.instant, it.view().digest());
    let moment = |dice: &mut Dice| match dice.of(5) {
        0..2 => None,
        2 => Some(instant - s(40)),
        3 => Some(instant - s(10)),
        _ => Some(instant + s(20)),
    };
    let remote = Sample::bound().remote().clone();
    let memory = &mut it.memory;
    memory.failures = u32::from(dice.of(6));
    let long_ago = instant - s(400);
    let since = |dice: &mut Dice| [None, Some(long_ago), Some(instant)][usize::from(dice.of(3))];
    memory.wait = dice.rarely(3).then(|| Wait {
        began: [long_ago, instant][usize::from(dice.of(2))],
        beside: dice.rarely(2),
        beside_free: since(dice),
        free: since(dice),
        warned: dice.rarely(2),
    });
    memory.rights_asked = since(dice);
    memory.waiting_since = moment(dice);
    memory.credentials_again = moment(dice);
    memory.enabled_again = moment(dice);
    memory.absent = moment(dice).map(|since| Absence { id: ID.into(), to_delete: true, since });
    let outcome = match dice.of(12) {
        0..7 => None,
        7 => Some(AttemptOutcome::InFlight),
        8 => Some(AttemptOutcome::Answered(Box::new(remote))),
        9 => Some(AttemptOutcome::Rejected),
        10 => Some(AttemptOutcome::NotSent),
        _ => Some(AttemptOutcome::Unknown),
    };
    let number = 1 + i64::from(dice.of(2));
    memory.attempt = outcome.and_then(|outcome| attempt(number, outcome));
    memory.bound_here = dice.rarely(2);
    if dice.rarely(2) {
        memory.pushed = None;
    }
    memory.sent = dice.rarely(2).then_some(sent);
    memory.reverts.contested = dice.of(5) >= 3;
    memory.deleted = dice.rarely(6);
    memory.test_due = dice.rarely(2);
}
