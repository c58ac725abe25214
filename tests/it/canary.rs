//! Secrets that must be found nowhere: in no log, status, event or metric, in no form.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};

/// Every form in which a secret could leak.
pub fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let json = serde_json::to_string(secret).unwrap();
    let url: String = secret
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    vec![
        secret.to_owned(),
        STANDARD.encode(secret),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE.encode(secret),
        hex,
        json.trim_matches('"').to_owned(),
        url,
    ]
}

/// The forms of `secrets` that `text` holds.
pub fn found(text: &str, secrets: &[String]) -> Vec<String> {
    secrets.iter().flat_map(|secret| forms(secret)).filter(|form| text.contains(form.as_str())).collect()
}

#[test]
fn finds_a_secret_in_every_form() {
    let secret = "can\"ary value/1".to_owned();
    for form in forms(&secret) {
        assert!(!found(&format!("x {form} y"), std::slice::from_ref(&secret)).is_empty(), "{form}");
    }
    assert!(found("nothing", &[secret]).is_empty());
}
