use super::*;

fn one_of_each() -> Metrics {
    let metrics = Metrics::new();
    let took = Duration::from_millis(30);
    metrics.api_request("create", "done", took);
    metrics.rate_limited();
    metrics.limiter_wait("user", took);
    metrics.workqueue_add("Channel");
    metrics.workqueue_waited("Channel", took);
    metrics.workqueue_retry("Channel");
    metrics.reconciled("Channel", ohallo_core::api::values::ReconcileResult::InSync, took);
    metrics.deferred(Shortage::Token);
    metrics.time_to_ready("email", took);
    metrics.time_to_ready("carrier-pigeon", took);
    metrics.drift_detected("displayName");
    metrics.credential_push("ok");
    metrics.connectivity_test("chat", "passed");
    metrics.provisioning_retry("ok");
    std::mem::forget(metrics.id_unrecorded());
    metrics.status_rejected();
    metrics.write_not_stored("Channel");
    metrics.crd_fields_missing(3);
    metrics.panicked();
    metrics.leader(true);
    metrics.watch_restarted("Secret");
    metrics.id_orphaned();
    metrics.events_dropped(2);
    metrics
}

fn object() -> ObjectLabels {
    ObjectLabels { namespace: "web".into(), name: "a.b".into() }
}

fn condition(reason: &str) -> ConditionLabels {
    ConditionLabels {
        object: object(),
        condition: "Ready".into(),
        status: "True".into(),
        reason: reason.into(),
    }
}

fn census() -> Census {
    let label = |namespace: &str, reason: &str| ChannelLabels {
        namespace: namespace.into(),
        channel_type: "voice".into(),
        ready: "True".into(),
        reason: reason.into(),
    };
    Census {
        channels: [
            (label("support", "Available"), 3),
            (label("web", "x\"} 1\n"), 2),
            (label("web", "y z"), 1),
        ]
        .into(),
        workspaces: [(WorkspaceLabels { ready: "False".into(), reason: "SecretNotFound".into() }, 1)].into(),
        deletions_blocked: [("KeyUnavailable".to_owned(), 4)].into(),
        deletions_claimed: [("team-b".to_owned(), 2)].into(),
        queued: [(("Channel", "interactive"), 4)].into(),
        waiting: [("calls", 5)].into(),
        cached: [("secrets", 6)].into(),
        infos: [(InfoLabels { object: object(), channel_type: "chat".into(), ..InfoLabels::default() }, 1)]
            .into(),
        conditions: [(condition("Available"), 1), (condition("x\"} 1\n"), 1)].into(),
    }
}

const SERIES: &[&str] = &[
    "ohallo_api_request_duration_seconds_count{operation=\"create\"} 1",
    "ohallo_api_requests_total{operation=\"create\",class=\"done\"} 1",
    "ohallo_api_rate_limited_total 1",
    "ohallo_api_limiter_wait_seconds_count{lane=\"user\"} 1",
    "ohallo_workqueue_adds_total{kind=\"Channel\"} 1",
    "ohallo_workqueue_queue_duration_seconds_count{kind=\"Channel\"} 1",
    "ohallo_workqueue_retries_total{kind=\"Channel\"} 1",
    "ohallo_reconcile_total{kind=\"Channel\",result=\"in_sync\"} 1",
    "ohallo_reconcile_duration_seconds_count{kind=\"Channel\"} 1",
    "ohallo_reconcile_deferred_total{why=\"token\"} 1",
    "ohallo_channel_time_to_ready_seconds_count{type=\"email\"} 1",
    "ohallo_channel_time_to_ready_seconds_count{type=\"other\"} 1",
    "ohallo_drift_detected_total{field=\"displayName\"} 1",
    "ohallo_credential_pushes_total{result=\"ok\"} 1",
    "ohallo_connectivity_tests_total{type=\"chat\",result=\"passed\"} 1",
    "ohallo_provisioning_retries_total{result=\"ok\"} 1",
    "ohallo_ids_unrecorded 1",
    "ohallo_channel_ids_orphaned_total 1",
    "ohallo_status_rejected_total 1",
    "ohallo_writes_not_stored_total{kind=\"Channel\"} 1",
    "ohallo_crd_fields_missing 3",
    "ohallo_panics_total 1",
    "ohallo_leader 1",
    "ohallo_watch_restarts_total{kind=\"Secret\"} 1",
    "ohallo_build_info{version=\"",
    "ohallo_channels{namespace=\"support\",type=\"voice\",ready=\"True\",reason=\"Available\"} 3",
    "ohallo_workspaces{ready=\"False\",reason=\"SecretNotFound\"} 1",
    "ohallo_deletions_blocked{reason=\"KeyUnavailable\"} 4",
    "ohallo_deletions_claimed{namespace=\"team-b\"} 2",
    "ohallo_workqueue_depth{kind=\"Channel\",priority=\"interactive\"} 4",
    "ohallo_queue_depth{queue=\"calls\"} 5",
    "ohallo_cache_entries{cache=\"secrets\"} 6",
    "ohallo_channel_info{namespace=\"web\",name=\"a.b\",type=\"chat\",channel_id=\"\",state=\"\"} 1",
    "ohallo_channel_condition{namespace=\"web\",name=\"a.b\",condition=\"Ready\",status=\"True\",reason=\"Available\"} 1",
    "ohallo_channel_condition{namespace=\"web\",name=\"a.b\",condition=\"Ready\",status=\"True\",reason=\"other\"} 1",
    "ohallo_reconcile_active{kind=\"Channel\"} 1",
    "ohallo_events_dropped_total 2",
];

#[test]
fn every_metric_has_its_name_and_changes_in_both_formats() {
    let metrics = one_of_each();
    let active = metrics.reconciling("Channel");
    metrics.on_scrape(Box::new(census));
    for text in [metrics.encode().unwrap(), metrics.encode_plain().unwrap()] {
        for series in SERIES {
            assert!(text.lines().any(|line| line.starts_with(series)), "{series} is not in\n{text}");
        }
        let named = |name: &str| SERIES.iter().any(|series| series.starts_with(name));
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ohallo_")?.split(' ').next());
        for name in names {
            assert!(named(&format!("ohallo_{name}")), "SERIES lacks {name}");
        }
    }
    drop(active);
    assert!(metrics.encode().unwrap().contains("ohallo_reconcile_active{kind=\"Channel\"} 0"));
}

#[test]
fn a_forged_reason_adds_no_line_and_no_series() {
    let metrics = Metrics::new();
    metrics.on_scrape(Box::new(census));
    let text = metrics.encode().unwrap();
    let series = "ohallo_channels{namespace=\"web\",type=\"voice\",ready=\"True\",reason=\"other\"} 3";
    assert!(text.contains(series), "{text}");
}

#[test]
fn object_counts_are_absent_before_objects_can_be_counted() {
    let text = Metrics::new().encode().unwrap();
    assert!(!text.contains("ohallo_channels{"), "{text}");
}

#[test]
fn the_documentation_lists_exactly_the_metrics() {
    let metrics = one_of_each();
    drop(metrics.reconciling("Channel"));
    metrics.on_scrape(Box::new(census));
    let text = metrics.encode_plain().unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ohallo_")?.split(' ').next());
    let names: std::collections::BTreeSet<_> = names.map(|name| format!("ohallo_{name}")).collect();
    let document = include_str!("../../../docs/monitoring.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `ohallo_")?.split('`').next());
    let rows: std::collections::BTreeSet<_> = rows.map(|name| format!("ohallo_{name}")).collect();
    assert_eq!(rows, names);
}

#[test]
fn counters_that_alerts_use_are_zero_from_the_start() {
    let text = Metrics::new().encode().unwrap();
    for series in [
        "ohallo_drift_detected_total{field=\"config\"} 0",
        "ohallo_credential_pushes_total{result=\"error\"} 0",
        "ohallo_provisioning_retries_total{result=\"error\"} 0",
        "ohallo_channel_ids_orphaned_total 0",
        "ohallo_panics_total 0",
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
}

#[test]
fn two_operators_in_one_process_count_apart() {
    let (a, b) = (Metrics::new(), Metrics::new());
    a.panicked();
    assert!(a.encode().unwrap().contains("ohallo_panics_total 1"));
    assert!(b.encode().unwrap().contains("ohallo_panics_total 0"));
}

#[test]
fn the_plain_format_names_a_counter_by_its_sample_and_has_no_openmetrics_words() {
    let text = one_of_each().encode_plain().unwrap();
    assert!(text.contains("# TYPE ohallo_panics_total counter\n"), "{text}");
    assert!(text.contains("# TYPE ohallo_build_info gauge\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT") && !text.contains(" info\n"), "{text}");
    let names: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in &names {
        assert!(text.contains(&format!("\n{name}")), "{name} has no sample in\n{text}");
    }
}

#[test]
fn the_process_shows_its_memory_time_and_files() {
    let text = Metrics::new().encode().unwrap();
    for name in [
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
    }
}

#[test]
fn odd_proc_texts_have_no_value() {
    assert_eq!(scrape::resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048 * 1024));
    for odd in ["", "VmRSS:", "VmRSS: x kB", "VmRSS: 9223372036854775807 kB"] {
        assert_eq!(scrape::resident_bytes(odd), None, "{odd}");
    }
    assert_eq!(scrape::cpu_seconds("1 (a ) b) S 1 1 1 0 -1 0 1 1 1 1 250 50 0"), Some(3.0));
    for odd in ["", "1 (a) S", "1 (a) S 1 1 1 0 -1 0 1 1 1 1 x 50"] {
        assert_eq!(scrape::cpu_seconds(odd), None, "{odd}");
    }
}
