//! Plans by the state that oHallo reports.

use super::*;

#[test]
fn the_state_that_ohallo_reports_is_followed() {
    for (state, is, reason) in [
        (Some("active"), ConclusionKind::InSync, Reason::Available),
        (Some("provisioning"), SOON, Reason::Provisioning),
        (Some("pending_dns"), ConclusionKind::WaitingForRemote { longest: s(600) }, Reason::WaitingForDns),
        (Some("error"), ConclusionKind::RetryIn(s(60)), Reason::ProvisioningFailed),
        (Some("Active"), SOON, Reason::UnknownState),
        (Some("archived"), SOON, Reason::UnknownState),
        (None, SOON, Reason::UnknownState),
    ] {
        let sample = Sample::bound().with(|it| it.remote().status = state.map(Into::into));
        assert_eq!(sample.says(), (is, reason), "{state:?}");
    }
    let interval = |seconds| {
        let sample = Sample::bound().with(|it| it.channel.spec.interval_seconds = Some(seconds));
        sample.view().spec().interval()
    };
    assert_eq!((interval(-5), interval(90), interval(i64::MAX)), (s(60), s(90), s(86_400)));
}

#[test]
fn a_failed_provisioning_is_retried_when_due_and_not_over_the_limit() {
    let failed = |attempts: i64, next: Option<&str>, limit: Option<i64>| {
        Sample::bound().with(|it| {
            it.remote().status = Some("error".into());
            it.channel.spec.provisioning_retry = Some(ProvisioningRetry { limit, backoff_seconds: None });
            let next_attempt_at = next.map(Into::into);
            it.status.provisioning =
                Some(ProvisioningStatus { attempts, next_attempt_at, ..ProvisioningStatus::default() });
        })
    };
    let waits = |sample: Sample, rest: Duration| {
        assert_eq!(sample.says(), (ConclusionKind::RetryIn(rest), Reason::ProvisioningFailed));
    };
    waits(failed(0, None, None), s(60));
    waits(failed(2, None, None), s(240));
    waits(failed(1, Some("2026-01-10T08:00:30Z"), None), s(30));
    waits(failed(0, Some("no time"), None), s(60));
    for due in ["2026-01-10T08:00:00Z", "2026-01-10T07:00:00Z"] {
        let step = Step::Retry { id: id(), attempts: 2, request: None };
        assert_eq!(failed(1, Some(due), None).step(), step);
    }
    for (attempts, limit) in [(5, None), (9, None), (0, Some(0)), (20, Some(99)), (0, Some(-1))] {
        let over = failed(attempts, Some("2026-01-10T07:00:00Z"), limit);
        assert_eq!(over.says(), (USER, Reason::ProvisioningFailed), "{attempts} {limit:?}");
        assert!(over.verdict().message.contains(annotation::RETRY_REQUESTED));
    }
}

#[test]
fn a_stored_retry_time_of_another_clock_is_clamped_to_the_backoff_and_written_so() {
    let failed = |attempts: i64, next: &str| {
        Sample::bound().with(|it| {
            it.remote().status = Some("error".into());
            let provisioning =
                ProvisioningStatus { attempts, next_attempt_at: Some(next.into()), ..Default::default() };
            it.status.provisioning = Some(provisioning);
        })
    };
    // It is 08:00. The clock that wrote the time was ahead or behind, or the value is not a time.
    for (attempts, stored, rest, written) in [
        (0, "2026-01-10T08:00:59Z", 59, "2026-01-10T08:00:59Z"),
        (0, "2026-01-10T08:01:00Z", 60, "2026-01-10T08:01:00Z"),
        (0, "2026-01-10T08:05:00Z", 60, "2026-01-10T08:01:00Z"),
        (0, "2026-01-11T08:00:00Z", 60, "2026-01-10T08:01:00Z"),
        (2, "2027-01-10T08:00:00Z", 240, "2026-01-10T08:04:00Z"),
        (4, "9999-12-30T00:00:00Z", 960, "2026-01-10T08:16:00Z"),
        (0, "9999-99-99", 60, "2026-01-10T08:01:00Z"),
        (0, "", 60, "2026-01-10T08:01:00Z"),
        (-7, "2027-01-10T08:00:00Z", 60, "2026-01-10T08:01:00Z"),
    ] {
        let sample = failed(attempts, stored);
        assert_eq!(
            sample.says(),
            (ConclusionKind::RetryIn(s(rest)), Reason::ProvisioningFailed),
            "{attempts} {stored}"
        );
        let status = sample.settle().status;
        let next = status.provisioning.as_ref().and_then(|it| it.next_attempt_at.as_deref());
        assert_eq!(next, Some(written), "{attempts} {stored}");
        // The wait ends: a minute later the rest is a minute shorter.
        let later = sample.with(|it| {
            it.status = status.clone();
            it.now = it.now.checked_add(s(30)).unwrap();
        });
        assert_eq!(later.says().0, ConclusionKind::RetryIn(s(rest - 30)), "{attempts} {stored}");
    }
    for past in
        ["2026-01-10T07:59:59Z", "2025-01-10T08:00:00Z", "1970-01-01T00:00:00Z", "0000-01-01T00:00:00Z"]
    {
        assert!(matches!(failed(1, past).step(), Step::Retry { attempts: 2, .. }), "{past}");
        let over = failed(5, past);
        assert_eq!(over.says(), (USER, Reason::ProvisioningFailed), "no time buys a retry over the limit");
    }
    // A count below zero adds no retry either.
    assert!(matches!(failed(-7, "1970-01-01T00:00:00Z").step(), Step::Retry { attempts: 1, .. }));
}

#[test]
fn a_requested_retry_is_sent_once_and_resets_the_count() {
    let mut sample = Sample::bound().with(|it| {
        it.remote().status = Some("error".into());
        it.annotate(annotation::RETRY_REQUESTED, "now");
        it.status.provisioning = Some(ProvisioningStatus { attempts: 5, ..Default::default() });
    });
    let step = Step::Retry { id: id(), attempts: 1, request: Some("now".into()) };
    assert_eq!(sample.step(), step);
    sample.status.provisioning.as_mut().unwrap().handled_request = Some("now".into());
    assert_eq!(sample.says(), (USER, Reason::ProvisioningFailed));
}

#[test]
fn a_test_is_sent_once_per_value_of_the_annotation() {
    let mut sample = Sample::bound();
    sample.annotate(annotation::TEST_REQUESTED, "a");
    assert_eq!(sample.step(), Step::Test { id: id(), request: "a".into() });
    sample.status.test = Some(TestStatus { handled_request: Some("a".into()), ..Default::default() });
    assert_eq!(
        sample.says(),
        (ConclusionKind::InSync, Reason::Available),
        "also where its result is not known"
    );
    sample.annotate(annotation::TEST_REQUESTED, "b");
    assert_eq!(sample.step(), Step::Test { id: id(), request: "b".into() });
    sample.remote().status = Some("provisioning".into());
    assert_eq!(sample.says().1, Reason::Provisioning, "only an active channel is tested");
}

#[test]
fn a_change_is_tested_where_declared_and_never_for_email() {
    let changed = |policy: Option<&str>, channel_type: &str, due: bool| {
        Sample::bound().with(|it| {
            it.channel.spec.connectivity_test = policy.map(Into::into);
            it.channel.spec.channel_type = Some(channel_type.into());
            it.remote().channel_type = Some(channel_type.into());
            it.memory.test_due = due;
        })
    };
    let step = Step::Test { id: id(), request: "change:1".into() };
    assert_eq!(changed(Some("OnChange"), "voice", true).step(), step);
    for (policy, channel_type, due) in [
        (Some("OnChange"), "email", true),
        (Some("OnChange"), "voice", false),
        (Some("OnRequest"), "voice", true),
        (None, "voice", true),
    ] {
        assert_eq!(changed(policy, channel_type, due).says(), (ConclusionKind::InSync, Reason::Available));
    }
    let mut mail = changed(None, "email", false);
    mail.annotate(annotation::TEST_REQUESTED, "a");
    assert!(matches!(mail.step(), Step::Test { .. }), "a request is a person's own decision");
}
