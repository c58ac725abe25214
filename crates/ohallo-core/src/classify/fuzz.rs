//! Properties of every response, whatever its status, headers and body.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::fuzz::{body, config, document, object, text};

fn operation() -> impl Strategy<Value = Operation> {
    prop::sample::select(Operation::VARIANTS)
}

fn now() -> impl Strategy<Value = Timestamp> {
    (0..8_000_000_000_i64).prop_map(|second| Timestamp::from_second(second).unwrap())
}

/// The table of docs/safety.md, implemented independently.
fn class(operation: Operation, status: u16) -> Class {
    match status {
        301 | 302 if operation == Operation::Create => Class::Ambiguous,
        // Not registered, or with a special rule.
        408 | 418..=420 | 427 | 430 | 432..=450 | 452..=499 => Class::Ambiguous,
        400..=499 | 501 | 301 | 302 | 307 | 308 => Class::Rejected,
        _ => Class::Ambiguous,
    }
}

fn fit(id: &Value) -> bool {
    let Some(id) = id.as_str() else { return false };
    let plain = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '~' | '-');
    (1..=128).contains(&id.len()) && id.starts_with(plain) && id.chars().all(|c| plain(c) || c == '.')
}

/// Whether a success with this body confirms the call, implemented independently.
fn done(operation: Operation, value: &Value) -> bool {
    match operation {
        Operation::GetChannel | Operation::GetWorkspace | Operation::Create | Operation::Update => {
            fit(&value["id"])
        }
        Operation::ListChannels => {
            let wrapped = value.get("items").or_else(|| value.get("data"));
            value.is_array() || (value.is_object() && wrapped.is_some_and(Value::is_array))
        }
        Operation::Test => value["ok"].is_boolean(),
        Operation::StoreCredentials | Operation::Delete | Operation::RetryProvisioning => value["ok"] == true,
    }
}

fn outcome(operation: Operation, raw: &Raw<'_>, now: Timestamp) -> Result<Vec<Id>, ApiError> {
    let value = classify(operation, raw, &Redactor::none(), now)?;
    match operation {
        Operation::GetChannel | Operation::Create | Operation::Update => {
            decode_channel(value).map(|channel| vec![channel.id])
        }
        Operation::GetWorkspace => decode_workspace(value).map(|workspace| vec![workspace.id]),
        Operation::ListChannels => {
            decode_channels(value).map(|list| list.into_iter().map(|channel| channel.id).collect())
        }
        _ => decode_ok(value).map(|_| Vec::new()),
    }
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn no_header_and_no_body_moves_an_answer_out_of_its_class(
        operation in operation(), status in prop_oneof![100..200_u16, 300..1000_u16], header in text(), body in body(), now in now(),
    ) {
        let raw = Raw::Answered { status, retry_after: Some(&header), body: Ok(&body) };
        let error = outcome(operation, &raw, now).unwrap_err();
        prop_assert_eq!((error.class, error.status), (class(operation, status), Some(status)));
        let hidden = matches!(status, 401 | 403) || operation == Operation::StoreCredentials;
        prop_assert!(error.text.chars().count() <= MAX_TEXT_CHARS);
        prop_assert_eq!(error.text.is_empty(), hidden);
        prop_assert!(error.retry_after.is_none() || matches!(status, 429 | 503));
        prop_assert!(error.retry_after.is_none_or(|wait| (WAIT_MIN..=WAIT_MAX).contains(&wait)));
    }

    #[test]
    fn a_success_counts_only_with_a_matching_body(
        operation in operation(), status in 200..300_u16, body in body(), now in now(),
    ) {
        let raw = Raw::Answered { status, retry_after: None, body: Ok(&body) };
        let found = outcome(operation, &raw, now);
        let read = surrogates::from_slice(&body).ok();
        prop_assert_eq!(found.is_ok(), read.is_some_and(|value| done(operation, &value)));
        match found {
            Ok(ids) => prop_assert!(ids.iter().all(|id| fit(&id.as_str().into()))),
            Err(error) => prop_assert_eq!((error.class, error.kind), (Class::Ambiguous, ErrorKind::Unexpected)),
        }
    }

    #[test]
    fn a_channel_is_accepted_only_as_the_requested_one(
        asked in "[a-c]{1,2}", mut fields in object(), same in any::<bool>(), other in document(),
    ) {
        let id = if same { Value::from(asked.as_str()) } else { other };
        fields.insert("id".into(), id.clone());
        let asked = Id::parse(&asked).unwrap();
        let found = decode_channel(Value::Object(fields.clone())).and_then(|found| expect_id(&asked, found));
        prop_assert_eq!(found.is_ok(), id == asked.as_str());
        if let Ok(found) = found {
            let config = fields.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
            prop_assert_eq!(found.config, config);
            prop_assert_eq!(found.status.as_deref(), fields.get("status").and_then(Value::as_str));
        }
    }

    #[test]
    fn every_retry_after_is_between_a_second_and_a_quarter_of_an_hour(header in prop_oneof![text(), "[0-9 +.,-]{0,30}"], now in now()) {
        let wait = retry_after(&header, now);
        prop_assert_eq!(wait.is_none(), header.trim().is_empty());
        prop_assert!(wait.is_none_or(|wait| (WAIT_MIN..=WAIT_MAX).contains(&wait)));
        if let Ok(seconds) = header.trim().parse::<u128>() && !header.contains('+') {
            prop_assert_eq!(wait.map(|wait| u128::from(wait.as_secs())), Some(seconds.clamp(1, 900)));
        }
    }

    #[test]
    fn a_future_date_is_waited_for_within_the_same_bounds(now in now(), ahead in -4000..4000_i64) {
        let then = SystemTime::from(Timestamp::from_second((now.as_second() + ahead).max(0)).unwrap());
        let wait = retry_after(&httpdate::fmt_http_date(then), now).unwrap();
        let ahead = u64::try_from((now.as_second() + ahead).max(0) - now.as_second()).unwrap_or(0);
        prop_assert_eq!(wait.as_secs(), ahead.clamp(1, 900));
    }

    #[test]
    fn bytes_that_are_no_text_are_no_answer(operation in operation(), before in "[a-z ]{0,20}", bad in 0x80..=0xff_u8) {
        let head = br#"{"id":"c1","ok":true,"items":[],"note":""#;
        let body = [head, before.as_bytes(), &[bad], b"\"}"].concat();
        let raw = Raw::Answered { status: 200, retry_after: None, body: Ok(&body) };
        prop_assert!(outcome(operation, &raw, Timestamp::UNIX_EPOCH).is_err());
    }
}
