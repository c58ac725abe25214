//! When the operator sends credentials.

use super::*;

#[test]
fn missing_credentials_stop_a_channel_only_before_they_were_ever_sent() {
    let rows = [
        (missing(), None, (ConclusionKind::Failed(Retry::MissingInput), Reason::SecretNotFound)),
        (missing(), Some(("x", "1")), (ConclusionKind::InSync, Reason::Available)),
        (invalid(), None, (USER, Reason::SecretInvalid)),
        (invalid(), Some(("x", "1")), (USER, Reason::SecretInvalid)),
    ];
    for (declared, sent, says) in rows {
        assert_eq!(Sample::bound().with(|it| it.credentials(declared, sent)).says(), says);
    }
}

#[test]
fn credentials_are_sent_when_their_content_is_new() {
    let with = |content: &str, version: &str, sent: Option<(&str, &str)>| {
        Sample::bound().with(|it| it.credentials(ready(content, version), sent))
    };
    assert_eq!(with("x", "1", None).step(), Step::PushCredentials { id: id() });
    assert!(pushes(&with("y", "2", Some(("x", "1")))));
    assert!(!pushes(&with("x", "1", Some(("x", "1")))));
    assert!(!pushes(&with("x", "2", Some(("x", "1")))), "an edit of a label is no change");
    let none = with("x", "1", Some(("x", "1"))).with(|it| it.observed.credentials = DesiredCredentials::None);
    assert!(!pushes(&none));
}

#[test]
fn after_a_restart_credentials_are_sent_unless_the_status_shows_that_they_were() {
    let restarted = |edit: Edit| {
        Sample::bound()
            .with(|it| {
                it.credentials(ready("x", "1"), Some(("x", "1")));
                it.memory.last_push_digest = None;
                it.status.observed_generation = Some(1);
                said_applied(it, 1);
            })
            .with(edit)
    };
    let rows: [(&str, Edit, bool); 7] = [
        ("the same", |_| {}, false),
        ("version", |it| it.observed.credentials = ready("x", "2"), true),
        ("uid", |it| it.status.credentials.as_mut().unwrap().sources[0].uid = "other".into(), true),
        ("keys", |it| it.status.credentials.as_mut().unwrap().keys = vec!["b".into()], true),
        ("generation", |it| it.channel.metadata.generation = Some(2), true),
        (
            "generation, and a reconcile that failed since",
            |it| {
                it.channel.metadata.generation = Some(2);
                it.status.observed_generation = Some(2);
            },
            true,
        ),
        ("never said to be applied", |it| it.status.conditions.clear(), true),
    ];
    for (name, edit, due) in rows {
        assert_eq!(pushes(&restarted(edit)), due, "{name}");
    }
}

#[test]
fn many_keys_are_compared_as_far_as_the_status_lists_them() {
    let keys: Vec<String> = (100..200).map(|n| format!("k{n}")).collect();
    let sample = Sample::bound().with(|it| {
        it.credentials(ready("x", "1"), Some(("x", "1")));
        it.memory.last_push_digest = None;
        said_applied(it, 1);
        it.status.observed_generation = Some(1);
        it.status.credentials.as_mut().unwrap().keys = keys[..64].to_vec();
        it.observed.credentials =
            DesiredCredentials::Ready { digest: digest("x"), keys: keys.clone(), sources: vec![source("1")] };
    });
    assert!(!pushes(&sample));
}

#[test]
fn credentials_are_sent_again_when_a_late_request_can_no_longer_take_effect() {
    let mut sample = Sample::bound().with(|it| it.credentials(ready("x", "1"), Some(("x", "1"))));
    sample.memory.resend_credentials_at = Some(sample.instant + s(1));
    assert!(!pushes(&sample));
    sample.memory.resend_credentials_at = Some(sample.instant);
    assert!(pushes(&sample));
}

#[test]
fn a_known_active_channel_gets_new_credentials_and_nothing_else() {
    let known = |content: &str| {
        Sample::bound().with(|it| {
            it.credentials(ready(content, "2"), Some(("x", "1")));
            it.observed.remote = Remote::SkippedRead { next_look: s(300) };
            it.status.state = Some("active".into());
            let generation = it.view().generation();
            let mut writer = Writer::new(&mut it.status.conditions, generation, it.now);
            writer.set(kind::READY, Status::True, Reason::Available, "Active.");
            it.channel.spec.display_name = Some("Another".into());
        })
    };
    assert_eq!(known("y").step(), Step::PushCredentials { id: id() });
    assert_eq!(known("x").says(), (ConclusionKind::InSync, Reason::Available), "an edit of a label");
    let wake = known("x").settle().wake.unwrap();
    assert_eq!(wake, s(300), "the next regular read remains due");
    let rows: [(&str, Edit); 6] = [
        ("its finalizer is missing", |it| it.channel.metadata.finalizers = None),
        ("it was not Ready", |it| it.status.conditions[0].status = "False".into()),
        ("Ready spoke of an older manifest", |it| it.status.conditions[0].observed_generation = Some(0)),
        ("not reconciled yet", |it| it.status.conditions.clear()),
        ("it was busy", |it| it.status.state = Some("provisioning".into())),
        ("it is only observed", |it| it.channel.spec.management_policy = Some("Observe".into())),
    ];
    for (why, edit) in rows {
        assert_eq!(known("y").with(edit).says(), (TIME, Reason::Progressing), "{why}");
    }
}
