//! The fields besides the conditions, and their possible values.

use super::*;

#[test]
fn facts_follow_the_channel_and_the_manifest() {
    let sample = Sample::bound().with(|it| {
        it.annotate(annotation::RECONCILE_REQUESTED, "r1");
        it.annotate(annotation::RETRY_REQUESTED, "r2");
        it.status.provisioning = Some(ProvisioningStatus { attempts: 3, ..Default::default() });
        it.status.planned_changes = vec!["update x".into()];
        it.status.create = Some(Default::default());
    });
    let status = sample.settle().status;
    assert_eq!(status.state.as_deref(), Some("active"));
    assert_eq!(status.created_at.as_deref(), Some("2026-01-10T07:00:01.000Z"));
    assert_eq!(status.read_with.as_deref(), Some("0123456789abcdef"));
    assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("r1"));
    let provisioning = status.provisioning.unwrap();
    assert_eq!((provisioning.attempts, provisioning.handled_request.as_deref()), (0, Some("r2")));
    assert_eq!((status.create, status.planned_changes.len()), (None, 0));
}

#[test]
fn a_retry_request_counts_as_handled_where_there_is_nothing_to_retry() {
    let observe: Edit = |it| it.channel.spec.management_policy = Some("Observe".into());
    let fail: Edit = |it| it.remote().status = Some("error".into());
    for (asked, handled, edit, expected) in [
        (None, None, (|_| {}) as Edit, None),
        (Some("b"), None, |_| {}, Some("b")),
        (Some("b"), Some("a"), |_| {}, Some("b")),
        (None, Some("a"), |_| {}, Some("a")),
        (Some("b"), None, fail, None),
        (Some("b"), Some("a"), fail, Some("a")),
        (Some("b"), None, observe, None),
    ] {
        let sample = Sample::bound().with(edit).with(|it| {
            if let Some(asked) = asked {
                it.annotate(annotation::RETRY_REQUESTED, asked);
            }
            it.status.provisioning = handled.map(|handled: &str| ProvisioningStatus {
                handled_request: Some(handled.into()),
                ..ProvisioningStatus::default()
            });
        });
        let provisioning = sample.summarize(&Outcome::More).status.provisioning;
        let found = provisioning.map(|it| it.handled_request.unwrap());
        assert_eq!(found.as_deref(), expected, "{asked:?} {handled:?}");
    }
}

#[test]
fn what_is_planned_is_shown_while_it_is_only_observed_and_as_it_was_last_found() {
    let planned = |sample: Sample, outcome: Option<Outcome>| {
        let sample = sample.with(|it| it.status.planned_changes = vec!["update x".into()]);
        let outcome = outcome.unwrap_or_else(|| Outcome::Settled(sample.verdict()));
        sample.summarize(&outcome).status.planned_changes
    };
    let observe: Edit = |it| it.channel.spec.management_policy = Some("Observe".into());
    let named: Edit = |it| it.channel.spec.display_name = Some("New".into());
    assert_eq!(planned(Sample::bound().with(observe).with(named), None), ["update displayName"]);
    assert!(planned(Sample::bound().with(observe), None).is_empty());
    assert_eq!(planned(Sample::unbound().with(observe), None), ["create channel"]);
    let unread: Edit = |it| it.observed.remote = Remote::Unread;
    assert_eq!(planned(Sample::bound().with(observe).with(unread), None), ["update x"]);
    let verdict = Conclusion { planned: vec!["update y".into()], ..Sample::bound().verdict() };
    assert!(planned(Sample::bound(), Some(Outcome::Settled(verdict))).is_empty(), "it is done, not planned");
}

#[test]
fn what_was_sent_is_forgotten_only_when_nothing_is_declared_any_more() {
    let none: Edit = |it| it.channel.spec.credentials.clear();
    let observe: Edit = |it| it.channel.spec.management_policy = Some("Observe".into());
    for (edits, kept) in [
        (&[][..], true),
        (&[none], false),
        (&[observe], true),
        (&[none, observe], false),
        (&[none, Sample::terminate], true),
    ] {
        let mut sample = Sample::bound().with(|it| it.credentials(ready("x", "1"), Some(("x", "1"))));
        edits.iter().for_each(|edit| edit(&mut sample));
        let status = sample.summarize(&Outcome::More).status;
        assert_eq!(status.credentials.is_some(), kept, "{:?}", sample.channel);
    }
}

#[test]
fn the_manifest_counts_as_applied_only_after_a_confirming_read() {
    let changed: Edit = |it| it.channel.spec.display_name = Some("New".into());
    let digest =
        |sample: &Sample| sample.summarize(&Outcome::More).status.applied.and_then(|applied| applied.digest);
    let seen = Sample::bound().with(changed).with(|it| it.remote().display_name = Some("New".into()));
    assert_eq!(digest(&seen), Some(seen.view().digest()));
    let unseen = Sample::bound().with(changed);
    assert_ne!(digest(&unseen), Some(unseen.view().digest()));
    let observed = seen.with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    assert_ne!(digest(&observed), Some(observed.view().digest()));
}

#[test]
fn the_deletion_policy_in_force_is_shown() {
    for (policy, origin, expected) in
        [(None, "Created", "Delete"), (None, "Adopted", "Retain"), (Some("Retain"), "Created", "Retain")]
    {
        let sample = Sample::bound().with(|it| {
            it.channel.spec.deletion_policy = policy.map(Into::into);
            it.status.origin = Some(origin.into());
        });
        assert_eq!(sample.settle().status.deletion_policy.as_deref(), Some(expected));
    }
}

#[test]
fn values_from_outside_are_cleaned_and_cut_to_the_bounds_of_the_crd() {
    let long = "ä\u{1}".repeat(300);
    let sample = Sample::bound().with(|it| {
        it.channel.spec.drift_policy = Some("Report".into());
        it.config(
            json!({ (long.clone()): long.clone(), "b": {"c": long.clone()} }),
            json!({"b": long.clone()}),
        );
        it.applied();
        let remote = it.remote();
        remote.created_at = Some(long.clone());
        remote.display_name = Some(long.clone());
    });
    let fits = |text: Option<&String>, max: usize| {
        let text = text.unwrap();
        assert!(text.chars().count() <= max && !text.chars().any(char::is_control), "{text}");
    };
    let status = sample.settle().status;
    fits(status.created_at.as_ref(), 64);
    assert_eq!(status.drift.len(), 3);
    for entry in &status.drift {
        fits(Some(&entry.path), 256);
        fits(entry.declared.as_ref(), 128);
        fits(entry.actual.as_ref().or(Some(&String::new())), 128);
    }
    let observed = sample.clone().with(|it| it.channel.spec.management_policy = Some("Observe".into()));
    for line in &observed.settle().status.planned_changes {
        fits(Some(line), 256);
    }
    let strange = sample.with(|it| it.remote().status = Some(long.clone()));
    let status = strange.settle().status;
    fits(status.state.as_ref(), 128);
    fits(conditions::find(&status.conditions, kind::READY).map(|ready| &ready.message), 1024);
}

#[test]
fn only_values_from_ohallo_are_redacted_and_only_the_whole_key() {
    let key = "sf_live_v1_quoted";
    let redactor = Redactor::of(&ApiKey::new(key.into()));
    let setting = SummaryInput { random: 0.0, redactor: &redactor, interval: INTERVAL };
    for (actual, shown) in [(key, "[redacted]"), (&key[1..], &key[1..]), (&key[..16], &key[..16])] {
        let sample = Sample::bound().with(|it| {
            it.channel.spec.display_name = Some(format!("declared {key}"));
            it.channel.spec.drift_policy = Some("Report".into());
            it.status.applied = Some(AppliedStatus { digest: Some(it.view().digest()), enabled: None });
            it.remote().display_name = Some(actual.into());
        });
        let status = summarize(&sample.view(), &Outcome::Settled(sample.verdict()), &setting).status;
        let [entry] = status.drift.as_slice() else { panic!("{:?}", status.drift) };
        let declared = format!("declared {key}");
        assert_eq!((entry.declared.as_ref(), entry.actual.as_deref()), (Some(&declared), Some(shown)));
    }
}

#[test]
fn what_a_tenant_wrote_is_escaped_and_cut_and_never_redacted() {
    let key = "sf_live_v1_guessed";
    let redactor = Redactor::of(&ApiKey::new(key.into()));
    let setting = SummaryInput { random: 0.0, redactor: &redactor, interval: INTERVAL };
    let planned = |guess: &str| {
        let sample = Sample::bound().with(|it| {
            it.channel.spec.management_policy = Some("Observe".into());
            it.channel.spec.config = Some([(guess.to_owned(), 1.into())].into_iter().collect());
        });
        summarize(&sample.view(), &Outcome::Settled(sample.verdict()), &setting).status.planned_changes
    };
    for guess in [key, &key[..12], &key[..17], "sf_live_v1_other"] {
        assert_eq!(planned(guess), [format!("update config.{guess}")]);
    }
    let refused = Failure::user_action(Reason::ValidationFailed, format!("The config names {key}\n."));
    let status = summarize(&Sample::bound().view(), &Outcome::Failed(refused), &setting).status;
    let said = &conditions::find(&status.conditions, kind::READY).unwrap().message;
    assert_eq!(*said, format!(r"The config names {key}\n."));
}

#[test]
fn the_next_retry_is_written_once() {
    let sample = Sample::bound().with(|it| it.remote().status = Some("error".into()));
    let first = sample.settle().status;
    assert_eq!(
        first.provisioning.as_ref().and_then(|it| it.next_attempt_at.as_deref()),
        Some("2026-01-10T08:01:00Z")
    );
    let later =
        Sample { status: first.clone(), ..sample }.with(|it| it.now += jiff::SignedDuration::from_secs(20));
    let second = later.settle();
    assert_eq!((second.status, second.wake), (first, Some(s(40))));
}
