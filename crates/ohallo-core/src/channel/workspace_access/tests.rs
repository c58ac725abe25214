use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::workspace::{AllowedNamespaces, WorkspaceStatus};
use crate::failure::Retry;
use crate::remote::Id;
use crate::secret::ApiKey;

fn ready(status: &str) -> Vec<Condition> {
    vec![Condition {
        type_: kind::READY.into(),
        status: status.into(),
        reason: "AuthenticationFailed".into(),
        message: "The key is wrong.".into(),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }]
}

fn snapshot(conditions: Vec<Condition>) -> WorkspaceSnapshot {
    WorkspaceSnapshot {
        uid: "uid".into(),
        generation: Some(1),
        suspended: false,
        terminating: false,
        status: WorkspaceStatus { conditions, ..WorkspaceStatus::default() },
        allowed: None,
    }
}

fn key(uid: &str) -> CachedApiKey {
    CachedApiKey {
        uid: uid.into(),
        key: ApiKey::new("sf_live_v1_aaaaaaaa".into()),
        workspace_id: Id::parse("w").unwrap(),
        create_unsupported: None,
        has_created: false,
        has_read: false,
        list_unsupported: false,
    }
}

fn workspace() -> WorkspaceKey {
    WorkspaceKey { namespace: Some("ns".into()), name: "main".into() }
}

fn facts<'a>(
    workspace: &'a WorkspaceKey,
    snapshot: Option<&'a WorkspaceSnapshot>,
    key: Option<CachedApiKey>,
) -> Facts<'a> {
    Facts {
        workspace,
        snapshot,
        key,
        key_check_requested: false,
        serves_cluster_workspaces: true,
        namespace: "ns",
        labels: None,
        terminating: false,
        has_channel: false,
    }
}

/// The uid that the usable key was read for, or the reason and the kind of retry.
fn result(facts: Facts) -> Result<String, (Reason, Retry)> {
    facts.usable_key().map(|key| key.uid).map_err(|failure| (failure.reason, failure.retry))
}

fn deferred() -> Result<String, (Reason, Retry)> {
    let failure = Failure::deferred(KEY_CHECK);
    Err((failure.reason, failure.retry))
}

#[test]
fn a_living_channel_uses_the_verified_key_of_its_own_workspace() {
    let (name, verified) = (workspace(), snapshot(ready("True")));
    let own = || Some(key("uid"));
    assert_eq!(result(facts(&name, Some(&verified), own())), Ok("uid".into()));
    let unverified = snapshot(ready("Unknown"));
    assert_eq!(result(facts(&name, Some(&unverified), own())), Ok("uid".into()));
    // The cache does not show the verification yet.
    let blank = snapshot(Vec::new());
    assert_eq!(result(facts(&name, Some(&blank), own())), Ok("uid".into()));
    assert_eq!(result(facts(&name, Some(&blank), None)), deferred());
    assert_eq!(result(facts(&name, Some(&blank), Some(key("predecessor")))), deferred());
    assert_eq!(result(facts(&name, Some(&verified), Some(key("predecessor")))), deferred());
    assert_eq!(result(facts(&name, Some(&verified), None)), deferred());
    let refused = Facts { key_check_requested: true, ..facts(&name, Some(&verified), own()) };
    assert_eq!(result(refused), deferred());
}

#[test]
fn a_workspace_that_is_not_ready_missing_or_being_deleted_gives_no_key() {
    let name = workspace();
    let wrong = snapshot(ready("False"));
    let Err(failure) = facts(&name, Some(&wrong), Some(key("uid"))).usable_key() else { panic!() };
    assert_eq!((failure.reason, failure.retry), (Reason::WorkspaceNotReady, Retry::MissingInput));
    assert!(failure.message.contains("AuthenticationFailed: The key is wrong."), "{}", failure.message);
    let missing = Err((Reason::WorkspaceNotFound, Retry::MissingInput));
    assert_eq!(result(facts(&name, None, Some(key("uid")))), missing);
    let leaving = WorkspaceSnapshot { terminating: true, ..snapshot(ready("True")) };
    let of = |has_channel| Facts { has_channel, ..facts(&name, Some(&leaving), Some(key("uid"))) };
    assert_eq!(result(of(false)), Err((Reason::WorkspaceNotReady, Retry::MissingInput)));
    assert_eq!(result(of(true)), Ok("uid".into()));
}

#[test]
fn a_deletion_uses_the_last_valid_key_whatever_its_workspace_is_now() {
    let name = workspace();
    let (wrong, verified) = (snapshot(ready("False")), snapshot(ready("True")));
    for found in [None, Some(&wrong), Some(&verified)] {
        let of = |key| Facts { terminating: true, key_check_requested: true, ..facts(&name, found, key) };
        assert_eq!(result(of(Some(key("predecessor")))), Ok("predecessor".into()));
        assert!(result(of(None)).is_err());
    }
}

#[test]
fn a_cluster_workspace_serves_the_namespaces_that_it_allows() {
    let name = WorkspaceKey { namespace: None, name: "shared".into() };
    let not_allowed = Err((Reason::WorkspaceNotAllowed, Retry::UserAction));
    let missing = facts(&name, None, None);
    assert_eq!(result(missing), Err((Reason::WorkspaceNotFound, Retry::MissingInput)));
    let unserved = Facts { serves_cluster_workspaces: false, ..facts(&name, None, None) };
    assert_eq!(result(unserved), not_allowed);
    for (names, expected) in [(vec![], not_allowed.clone()), (vec!["ns".into()], Ok("uid".to_owned()))] {
        let allowed = Some(AllowedNamespaces { names, selector: None });
        let found = WorkspaceSnapshot { allowed, ..snapshot(ready("True")) };
        assert_eq!(result(facts(&name, Some(&found), Some(key("uid")))), expected);
    }
}

#[test]
fn a_channel_that_waits_for_its_key_rests_and_runs_in_turns_without_end() {
    let begun = crate::test_clock::instant();
    let at = |seconds| begun + Duration::from_secs(seconds);
    for (waited, rest) in
        [(0, Some(30)), (29, Some(30)), (30, None), (34, None), (35, Some(65)), (64, Some(65)), (65, None)]
    {
        assert_eq!(key_check_rest(begun, at(waited)), rest.map(at), "{waited} s");
    }
}

#[test]
fn a_living_channel_awaits_the_check_of_a_key_only_where_nothing_else_is_wrong() {
    let name = workspace();
    let (verified, unknown, blank, wrong) =
        (snapshot(ready("True")), snapshot(ready("Unknown")), snapshot(Vec::new()), snapshot(ready("False")));
    let own = || Some(key("uid"));
    for (found, held, first) in [
        (Some(&verified), None, true),
        (Some(&verified), Some(key("predecessor")), true),
        (Some(&unknown), None, true),
        (Some(&blank), None, true),
        (Some(&verified), own(), false),
        (Some(&wrong), None, false),
        (None, None, false),
    ] {
        assert_eq!(facts(&name, found, held.clone()).awaits_first_check(), first);
        let terminating = Facts { terminating: true, ..facts(&name, found, held) };
        assert!(!terminating.awaits_first_check());
    }
    for (found, terminating, again) in
        [(&verified, false, true), (&verified, true, false), (&wrong, false, false)]
    {
        let of = |key_check_requested| Facts {
            key_check_requested,
            terminating,
            ..facts(&name, Some(found), own())
        };
        assert_eq!((of(true).awaits_recheck(), of(false).awaits_recheck()), (again, false));
    }
    let leaving = WorkspaceSnapshot { terminating: true, ..snapshot(ready("True")) };
    assert!(!facts(&name, Some(&leaving), None).awaits_first_check());
}
