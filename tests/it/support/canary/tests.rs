use std::process::Command;

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;

use super::*;

/// As a library would write it, not as [`forms`] does.
fn written(secret: &str) -> Vec<(&'static str, String)> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut url = reqwest::Url::parse("https://a/").unwrap();
    url.query_pairs_mut().append_pair("q", secret);
    let mut all = vec![
        ("raw", format!("x{secret}y")),
        ("hex", format!("0{hex}")),
        ("HEX", hex.to_uppercase()),
        ("form", url.to_string()),
        ("url", format!("a%20{}", percent(secret))),
        ("url", percent(secret).to_lowercase()),
        ("json", json!({"a": secret}).to_string()),
        ("json in json", json!({"a": json!({"b": secret}).to_string()}).to_string()),
        ("debug", format!("{:?}", Some(secret))),
        ("debug in json", json!([format!("{secret:?}")]).to_string()),
    ];
    for before in ["", "a", "ab", "abc"] {
        for after in ["", "d", "de", "def"] {
            let whole = format!("{before}{secret}{after}");
            all.push(("base64", STANDARD.encode(&whole)));
            all.push(("base64, no padding", STANDARD_NO_PAD.encode(&whole)));
            all.push(("base64url", URL_SAFE.encode(&whole)));
            all.push(("base64url, no padding", URL_SAFE_NO_PAD.encode(&whole)));
        }
    }
    all
}

fn percent(secret: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    secret.bytes().map(one).collect()
}

fn search_strings(secret: &[u8]) -> SearchStrings {
    let mut search_strings = SearchStrings::default();
    search_strings.secrets.push(Secret { value: secret.to_vec(), decoy: true });
    search_strings.build();
    search_strings
}

#[test]
fn a_secret_is_found_in_every_form() {
    for secret in ["can\"ary /+<&>\\\u{e9}\n1", "sf_live_v1_0123456789", "~~~???>>>"] {
        let search_strings = search_strings(secret.as_bytes());
        for (form, text) in written(secret) {
            assert!(!search_strings.found(text.as_bytes()).is_empty(), "{form}: {text}");
        }
        for (form, search_string) in forms(secret.as_bytes()) {
            let text = [b"before ".as_slice(), &search_string, b" after"].concat();
            assert!(!search_strings.found(&text).is_empty(), "{form}");
            let short = &search_string[..search_string.len() - 1];
            assert!(search_strings.found(short).is_empty(), "{form}: one byte less is another text");
        }
    }
    let binary = [0xff, 0xfe, 0, 1, 2, 3, 4, 0x80];
    assert!(!search_strings(&binary).found(STANDARD.encode(binary).as_bytes()).is_empty());
    assert!(!search_strings(&binary).found(b"fffe000102030480").is_empty());
}

#[test]
fn of_many_secrets_each_is_found_old_or_new_and_of_a_long_one_both_ends() {
    for number in 0..3 * FRESH {
        decoy(&format!("decoy-number-{number}-of-many"));
    }
    for number in 0..3 * FRESH {
        let place = format!("many {number}");
        scan(&place, format!("a decoy-number-{number}-of-many b"));
        assert!(of_decoys().iter().any(|leak| leak.place == place && leak.form == "raw"), "{number}");
    }
    let long: String = (0..2000).map(|number| format!("long-decoy-{number} ")).collect();
    decoy(&long);
    for part in [&long[..100], &long[long.len() - 100..]] {
        scan(part, STANDARD.encode(part));
        assert!(of_decoys().iter().any(|leak| leak.place == part), "{part}");
    }
}

#[test]
fn the_report_of_a_leak_holds_no_secret() {
    decoy("decoy-that-is-masked");
    decoy("decoy-beside-it-masked");
    scan("masked", "key=decoy-that-is-masked other=decoy-beside-it-masked.");
    let reported: Vec<_> = of_decoys().into_iter().filter(|leak| leak.place == "masked").collect();
    assert_eq!(reported.len(), 2);
    assert!(reported.iter().all(|leak| leak.around == "key=[secret] other=[secret]."), "{reported:?}");
}

/// Run by the next test alone: it must fail.
#[test]
#[ignore = "leaks a secret on purpose"]
fn leaks_into_the_log() {
    crate::support::harness::log();
    register("planted-secret-in-a-log");
    tracing::debug!(target: "ohallo_operator::planted", value = STANDARD.encode(" planted-secret-in-a-log"), "leaks");
    nothing_leaked();
}

#[test]
fn a_leak_into_the_log_fails_the_run_and_is_named_without_the_secret() {
    let run = |name: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--include-ignored", "--nocapture"]).output().unwrap()
    };
    let output = run("support::canary::tests::leaks_into_the_log");
    let reported =
        [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat();
    assert!(!output.status.success() && reported.contains("1 failed"), "{reported}");
    assert!(reported.contains("an operator's log") && reported.contains("base64"), "{reported}");
    assert!(reported.contains("ohallo_operator::planted"), "it names where: {reported}");
    let again = search_strings(b"planted-secret-in-a-log");
    assert!(again.found(reported.as_bytes()).is_empty(), "{reported}");
    assert!(run("support::canary::tests::the_report_of_a_leak_holds_no_secret").status.success());
}
