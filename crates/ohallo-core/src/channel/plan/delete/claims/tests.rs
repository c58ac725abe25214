use super::*;
use crate::api::finalizer;
use crate::channel::fixtures::*;
use crate::channel::model::{Conclusion, ConclusionKind, DeletionOutcome, Step};
use crate::failure::{Failure, Retry};

/// The planned step or conclusion.
#[derive(Debug, PartialEq)]
enum Does {
    Deletes,
    HandsOver,
    Retains,
    Waits,
    Blocked(Reason),
    BlockedFor(Duration),
}

fn does(sample: &Sample) -> Does {
    match sample.plan() {
        Plan::Work(Step::Delete { .. }) => Does::Deletes,
        Plan::Work(Step::RemoveFinalizer(DeletionOutcome::HandedOver)) => Does::HandsOver,
        Plan::Work(Step::RemoveFinalizer(DeletionOutcome::Retained | DeletionOutcome::Released)) => {
            Does::Retains
        }
        Plan::Settled(Conclusion { kind: ConclusionKind::Failed(Retry::Deferred(_)), .. }) => Does::Waits,
        Plan::Settled(Conclusion { kind: ConclusionKind::Blocked { .. }, reason, .. }) => {
            Does::Blocked(reason)
        }
        other => panic!("{other:?}"),
    }
}

const CLAIMED: Does = Does::Blocked(Reason::ClaimedByAnother);

/// A terminating Channel after reconciles that observed these claims, at the given seconds.
struct Deletion {
    sample: Sample,
    began: Instant,
}

impl Deletion {
    fn new() -> Self {
        let sample = Sample::terminating();
        Self { began: sample.instant, sample }
    }

    fn with(mut self, edit: impl FnOnce(&mut Sample)) -> Self {
        edit(&mut self.sample);
        self
    }

    /// A reconcile that observes these claims at this second; returns its step, and updates the status.
    fn at(&mut self, second: u64, claims: Claims) -> Does {
        self.sample.instant = self.began + s(second);
        let said = waiting_message(&self.sample.status).map(str::to_owned);
        note(&mut self.sample.memory, said.as_deref(), &claims, self.sample.instant);
        self.sample.observed.claims = Some(claims);
        let does = does(&self.sample);
        if matches!(does, Does::Blocked(_)) {
            let summary = self.sample.settle();
            self.sample.status = summary.status;
            if let Some(wait) = &mut self.sample.memory.wait {
                wait.warned |= summary.warns_of_claims;
            }
        }
        does
    }

    fn restart(&mut self) {
        self.sample.memory = InMemoryState::default();
    }
}

fn nobody() -> Claims {
    Claims { elsewhere: Some(Elsewhere::Nobody), ..Claims::default() }
}

fn beside() -> Claims {
    Claims { beside: vec!["renamed".into()], ..nobody() }
}

fn elsewhere() -> Claims {
    Claims { elsewhere: Some(Elsewhere::Shown), ..Claims::default() }
}

fn named_elsewhere() -> Claims {
    Claims { elsewhere: Some(Elsewhere::Named), ..Claims::default() }
}

fn confirm(it: &mut Sample) {
    it.annotate(annotation::CONFIRM_DELETION, &format!("{ID}/{UID}"));
}

#[test]
fn each_claim_and_what_it_means_for_a_deletion() {
    type Edit = fn(&mut Sample);
    let none: Edit = |_| {};
    let heir = |name: Option<&str>| Claims { heir: Some(name.map(Into::into)), ..beside() };
    let outranked = || Claims { outranked: true, ..nobody() };
    let rows: [(&str, Claims, Edit, Does); 20] = [
        ("nobody", nobody(), none, Does::Deletes),
        ("not asked elsewhere yet", Claims::default(), none, Does::Deletes),
        ("a Channel beside", beside(), none, CLAIMED),
        ("a Channel beside, confirmed", beside(), confirm, CLAIMED),
        ("a Channel beside, released", beside(), |it| it.annotate(annotation::RELEASE, ID), Does::Retains),
        ("a Channel beside, no key", beside(), no_key, CLAIMED),
        ("a Channel beside, suspended", beside(), |it| it.channel.spec.suspend = Some(true), CLAIMED),
        ("bound elsewhere or beside", heir(Some("renamed")), none, Does::HandsOver),
        ("bound, no key", heir(None), no_key, Does::HandsOver),
        ("bound, suspended", heir(None), |it| it.channel.spec.suspend = Some(true), Does::HandsOver),
        (
            "bound, Retain",
            heir(None),
            |it| it.channel.spec.deletion_policy = Some("Retain".into()),
            Does::Retains,
        ),
        ("another terminating one first", outranked(), none, Does::Waits),
        ("another namespace", elsewhere(), none, CLAIMED),
        ("another namespace, confirmed", elsewhere(), confirm, Does::Deletes),
        (
            "another namespace, confirmed for another object",
            elsewhere(),
            |it| it.annotate(annotation::CONFIRM_DELETION, "c1/uid-2"),
            CLAIMED,
        ),
        (
            "another namespace, confirmed for another channel",
            elsewhere(),
            |it| it.annotate(annotation::CONFIRM_DELETION, "c2/uid-1"),
            CLAIMED,
        ),
        (
            "another namespace, deletion protection only",
            elsewhere(),
            |it| it.annotate(annotation::CONFIRM_DELETION, ID),
            CLAIMED,
        ),
        (
            "another namespace, released",
            elsewhere(),
            |it| it.annotate(annotation::RELEASE, ID),
            Does::Retains,
        ),
        ("named in another namespace", named_elsewhere(), none, Does::Waits),
        ("named in another namespace, confirmed", named_elsewhere(), confirm, Does::Deletes),
    ];
    for (what, claims, edit, expected) in rows {
        assert_eq!(Deletion::new().with(edit).at(0, claims), expected, "{what}");
    }
    let unasked = Sample::terminating().with(|it| it.observed.claims = None);
    assert_eq!(does(&unasked), Does::Waits, "a reconcile that began with a living object");
}

fn no_key(it: &mut Sample) {
    it.observed.workspace = Err(Failure::missing_input(Reason::WorkspaceNotFound, "There is no Workspace."));
}

#[test]
fn a_right_that_is_not_shown_within_ten_seconds_is_none_and_is_waited_for_once() {
    let mut deletion = Deletion::new();
    assert_eq!(deletion.at(0, named_elsewhere()), Does::Waits);
    assert_eq!(deletion.at(9, named_elsewhere()), Does::Waits);
    assert_eq!(deletion.at(10, named_elsewhere()), Does::Deletes);
    let mut deletion = Deletion::new();
    assert_eq!(deletion.at(0, named_elsewhere()), Does::Waits);
    assert_eq!(deletion.at(9, nobody()), Does::Deletes);
    assert_eq!(
        deletion.at(11, named_elsewhere()),
        Does::Deletes,
        "a Channel that comes later buys no more time"
    );
}

#[test]
fn after_a_wait_the_delete_is_sent_when_the_id_was_unclaimed_for_five_minutes() {
    for claim in [beside, elsewhere] {
        let mut deletion = Deletion::new();
        assert_eq!(deletion.at(0, claim()), CLAIMED);
        assert_eq!(deletion.at(60, nobody()), CLAIMED);
        assert_eq!(deletion.at(359, nobody()), CLAIMED);
        assert_eq!(deletion.at(360, nobody()), Does::Deletes);
        let mut deletion = Deletion::new();
        assert_eq!(deletion.at(0, claim()), CLAIMED);
        assert_eq!(deletion.at(60, nobody()), CLAIMED);
        assert_eq!(deletion.at(300, claim()), CLAIMED, "it came back");
        assert_eq!(deletion.at(599, nobody()), CLAIMED);
        assert_eq!(deletion.at(898, nobody()), CLAIMED);
        assert_eq!(deletion.at(899, nobody()), Does::Deletes);
    }
}

#[test]
fn a_restart_forgets_no_wait() {
    for claim in [beside, elsewhere] {
        let mut deletion = Deletion::new();
        assert_eq!(deletion.at(0, claim()), CLAIMED);
        assert_eq!(deletion.at(200, nobody()), CLAIMED);
        deletion.restart();
        assert_eq!(deletion.at(400, nobody()), CLAIMED, "five minutes begin again");
        assert_eq!(deletion.at(699, nobody()), CLAIMED);
        assert_eq!(deletion.at(700, nobody()), Does::Deletes);
    }
}

#[test]
fn the_owners_confirmation_ends_a_wait_for_other_namespaces_and_not_for_its_own() {
    let mut deletion = Deletion::new();
    assert_eq!(deletion.at(0, elsewhere()), CLAIMED);
    deletion.restart();
    confirm(&mut deletion.sample);
    assert_eq!(deletion.at(1, elsewhere()), Does::Deletes, "also after a restart");
    assert_eq!(deletion.at(1, nobody()), Does::Deletes);
    let mut deletion = Deletion::new().with(confirm);
    assert_eq!(deletion.at(0, Claims { elsewhere: Some(Elsewhere::Shown), ..beside() }), CLAIMED);
    assert_eq!(deletion.at(10, elsewhere()), CLAIMED, "the claim beside has just ended");
    assert_eq!(deletion.at(309, elsewhere()), CLAIMED);
    assert_eq!(deletion.at(310, elsewhere()), Does::Deletes);
    let mut deletion = Deletion::new().with(confirm);
    assert_eq!(deletion.at(0, beside()), CLAIMED);
    deletion.restart();
    assert_eq!(deletion.at(10, nobody()), CLAIMED, "the message says that it was a claim beside");
}

#[test]
fn the_message_names_claimants_of_its_own_namespace_and_the_exact_command_and_nothing_of_another() {
    let said = |claims: Claims| {
        let mut deletion = Deletion::new();
        deletion.at(0, claims);
        waiting_message(&deletion.sample.status).unwrap().to_owned()
    };
    let many = Claims { beside: vec!["a".into(), "b".into(), "c".into()], more: true, ..nobody() };
    let message = said(many);
    for part in [
        "\"a\", \"b\", \"c\" and others",
        "kubectl annotate channels.ohallo.eu support -n ns",
        "ohallo.eu/release=c1",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let message = said(elsewhere());
    let command =
        "kubectl annotate channels.ohallo.eu support -n ns --overwrite ohallo.eu/confirm-deletion=c1/uid-1";
    assert!(
        message.ends_with(&format!("`{command}`.")) && message.contains("ohallo.eu/release=c1"),
        "{message}"
    );
    let mut deletion = Deletion::new();
    deletion.at(0, elsewhere());
    let status = deletion.sample.status.clone();
    for (second, claims) in [(1, nobody()), (2, elsewhere()), (3, named_elsewhere())] {
        assert_eq!(deletion.at(second, claims), CLAIMED);
        assert_eq!(deletion.sample.status, status, "it does not change with the claims");
    }
}

#[test]
fn a_message_fits_its_condition_whatever_the_names() {
    let mut deletion = Deletion::new().with(|it| {
        it.channel.metadata.name = Some("n".repeat(253));
        it.channel.metadata.namespace = Some("s".repeat(63));
        it.channel.metadata.uid = Some("u".repeat(36));
        it.status.bound_uid = Some("u".repeat(36));
        it.status.channel_id = Some("i".repeat(128));
    });
    deletion.at(0, elsewhere());
    let message = waiting_message(&deletion.sample.status).unwrap();
    assert!(
        message.ends_with(&format!("{}`.", "u".repeat(36))) && message.chars().count() < conditions::MESSAGE,
        "{message}"
    );
}

#[test]
fn a_warning_is_published_once_immediately_for_other_namespaces_and_after_five_minutes_for_its_own() {
    let warned = |deletion: &Deletion| deletion.sample.memory.wait.as_ref().is_some_and(|wait| wait.warned);
    let mut deletion = Deletion::new();
    deletion.at(0, elsewhere());
    assert!(warned(&deletion));
    assert!(!deletion.sample.settle().warns_of_claims, "once");
    let mut deletion = Deletion::new();
    for (second, expected) in [(0, false), (299, false), (300, true)] {
        deletion.at(second, beside());
        assert_eq!(warned(&deletion), expected, "{second}");
    }
    assert_eq!(deletion.sample.settle().warnings, []);
    let ready = deletion
        .sample
        .clone()
        .with(|it| it.channel.metadata.finalizers = Some(vec![finalizer::CHANNEL.into()]));
    assert!(!ready.settle().warns_of_claims);
}

#[test]
fn a_wait_is_requeued_when_its_warning_is_due() {
    let again = |deletion: &Deletion| match deletion.sample.plan() {
        Plan::Settled(Conclusion { kind: ConclusionKind::Blocked { again }, .. }) => Does::BlockedFor(again),
        other => panic!("{other:?}"),
    };
    let mut deletion = Deletion::new();
    deletion.at(0, beside());
    assert_eq!(again(&deletion), Does::BlockedFor(WAIT));
    deletion.at(100, beside());
    assert_eq!(again(&deletion), Does::BlockedFor(s(200)));
    deletion.at(400, nobody());
    assert_eq!(again(&deletion), Does::BlockedFor(WAIT));
    deletion.at(600, nobody());
    assert_eq!(again(&deletion), Does::BlockedFor(s(100)), "then it was unclaimed for long enough");
}
