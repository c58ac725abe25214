//! The rows of the fault matrix, and the tests from before it that cover one. A test that is named after its rows
//! (`f03_f05_…`) need not be listed.

use std::process::Command;

struct Row {
    id: &'static str,
    fault: &'static str,
    /// Tests under other names.
    also: &'static [&'static str],
}

const fn row(id: &'static str, fault: &'static str, also: &'static [&'static str]) -> Row {
    Row { id, fault, also }
}

const ROWS: &[Row] = &[
    row("F1", "killed before and after the n-th Kubernetes write", &[]),
    row("F2", "killed before and after the n-th write to oHallo", &[]),
    row(
        "F3",
        "an answer is lost, before or after the call took effect",
        &[
            "channel::create_responses::a_create_with_an_inconclusive_response_is_never_repeated",
            "channel::unresolved_creates::a_channel_created_by_a_call_whose_response_was_lost_is_adopted_when_it_is_named",
        ],
    ),
    row(
        "F4",
        "a call takes effect late, also after the object's deletion",
        &[
            "channel::unresolved_creates::an_operator_that_stops_during_the_call_leaves_an_unresolved_create_and_its_late_response_is_bound",
        ],
    ),
    row(
        "F5",
        "5xx, before or after the call took effect",
        &["channel::deletion_edge_cases::a_delete_whose_response_was_lost_is_retried_and_its_absence_proven"],
    ),
    row(
        "F6",
        "2xx with garbage, no id, a wrong type, 1 GiB, a gzip bomb, without end",
        &[
            "channel::create_responses::a_create_with_an_inconclusive_response_is_never_repeated",
            "hostile::inputs::an_answer_with_a_hostile_id_or_about_another_channel_is_believed_by_no_call",
        ],
    ),
    row("F7", "no accept, no headers, one byte a second", &[]),
    row(
        "F8",
        "429 with Retry-After 0, 10^18, -1, a past date, text",
        &["channel::read_and_update_responses::rate_limits_pause_and_keep_what_is_ready"],
    ),
    row(
        "F9",
        "301 to 308 to another origin",
        &[
            "channel::create_responses::a_redirected_create_is_not_followed_and_succeeds_once_the_redirect_ends",
        ],
    ),
    row(
        "F10",
        "401 then 200, 403, a revoked key",
        &[
            "channel::read_and_update_responses::a_revoked_key_stops_the_channels_calls_until_it_is_valid_again",
            "workspace::api_keys::a_revoked_key_is_reported_by_the_workspace_and_its_channels_make_no_calls",
        ],
    ),
    row(
        "F11",
        "the key is swapped for one of another tenant",
        &[
            "channel::deletion::not_found_under_a_key_of_another_tenant_is_no_proof",
            "channel::deletion::where_workspaces_cannot_be_read_only_the_key_that_last_read_the_channel_proves_anything",
            "channel::ownership::not_found_under_a_key_of_another_tenant_is_no_absence",
        ],
    ),
    row(
        "F12",
        "one 404, then 200",
        &["channel::ownership::one_not_found_and_then_the_channel_again_loses_nothing"],
    ),
    row(
        "F13",
        "an unknown state, no config, extra fields",
        &["channel::create_responses::unknown_states_missing_config_and_undocumented_fields_are_accepted"],
    ),
    row(
        "F14",
        "config is merged, or replaced",
        &[
            "channel::lifecycle::updates_with_one_write_and_overlays_only_what_is_declared_under_both_dialects",
        ],
    ),
    row(
        "F15",
        "values are normalised",
        &["channel::lifecycle::values_that_ohallo_never_keeps_are_not_fought_for_ever"],
    ),
    row(
        "F16",
        "edits in the dashboard, once and for ever",
        &["channel::lifecycle::drift_is_put_back_or_reported"],
    ),
    row("F17", "watch events are withheld", &[]),
    row("F18", "the object is recreated meanwhile", &[]),
    row("F19", "watches are dropped, then answered 410", &[]),
    row("F20", "watch events come twice", &[]),
    row("F21", "a storm of 409 on the status", &[]),
    row("F22", "503 or 504 after a write took effect", &[]),
    row("F23", "the API server stops, or freezes, during a create", &[]),
    row("F24", "etcd is restored from an older snapshot", &[]),
    row("F25", "one request to the API server hangs", &[]),
    row(
        "F27",
        "the leader is stopped past its lease during a create, then continued",
        &[
            "replicas::leadership::a_leader_stopped_past_its_lease_during_a_post_records_the_id_and_does_nothing_else",
            "replicas::leadership::a_deposed_leader_starts_nothing_that_it_had_planned",
            "replicas::leadership::a_test_under_way_when_its_leader_is_stopped_is_sent_once_and_its_answer_is_not_known",
        ],
    ),
    row(
        "F28",
        "the lease is edited, the clock is moved",
        &[
            "replicas::lease::a_holder_whose_lease_is_edited_stops_and_competes_again_and_a_moved_clock_is_no_edit",
            "replicas::lease::a_dead_holder_s_lease_is_taken_when_it_was_seen_unchanged_for_its_duration_whatever_its_times_say",
        ],
    ),
    row(
        "F29",
        "SIGTERM, once and twice",
        &[
            "replicas::leadership::at_sigterm_a_leader_records_what_is_in_flight_and_releases_the_lease_last",
            "replicas::leadership::a_second_sigterm_ends_at_once_and_the_other_waits_the_lease_out_and_asks_about_the_create",
        ],
    ),
    row(
        "F30",
        "the namespace is deleted with the key inside",
        &["channel::deletion::a_namespace_that_is_deleted_takes_its_channels_along"],
    ),
    row(
        "F31",
        "the key is deleted first",
        &[
            "channel::deletion::a_key_that_was_deleted_first_still_serves_the_deletion",
            "channel::deletion::after_a_restart_without_the_key_the_deletion_waits_for_it",
        ],
    ),
    row(
        "F32",
        "the finalizer is removed by hand",
        &[
            "channel::unresolved_creates::a_bound_object_that_is_replaced_gets_its_finalizer_and_annotations_back_and_no_second_channel",
            "channel::deletion_edge_cases::only_the_own_finalizer_is_removed_and_only_after_the_channel",
        ],
    ),
    row(
        "F33",
        "the policy is flipped during the deletion",
        &[
            "channel::deletion_edge_cases::the_last_policy_before_the_end_counts",
            "channel::deletion_edge_cases::a_retained_channel_is_deleted_where_the_policy_is_flipped_before_the_finalizer_is_removed",
        ],
    ),
    row(
        "F34",
        "two Channels, one id, the same instant",
        &["channel::ownership::of_several_that_adopt_at_the_same_instant_one_wins"],
    ),
    row(
        "F36",
        "a Secret rotated 20 times, labelled, renamed, empty, 1 MiB, not UTF-8",
        &["channel::credentials::a_secret_that_is_unfit_stalls_until_it_is_corrected"],
    ),
    row("F37", "an old push lands late", &[]),
    row("F39", "a panic in one object", &[]),
    row(
        "F40",
        "many Channels at a cold start under one key",
        &["operator::budget::a_thousand_channels_cost_what_the_budget_says_and_no_more"],
    ),
    row("F41", "certificates that are expired, of another host, of an unknown authority", &[]),
    row("F42", "DNS fails, or moves", &[]),
    row(
        "F43",
        "a forged status or annotation",
        &[
            "channel::unresolved_creates::an_object_copied_with_its_annotations_and_status_calls_nothing",
            "api::update_validation::a_status_that_comes_with_a_copied_manifest_is_not_taken_over",
            "hostile::inputs::a_hostile_id_in_a_status_is_called_nowhere_and_holds_the_object_until_it_is_released_by_name",
            "hostile::inputs::times_and_numbers_of_any_shape_that_the_api_server_lets_pass_stop_nobody",
        ],
    ),
    row("F44", "a Secret answered in a wrong shape", &[]),
    row("F45", "a seeded random mix", &[]),
    row("F50", "10,000 guesses at an API key and a credential, in every field that a tenant can write", &[]),
    row("F51", "oHallo echoes what it was sent, in any encoding, in an answer of any status", &[]),
    row("F52", "long texts and many credentials", &[]),
    row("F53", "huge and wide configs, one and many", &[]),
    row("F54", "huge and wide answers of oHallo, one and many", &[]),
    row("F55", "many and huge Secrets, named and foreign", &[]),
    row("F56", "huge foreign metadata, also at a list", &[]),
    row("F57", "API keys, absent Secrets and names that appear and disappear", &[]),
    row("F58", "Workspaces and Channels that appear and disappear", &[]),
    row("F59", "one namespace asks for hundreds of reconciles under a shared key", &[]),
    row("F60", "two slow API keys of one tenant", &[]),
    row("F61", "thousands of objects on one id", &[]),
    row("F62", "slow, many and endless connections to the HTTP server, also at SIGTERM", &[]),
    row("F63", "a Channel of another namespace, or one that can't read it, names an id", &[]),
    row("F64", "the operator's finalizer and annotations, set by a user", &[]),
    row("F65", "the labels of a namespace are late", &[]),
    row(
        "F66",
        "a manifest is moved, renamed or restored while the old object is deleted, in every order",
        &[],
    ),
    row("F67", "two objects on one id are deleted together", &[]),
    row("F68", "reads that are older than a create", &[]),
    row("F69", "reads, or the answer itself, that are older than an update", &[]),
    row("F70", "reads that are older than a provisioning retry", &[]),
    row("F71", "reads that are older than a DELETE", &[]),
    row("F72", "an admission policy strips, or puts back, what the operator writes", &[]),
    row("F73", "an older CustomResourceDefinition is applied while the operator runs", &[]),
    row("F74", "an object is replaced, restored or edited while no operator runs", &[]),
    row("F75", "stored times are of another clock", &[]),
    row(
        "F76",
        "someone else removes a finalizer, at any stage, while an operator runs or not",
        &["operator::metrics::a_channel_created_for_a_deleted_object_is_counted"],
    ),
    row("F77", "every 4xx, to every call", &[]),
    row("F78", "proxies of the environment, rotated authorities, IPv6", &[]),
    row("F79", "names and texts so long that an event would be refused", &[]),
];

const HEAD: &str = "# Fault matrix

Each row is a fault, and the tests that inject it. Generated from the tests:
`OHALLO_TEST_WRITE=1 cargo test --test it every_row_of_the_fault_matrix`.

These variables make tests longer:

| variable | rows and meaning | default |
|---|---|---|
| `OHALLO_TEST_KILL=<every>/<offset>` | F1 F2: run only every Nth point at which the test kills the operator, starting at the offset | all points |
| `OHALLO_TEST_OUTAGE_SECONDS` | F23: length of the API server outage | 5 s |
| `OHALLO_TEST_COLD_START` | F40: number of Channels | 200 |
| `OHALLO_TEST_CHAOS_SECONDS` `OHALLO_TEST_CHAOS_SEED` | F45: length in seconds, and seed of the order | 15, 45 |
| `OHALLO_TEST_TENANT_OBJECTS` | F53 to F58: number of objects that tenants add | 50 |
| `OHALLO_TEST_ONE_ID` | F61: number of objects that name one id | 300 |
| `OHALLO_TEST_FUZZ` | Properties of input from others (`cargo test --lib fuzz`): number of inputs of each kind | 200 to 3,000 |

| row | fault | tests |
|---|---|---|
";

/// The names of all tests of this program.
fn tests() -> Vec<String> {
    let listed = Command::new(std::env::current_exe().unwrap()).args(["--list", "--format=terse"]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// `F3` is named by `f03_…` and by `f02_f03_…`.
fn named_after(test: &str, id: &str) -> bool {
    let wanted = format!("f{:0>2}", id.trim_start_matches('F'));
    let words = test.rsplit("::").next().unwrap_or_default().split('_');
    words
        .take_while(|word| word.len() == 3 && word.starts_with('f') && word[1..].parse::<u8>().is_ok())
        .any(|word| word == wanted)
}

#[test]
fn every_row_of_the_fault_matrix_has_a_test_and_the_documented_table_says_which() {
    let tests = tests();
    let mut table = HEAD.to_owned();
    let mut untested = Vec::new();
    for Row { id, fault, also } in ROWS {
        let own = tests.iter().filter(|test| named_after(test, id)).map(String::as_str);
        let covering: Vec<_> = own.chain(also.iter().copied()).collect();
        let unknown: Vec<_> =
            covering.iter().filter(|name| !tests.iter().any(|test| test == *name)).collect();
        assert!(unknown.is_empty(), "{id} names tests that are not there: {unknown:?}");
        if covering.is_empty() {
            untested.push(id);
        }
        let covering: Vec<_> = covering.iter().map(|name| format!("`{name}`")).collect();
        table.push_str(&format!("| {id} | {fault} | {} |\n", covering.join("<br>")));
    }
    assert!(untested.is_empty(), "rows without a test: {untested:?}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contributing/faults.md");
    if std::env::var_os("OHALLO_TEST_WRITE").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, table, "docs/contributing/faults.md is not what the tests say");
}
