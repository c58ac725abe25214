//! The status to write before a call that must not be repeated: a crash can lose a call, and never sends two.

use crate::api::annotation;
use crate::api::channel::{ProvisioningStatus, TestStatus};
use crate::backoff;
use crate::channel::model::PlanInput;
use crate::text::{cut_request, seconds};

/// Before a connectivity test.
pub fn test(view: &PlanInput, request: String) -> TestStatus {
    let handled_request = if request.starts_with("change:") {
        view.status.test.as_ref().and_then(|test| test.handled_request.clone())
    } else {
        view.annotation(annotation::TEST_REQUESTED).map(cut_request)
    };
    TestStatus { request: Some(request), handled_request, ..TestStatus::default() }
}

/// Before a provisioning retry.
pub fn retry(view: &PlanInput, attempts: i64, request: Option<String>) -> ProvisioningStatus {
    let backoff = view.spec().provisioning_retry.clone().unwrap_or_default().backoff();
    let next = view.now.saturating_add(backoff::provisioning(backoff, attempts)).unwrap_or(view.now);
    ProvisioningStatus {
        attempts,
        last_attempt_at: Some(seconds(view.now)),
        next_attempt_at: Some(seconds(next)),
        handled_request: request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::channel::ProvisioningRetry;
    use crate::channel::fixtures::*;

    #[test]
    fn a_test_is_recorded_with_its_request_and_the_last_one_of_a_user() {
        let sample = Sample::bound().with(|it| {
            it.annotate(annotation::TEST_REQUESTED, "now");
            let before = TestStatus { handled_request: Some("before".into()), ..TestStatus::default() };
            it.status.test = Some(before);
        });
        for (request, handled) in [("now", "now"), ("change:abc", "before")] {
            let handled_request = Some(handled.to_owned());
            let expected =
                TestStatus { request: Some(request.into()), handled_request, ..TestStatus::default() };
            assert_eq!(test(&sample.view(), request.to_owned()), expected);
        }
    }

    #[test]
    fn a_retry_is_written_down_with_the_time_of_the_next() {
        for (declared, attempts, seconds_later) in
            [(None, 0, 60), (None, 2, 240), (Some(10), 1, 20), (Some(1), 0, 10), (Some(9000), 0, 1800)]
        {
            let sample = Sample::bound().with(|it| {
                let retry = ProvisioningRetry { backoff_seconds: declared, ..ProvisioningRetry::default() };
                it.channel.spec.provisioning_retry = declared.map(|_| retry);
            });
            let expected = ProvisioningStatus {
                attempts,
                last_attempt_at: Some(seconds(sample.now)),
                next_attempt_at: Some(seconds(sample.now + s(seconds_later))),
                handled_request: Some("r".into()),
            };
            assert_eq!(
                retry(&sample.view(), attempts, Some("r".into())),
                expected,
                "{declared:?} {attempts}"
            );
        }
    }
}
