use clap::{CommandFactory, Parser};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
}

/// Parses arguments as the command line gives them.
pub(crate) fn parse(args: &[&str]) -> Result<Settings, String> {
    let cli = Cli::try_parse_from([&["run"], args].concat()).map_err(|error| error.to_string())?;
    cli.settings.checked().map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_those_of_the_help() {
    let settings = parse(&[]).unwrap();
    assert_eq!(settings.api_url.as_str(), "https://api.ohallo.eu/");
    assert_eq!(settings.create_path, "/api/workspaces/{workspaceId}/channels");
    assert_eq!((settings.concurrency, settings.burst, settings.requests_per_second), (16, 20, 10.0));
    assert_eq!((settings.request_timeout.as_secs(), settings.create_timeout.as_secs()), (20, 60));
    let terms = settings.lease_durations();
    assert_eq!((terms.duration.as_secs(), terms.deadline.as_secs(), terms.retry.as_secs()), (60, 40, 5));
    assert!(!settings.leader_elect && settings.lease_name == "ohallo-operator");
    assert_eq!(settings.http_addr.to_string(), "0.0.0.0:8080");
    assert!(
        settings.namespaces.is_empty()
            && settings.serves_cluster_workspaces()
            && !settings.allow_insecure_api
    );
    assert_eq!(settings.log_format(true), LogFormat::Human);
    assert_eq!(settings.log_format(false), LogFormat::Json);
}

#[test]
fn every_setting_has_a_variable_and_a_help_text() {
    for arg in Cli::command().get_arguments() {
        let flag = arg.get_long().unwrap();
        let expected = format!("OHALLO_{}", flag.replace('-', "_").to_uppercase());
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
        assert!(arg.get_help().is_some() && arg.get_value_names().is_some(), "{flag}");
    }
}

#[test]
fn a_leader_stops_before_a_standby_takes_over_and_can_miss_a_renewal() {
    parse(&["--lease-duration-seconds=3", "--lease-renew-deadline-seconds=2", "--lease-retry-seconds=1"])
        .unwrap();
    for wrong in
        ["--lease-duration-seconds=40", "--lease-renew-deadline-seconds=60", "--lease-retry-seconds=40"]
    {
        assert!(parse(&[wrong]).err().unwrap().contains("must be longer than"), "{wrong}");
    }
    for wrong in ["--lease-retry-seconds=0", "--lease-duration-seconds=3601", "--lease-retry-seconds=5s"] {
        assert!(parse(&[wrong]).err().unwrap().contains("whole seconds"), "{wrong}");
    }
    assert!(parse(&["--lease-name=A"]).is_err());
    assert!(parse(&["--leader-elect"]).unwrap().leader_elect);
    assert!(!parse(&["--leader-elect=false"]).unwrap().leader_elect);
}

#[test]
fn namespaces_repeat_split_and_lose_their_duplicates() {
    let settings = parse(&["--namespace", "b,a", "--namespace=b"]).unwrap();
    assert_eq!(settings.namespaces, ["a", "b"]);
    assert!(!settings.serves_cluster_workspaces());
    assert!(parse(&["--namespace", "a", "--cluster-workspaces"]).unwrap().serves_cluster_workspaces());
    assert!(!parse(&["--cluster-workspaces=false"]).unwrap().serves_cluster_workspaces());
}

#[test]
fn zero_requests_a_second_is_no_limit() {
    assert_eq!(parse(&["--requests-per-second", "0"]).unwrap().total_rate(), None);
    assert!(parse(&["--requests-per-second", "0.5"]).unwrap().total_rate().is_some());
}

#[test]
fn the_rate_of_all_keys_has_a_default_unless_the_rate_of_a_key_has_no_limit() {
    for (flags, rate) in [
        (&[][..], Some(100.0)),
        (&["--requests-per-second=5"], Some(100.0)),
        (&["--requests-per-second=0"], None),
        (&["--requests-per-second=0", "--total-requests-per-second=7"], Some(7.0)),
        (&["--total-requests-per-second=0"], None),
        (&["--total-requests-per-second=0.5"], Some(0.5)),
    ] {
        assert_eq!(parse(flags).unwrap().total_rate(), rate, "{flags:?}");
    }
}

#[test]
fn plain_http_is_for_this_machine_or_by_flag() {
    for fine in ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:80", "https://sim.example/base"] {
        parse(&["--api-url", fine]).unwrap();
    }
    for far in ["http://10.0.0.1", "http://localhost.example", "http://api.ohallo.eu"] {
        assert!(parse(&["--api-url", far]).err().unwrap().contains("would send API keys unencrypted"));
        parse(&["--api-url", far, "--allow-insecure-api"]).unwrap();
    }
}

#[test]
fn a_bad_value_is_rejected_with_a_sentence() {
    for (flag, value, sentence) in [
        ("--api-url", "api.ohallo.eu", "write an address like https://api.ohallo.eu"),
        ("--api-url", "ftp://x", "must begin with https://"),
        ("--api-url", "https://a:b@x", "no user or password"),
        ("--api-url", "https://x/?a", "no ? and no #"),
        ("--api-url", "https://x#@evil.example", "no ? and no #"),
        ("--api-url", "https://x\\@evil.example", "no white space, no control characters and no \\"),
        ("--api-url", "https://x\n.evil.example", "no white space, no control characters"),
        ("--api-url", "https://x\t.evil.example", "no white space, no control characters"),
        ("--api-url", " https://x", "no white space"),
        ("--api-url", "https://x\u{a0}.evil.example", "no white space"),
        ("--api-url", "https:///", "write an address"),
        ("--api-url", "file:///etc/passwd", "must begin with https://"),
        ("--api-url", "https://api.ohallo.eu@evil.example", "no user or password"),
        ("--otlp-endpoint", "", "write an address like http://collector:4318"),
        ("--otlp-endpoint", "collector:4318", "must begin with http://"),
        ("--otlp-endpoint", "grpc://collector:4317", "must begin with http://"),
        ("--otlp-endpoint", "http://a:b@collector:4318", "no user, password, ? or #"),
        ("--otlp-endpoint", "http://collector:4318/?a", "no user, password, ? or #"),
        ("--otlp-endpoint", "http://collector:4318/#a", "no user, password, ? or #"),
        ("--create-path", "//evil.example/{workspaceId}", "not empty, . or .."),
        ("--create-path", "/a/../{workspaceId}", "not empty, . or .."),
        ("--create-path", "/%2e%2e/{workspaceId}", "letters, digits or -._~"),
        ("--create-path", "/a\\b/{workspaceId}", "letters, digits or -._~"),
        ("--create-path", "/a/{workspaceId}?x=y", "{workspaceId} once"),
        ("--create-path", "/a/{workspaceId}/b#c", "letters, digits or -._~"),
        ("--create-path", "/a@b/{workspaceId}", "letters, digits or -._~"),
        ("--create-path", "http://evil.example/{workspaceId}", "must begin with /"),
        ("--create-path", "api/{workspaceId}", "must begin with /"),
        ("--create-path", "/api/channels", "must contain {workspaceId} once"),
        ("--create-path", "/api/{workspaceId}x", "must contain {workspaceId} once"),
        ("--create-path", "/{workspaceId}/../x", "each part must be"),
        ("--create-path", "/{workspaceId}/a?b", "each part must be"),
        ("--create-path", "//{workspaceId}", "each part must be"),
        ("--namespace", "", "a namespace is"),
        ("--namespace", "a,,b", "a namespace is"),
        ("--namespace", "Upper", "a namespace is"),
        ("--operator-namespace", "-a", "a namespace is"),
        ("--concurrency", "0", "1..=1000"),
        ("--burst", "0", "1..=10000"),
        ("--requests-per-second", "-1", "0 for no limit"),
        ("--requests-per-second", "NaN", "0 for no limit"),
        ("--requests-per-second", "0.001", "0 for no limit"),
        ("--total-requests-per-second", "10001", "0 for no limit"),
        ("--total-requests-per-second", "-1", "0 for no limit"),
        ("--request-timeout", "20s", "whole seconds from 1 to 600"),
        ("--request-timeout", "0", "whole seconds from 1 to 600"),
        ("--create-timeout", "601", "whole seconds from 1 to 600"),
        ("--create-timeout", "5", "must not be shorter than --request-timeout"),
        ("--channel-selector", "a=b,", "is not a label key"),
        ("--workspace-selector", "a in (b", "brackets"),
        ("--http-addr", ":8080", "an IP address and a port"),
        ("--log-format", "xml", "json, human"),
        ("--cluster-workspaces", "maybe", "true, false"),
        ("--ca-file", "not-there.pem", "can't be read"),
        ("--proxy", "socks5://x", "--proxy must be a URL"),
    ] {
        let refused = parse(&[&format!("{flag}={value}")])
            .err()
            .unwrap_or_else(|| panic!("{flag}={value} was accepted"));
        assert!(refused.contains(sentence), "{flag}={value}: {refused}");
        assert!(refused.contains(flag), "{flag}={value}: {refused}");
    }
}

#[test]
fn traces_go_to_the_named_collector_and_else_nowhere() {
    for fine in ["http://collector:4318/", "https://collector.example/base"] {
        let settings = parse(&["--otlp-endpoint", fine]).unwrap();
        assert_eq!(settings.otlp_endpoint.as_ref().map(reqwest::Url::as_str), Some(fine));
    }
    assert_eq!(parse(&[]).unwrap().otlp_endpoint, None);
}

#[test]
fn a_proxy_is_never_quoted() {
    let refused = parse(&["--proxy", "hunter2"]).err().unwrap();
    assert!(!refused.contains("hunter2"), "{refused}");
    parse(&["--proxy", "http://user:hunter2@proxy.example:3128"]).unwrap();
}

#[test]
fn a_ca_file_must_hold_a_certificate() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    assert!(parse(&["--ca-file", path]).err().unwrap().contains("has no PEM certificate"));
    std::fs::write(path, "-----BEGIN PRIVATE KEY-----\n").unwrap();
    assert!(parse(&["--ca-file", path]).err().unwrap().contains("has no PEM certificate"));
    std::fs::write(path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    parse(&["--ca-file", path]).unwrap();
}
