//! Programs and tests share each compiled crate: both ask for the same features.
//! Only what runs on the target is compared. What runs in cargo's builds has other features anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The features of each crate by name and version.
fn features(edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--locked", "--workspace", "--prefix=none", "--no-dedupe"]);
    let output = command.args(["--format={p}|{f}", "--edges", edges]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some((package, features)) = line.split_once('|') {
            let features = features.trim_end_matches(" (*)").to_owned();
            all.entry(package.to_owned()).or_default().insert(features);
        }
    }
    all
}

#[test]
fn tests_enable_no_feature_of_a_crate_that_programs_do_not() {
    let tests = features("normal,dev,no-proc-macro");
    for (package, sets) in features("normal,no-proc-macro") {
        let more = &tests[&package];
        assert!(
            &sets == more,
            "{package}: programs have {sets:?}, tests {more:?}: add these to dev/test-features"
        );
    }
}
