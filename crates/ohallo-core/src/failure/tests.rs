use super::*;

fn refused(kind: ErrorKind, status: Option<u16>, retry_after: Option<u64>) -> Failure {
    let error = ApiError {
        status,
        retry_after: retry_after.map(Duration::from_secs),
        ..ApiError::new(Class::Rejected, kind, "their text.")
    };
    error.into()
}

#[test]
fn each_kind_has_its_reason_and_retry() {
    let until = |seconds| Retry::RetryAfter(Duration::from_secs(seconds));
    for (kind, status, retry_after, reason, need) in [
        (ErrorKind::NotConnected, None, None, Reason::ApiUnavailable, Retry::Backoff),
        (ErrorKind::Untrusted, None, None, Reason::ApiUnavailable, Retry::Backoff),
        (ErrorKind::Broken, None, None, Reason::ApiUnavailable, Retry::Backoff),
        (ErrorKind::TimedOut, None, None, Reason::ApiUnavailable, Retry::Backoff),
        (ErrorKind::Unavailable, Some(500), None, Reason::ApiUnavailable, Retry::Backoff),
        (ErrorKind::Unavailable, Some(408), None, Reason::ApiUnavailable, Retry::Backoff),
        (ErrorKind::Unavailable, Some(503), Some(30), Reason::ApiUnavailable, until(30)),
        (ErrorKind::RateLimited, Some(429), None, Reason::RateLimited, until(5)),
        (ErrorKind::RateLimited, Some(429), Some(900), Reason::RateLimited, until(900)),
        (ErrorKind::NotFound, Some(404), None, Reason::UnexpectedResponse, Retry::Backoff),
        (ErrorKind::Unauthorized, Some(401), None, Reason::AuthenticationFailed, Retry::UserAction),
        (ErrorKind::Forbidden, Some(403), None, Reason::PermissionDenied, Retry::UserAction),
        (ErrorKind::Invalid, Some(400), None, Reason::ValidationFailed, Retry::UserAction),
        (ErrorKind::Invalid, Some(409), None, Reason::ValidationFailed, Retry::UserAction),
        (ErrorKind::Invalid, Some(413), None, Reason::ValidationFailed, Retry::UserAction),
        (ErrorKind::Invalid, Some(422), None, Reason::ValidationFailed, Retry::UserAction),
        (ErrorKind::Refused, Some(402), None, Reason::Rejected, Retry::Backoff),
        (ErrorKind::Unsupported, Some(405), None, Reason::UnexpectedResponse, Retry::Backoff),
        (ErrorKind::Unsupported, Some(501), None, Reason::UnexpectedResponse, Retry::Backoff),
        (ErrorKind::Unexpected, Some(302), None, Reason::UnexpectedResponse, Retry::Backoff),
        (ErrorKind::Unexpected, Some(200), None, Reason::UnexpectedResponse, Retry::Backoff),
    ] {
        let failure = refused(kind, status, retry_after);
        assert_eq!((failure.reason, failure.retry), (reason, need), "{kind:?} {status:?}");
        assert_eq!(failure.class, Some(Class::Rejected));
        let message = &failure.message;
        assert!(message.ends_with('.') && !message.contains("..") && !message.contains('\n'), "{message}");
    }
}

#[test]
fn a_refusal_quotes_its_status_and_text() {
    for kind in [
        ErrorKind::Invalid,
        ErrorKind::NotFound,
        ErrorKind::Unsupported,
        ErrorKind::Unavailable,
        ErrorKind::Unexpected,
    ] {
        let message = refused(kind, Some(418), None).message;
        assert!(message.contains(" (418: their text)"), "{message}");
    }
    let said = |status, text: &str| {
        said(&ApiError { status, ..ApiError::new(Class::Rejected, ErrorKind::Invalid, text) })
    };
    assert_eq!(said(Some(400), " . "), " (400)");
    assert_eq!(said(None, "no."), " (no)");
    assert_eq!(said(None, ""), "");
}

#[test]
fn rejected_credentials_are_named_without_ohallos_text() {
    let keys: Vec<_> = ["apiKey", "webhook\nSecret"].map(str::to_owned).into();
    for (kind, status, expected) in [
        (
            ErrorKind::Invalid,
            422,
            r"oHallo rejected the credentials apiKey, webhook\nSecret (422): correct the values in their Secrets.",
        ),
        (
            ErrorKind::Unauthorized,
            401,
            r"oHallo rejected the credentials apiKey, webhook\nSecret (401): store a valid API key in the Secret of the Workspace.",
        ),
        (
            ErrorKind::Forbidden,
            403,
            r"oHallo rejected the credentials apiKey, webhook\nSecret (403): grant the API key the scope channels:write.",
        ),
    ] {
        let error = ApiError { status: Some(status), ..ApiError::new(Class::Rejected, kind, "") };
        let failure = Failure::of_credentials(error.clone().into(), &keys);
        assert_eq!(failure.message, expected);
        assert_eq!(
            (failure.reason, failure.retry),
            (Failure::from(error.clone()).reason, Failure::from(error).retry)
        );
    }
    let many: Vec<_> = (0..64).map(|number| format!("{number}{}", "k".repeat(250))).collect();
    let error = ApiError { status: Some(400), ..ApiError::new(Class::Rejected, ErrorKind::Invalid, "") };
    let message = Failure::of_credentials(error.into(), &many).message;
    assert!(message.len() < 1000 && message.contains("(64 in all)"), "{message}");
    let lost = ApiError::new(Class::Ambiguous, ErrorKind::TimedOut, "");
    assert_eq!(Failure::of_credentials(lost.clone().into(), &keys), Failure::from(lost));
}

#[test]
fn a_deferred_call_is_no_failed_call() {
    let failure = Failure::from(CallError::Deferred(Duration::from_secs(7)));
    assert_eq!(failure.retry, Retry::Deferred(Duration::from_secs(7)));
    assert_eq!(failure.class, None);
}

#[test]
fn the_chain_shows_each_cause_once_and_escaped() {
    let transport = "error sending request: tcp connect error: Connection refused";
    let unreachable = Failure::from(ApiError::new(Class::NotSent, ErrorKind::NotConnected, transport));
    assert_eq!(unreachable.chain(), format!("ApiUnavailable: {transport}"));
    assert!(unreachable.source().is_some_and(|source| source.to_string() == transport));

    let said = refused(ErrorKind::Invalid, Some(422), None);
    assert!(said.message.contains("their text"));
    assert_eq!(said.chain(), "ValidationFailed: oHallo answered 422", "no text of oHallo is in a log");

    let twice = std::io::Error::other(std::io::Error::other("a\nb"));
    let outer = Failure::transient(Reason::InternalError, "It failed.").caused_by(twice);
    assert_eq!(outer.chain(), "InternalError: a\\nb");
    assert_eq!(Failure::deferred(Duration::ZERO).chain(), "Progressing");
}

#[test]
fn a_failure_is_compared_without_its_source() {
    let failure = Failure::transient(Reason::InternalError, "It failed.");
    let [one, other] = ["a", "b"].map(|text| failure.clone().caused_by(std::io::Error::other(text)));
    assert_eq!(one, other);
}
