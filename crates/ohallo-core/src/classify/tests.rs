use super::*;
use crate::secret::ApiKey;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn answered(status: u16, body: &[u8]) -> Raw<'_> {
    Raw::Answered { status, retry_after: None, body: Ok(body) }
}

/// The class and kind that a call ends with, decoding included; `None` = done.
fn outcome(operation: Operation, raw: &Raw<'_>) -> Option<(Class, ErrorKind)> {
    let value = classify(operation, raw, &Redactor::none(), now());
    let done = match operation {
        Operation::GetChannel | Operation::Create | Operation::Update => {
            value.and_then(decode_channel).map(drop)
        }
        Operation::GetWorkspace => value.and_then(decode_workspace).map(drop),
        Operation::ListChannels => value.and_then(decode_channels).map(drop),
        _ => value.and_then(decode_ok).map(drop),
    };
    done.err().map(|error| (error.class, error.kind))
}

fn good_body(operation: Operation) -> &'static [u8] {
    match operation {
        Operation::GetChannel | Operation::GetWorkspace | Operation::Create | Operation::Update => {
            br#"{"id":"c1"}"#
        }
        Operation::ListChannels => br#"[{"id":"c1"}]"#,
        _ => br#"{"ok":true}"#,
    }
}

#[test]
fn every_refusal_has_its_class_whatever_the_call_and_the_body() {
    use Class::{Ambiguous, Rejected};
    use ErrorKind::{
        Forbidden, Invalid, NotFound, RateLimited, Refused, Unauthorized, Unavailable, Unexpected,
        Unsupported,
    };
    let listed = [
        (400, Rejected, Invalid),
        (401, Rejected, Unauthorized),
        (403, Rejected, Forbidden),
        (404, Rejected, NotFound),
        (405, Rejected, Unsupported),
        (409, Rejected, Invalid),
        (413, Rejected, Invalid),
        (415, Rejected, Invalid),
        (422, Rejected, Invalid),
        (429, Rejected, RateLimited),
        (501, Rejected, Unsupported),
        (301, Rejected, Unexpected),
        (302, Rejected, Unexpected),
        (307, Rejected, Unexpected),
        (308, Rejected, Unexpected),
        (303, Ambiguous, Unexpected),
        (408, Ambiguous, Unavailable),
        (500, Ambiguous, Unavailable),
        (502, Ambiguous, Unavailable),
        (503, Ambiguous, Unavailable),
        (504, Ambiguous, Unavailable),
        (520, Ambiguous, Unavailable),
        (599, Ambiguous, Unavailable),
    ];
    for &operation in Operation::VARIANTS {
        for status in (100..1000).filter(|status| !(200..300).contains(status)) {
            let others =
                [402, 406, 407, 410, 411, 412, 414, 416, 417, 421, 423, 424, 425, 426, 428, 431, 451];
            let reads_or_deletes = matches!(
                operation,
                Operation::GetChannel | Operation::GetWorkspace | Operation::ListChannels | Operation::Delete
            );
            let expected = match listed.iter().find(|(listed, ..)| *listed == status) {
                _ if status == 410 && reads_or_deletes => (Rejected, NotFound),
                _ if matches!(status, 301 | 302) && operation == Operation::Create => (Ambiguous, Unexpected),
                _ if others.contains(&status) => (Rejected, Refused),
                Some((_, class, kind)) => (*class, *kind),
                None if (500..600).contains(&status) => (Ambiguous, Unavailable),
                None => (Ambiguous, Unexpected),
            };
            for body in [Ok(good_body(operation)), Ok(b"<html>".as_slice()), Err(BodyFault::TooLarge)] {
                let raw = Raw::Answered { status, retry_after: None, body };
                assert_eq!(outcome(operation, &raw), Some(expected), "{operation:?} {status}");
            }
        }
    }
}

#[test]
fn faults_of_the_connection_have_their_class_whatever_the_call() {
    for &operation in Operation::VARIANTS {
        for (raw, expected) in [
            (Raw::NotConnected("x".into()), (Class::NotSent, ErrorKind::NotConnected)),
            (Raw::Untrusted("x".into()), (Class::NotSent, ErrorKind::Untrusted)),
            (Raw::Broken("x".into()), (Class::Ambiguous, ErrorKind::Broken)),
            (Raw::TimedOut, (Class::Ambiguous, ErrorKind::TimedOut)),
        ] {
            assert_eq!(outcome(operation, &raw), Some(expected), "{operation:?} {raw:?}");
        }
    }
}

#[test]
fn every_well_formed_success_is_done() {
    for &operation in Operation::VARIANTS {
        for status in [200, 201, 202, 299] {
            assert_eq!(outcome(operation, &answered(status, good_body(operation))), None, "{operation:?}");
        }
    }
}

#[test]
fn a_success_that_can_not_be_read_is_ambiguous() {
    for &operation in Operation::VARIANTS {
        for body in
            ["", "{", "<html>", "null", "7", "\"ok\"", "{}", "\u{0}", r#"{"ok":"true"}"#, r#"{"id":".."}"#]
        {
            let raw = answered(200, body.as_bytes());
            assert_eq!(
                outcome(operation, &raw),
                Some((Class::Ambiguous, ErrorKind::Unexpected)),
                "{operation:?} {body}"
            );
        }
        let deep = "[".repeat(100_000);
        let not_text = answered(200, &[0xff, 0xfe]);
        assert_eq!(
            outcome(operation, &answered(200, deep.as_bytes())),
            Some((Class::Ambiguous, ErrorKind::Unexpected))
        );
        assert_eq!(outcome(operation, &not_text), Some((Class::Ambiguous, ErrorKind::Unexpected)));
        for (fault, kind) in
            [(BodyFault::TooLarge, ErrorKind::Unexpected), (BodyFault::Broken("x".into()), ErrorKind::Broken)]
        {
            let raw = Raw::Answered { status: 200, retry_after: None, body: Err(fault) };
            assert_eq!(outcome(operation, &raw), Some((Class::Ambiguous, kind)));
        }
    }
}

#[test]
fn only_a_test_may_answer_that_it_is_not_ok() {
    let raw = answered(200, br#"{"ok":false}"#);
    assert_eq!(classify(Operation::Test, &raw, &Redactor::none(), now()).and_then(decode_ok), Ok(false));
    for operation in [Operation::Delete, Operation::StoreCredentials, Operation::RetryProvisioning] {
        let error = classify(operation, &raw, &Redactor::none(), now()).unwrap_err();
        assert_eq!((error.class, error.kind), (Class::Ambiguous, ErrorKind::Unexpected));
        assert_eq!(error.status, Some(200));
    }
}

#[test]
fn a_list_is_read_in_every_shape_and_without_its_unfit_entries() {
    for body in [
        r#"[{"id":"a"},{"id":"../x"},7,{"id":"b"}]"#,
        r#"{"items":[{"id":"a"},{"id":"b"}],"total":2}"#,
        r#"{"data":[{"id":"a"},{"id":"b"}],"nextCursor":"x"}"#,
    ] {
        let list =
            classify(Operation::ListChannels, &answered(200, body.as_bytes()), &Redactor::none(), now())
                .and_then(decode_channels)
                .unwrap();
        assert_eq!(list.iter().map(|channel| channel.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}

#[test]
fn a_retry_after_is_read_and_clamped() {
    for (header, seconds) in [
        ("0", Some(1)),
        ("1", Some(1)),
        ("7", Some(7)),
        (" 7 ", Some(7)),
        ("900", Some(900)),
        ("901", Some(900)),
        ("1000000000000000000", Some(900)),
        ("99999999999999999999999999999", Some(900)),
        ("-1", Some(1)),
        ("1.5", Some(1)),
        ("soon", Some(1)),
        ("Sun, 01 Mar 2026 11:00:00 GMT", Some(1)),
        ("Sun, 01 Mar 2026 12:00:30 GMT", Some(30)),
        ("Sun, 01 Mar 2026 23:00:00 GMT", Some(900)),
        ("Sunday, 01-Mar-26 12:00:30 GMT", Some(30)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(900)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(1)),
        ("2026-03-01T12:00:30Z", Some(1)),
        ("", None),
        ("  ", None),
    ] {
        assert_eq!(retry_after(header, now()), seconds.map(Duration::from_secs), "{header:?}");
    }
}

#[test]
fn a_retry_after_counts_only_on_429_and_503() {
    for status in [400, 404, 408, 429, 500, 502, 503, 301] {
        let raw = Raw::Answered { status, retry_after: Some("7"), body: Ok(b"") };
        let wait = classify(Operation::Update, &raw, &Redactor::none(), now()).unwrap_err().retry_after;
        assert_eq!(wait, matches!(status, 429 | 503).then_some(Duration::from_secs(7)), "{status}");
    }
}

#[test]
fn the_error_text_is_ohallos_own_where_there_is_one() {
    let text = |body: &[u8]| {
        classify(Operation::GetChannel, &answered(404, body), &Redactor::none(), now()).unwrap_err().text
    };
    assert_eq!(text(br#"{"error":"Channel not found"}"#), "Channel not found");
    for body in [r#"{"error":{"code":1}}"#, r#"{"error":""}"#, "<html>", "", "[]"] {
        assert_eq!(text(body.as_bytes()), "oHallo answered 404 without an error text");
    }
    let long = format!(r#"{{"error":"{}"}}"#, "é".repeat(5000));
    assert_eq!(text(long.as_bytes()).chars().count(), 1024);
}

#[test]
fn the_error_text_holds_the_key_of_its_call_in_no_form_and_nothing_else_is_taken_out() {
    let key = "sf_live_v1_a3Bx9kLmP2qR7wYz4nDfGhJk";
    let redactor = Redactor::of(&ApiKey::new(key.into()));
    let said = |operation, status, text: &str| {
        let body = serde_json::json!({ "error": text }).to_string();
        classify(operation, &answered(status, body.as_bytes()), &redactor, now()).unwrap_err().text
    };
    for &operation in Operation::VARIANTS {
        for status in [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 501, 503] {
            let hidden = operation == Operation::StoreCredentials || matches!(status, 401 | 403);
            for (text, shown) in [
                ("no such name".to_owned(), "no such name".to_owned()),
                (format!("bad <{key}>"), "bad <[redacted]>".to_owned()),
                (format!("bad <{}>", &key[..30]), format!("bad <{}>", &key[..30])),
                (format!("bad <{}>", &key[1..]), format!("bad <{}>", &key[1..])),
            ] {
                let shown = if hidden { String::new() } else { shown };
                assert_eq!(said(operation, status, &text), shown, "{operation:?} {status}");
            }
        }
    }
}

#[test]
fn an_operation_is_named_as_its_metrics_name_it_and_an_error_shows_its_text() {
    assert_eq!(Operation::RetryProvisioning.name(), "retry_provisioning");
    let error = ApiError::new(Class::NotSent, ErrorKind::NotConnected, "There is no connection.");
    assert_eq!(error.to_string(), "There is no connection.");
}

#[test]
fn an_id_in_another_case_is_the_same_channel_and_half_a_surrogate_pair_spoils_its_value_alone() {
    let (lower, upper) = ("d4e5f6a7-b8c9-0123-def0-456789abcdef", "D4E5F6A7-B8C9-0123-DEF0-456789ABCDEF");
    let body = format!(r#"{{"id":"{upper}","displayName":"\ud83d","config":{{"a":"\ud83d","b":1}}}}"#);
    let raw = Raw::Answered { status: 200, retry_after: None, body: Ok(body.as_bytes()) };
    let value = classify(Operation::GetChannel, &raw, &Redactor::none(), Timestamp::UNIX_EPOCH).unwrap();
    let found = expect_id(&Id::parse(lower).unwrap(), decode_channel(value).unwrap()).unwrap();
    assert_eq!(found.id.as_str(), upper, "it is called by the name that oHallo gives it");
    assert!(
        expect_id(&Id::parse("c1").unwrap(), RemoteChannel { id: Id::parse("C1").unwrap(), ..found.clone() })
            .is_err()
    );
    let declared = serde_json::json!({"a": "?", "b": 1}).as_object().cloned().unwrap();
    let differs = crate::channel::config::differences(&declared, &found.config);
    assert_eq!(differs.iter().map(|differs| differs.path.as_str()).collect::<Vec<_>>(), ["a"]);
    let overlaid = crate::channel::config::overlay(&Default::default(), &found.config);
    let sent = surrogates::restored(serde_json::to_vec(&overlaid).unwrap());
    assert_eq!(String::from_utf8(sent).unwrap(), r#"{"a":"\ud83d","b":1}"#);
}
