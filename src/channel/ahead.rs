// pure
//! What the status says before a call whose repetition must be impossible is made: a crash can lose one, never send two.

use std::time::Duration;

use super::plan::{View, cut_request};
use super::status::seconds;
use crate::api::annotation;
use crate::api::channel::{ProvisioningStatus, TestStatus};
use crate::retry;

/// Before a connectivity test.
pub fn test(view: &View, request: String) -> TestStatus {
    let handled_request = if request.starts_with("change:") {
        view.status.test.as_ref().and_then(|test| test.handled_request.clone())
    } else {
        view.annotation(annotation::TEST_REQUESTED).map(cut_request)
    };
    TestStatus { request: Some(request), handled_request, ..TestStatus::default() }
}

/// Before a provisioning retry.
pub fn retry(view: &View, attempts: i64, request: Option<String>) -> ProvisioningStatus {
    let backoff = view.spec().provisioning_retry.as_ref().and_then(|retry| retry.backoff_seconds);
    let backoff = Duration::from_secs(backoff.unwrap_or(60).clamp(10, 3600).unsigned_abs());
    let next = view.now.saturating_add(retry::provisioning(backoff, attempts)).unwrap_or(view.now);
    ProvisioningStatus {
        attempts,
        last_attempt_at: Some(seconds(view.now)),
        next_attempt_at: Some(seconds(next)),
        handled_request: request,
    }
}
