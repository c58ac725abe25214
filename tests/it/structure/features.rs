//! Programs and tests share each compiled crate: both ask for the same features.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The features of each crate by name and version; one that build scripts use as well may have two sets.
fn features(edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--locked", "--workspace", "--prefix=none", "--no-dedupe"]);
    let output = command.args(["--format={p}|{f}", "--edges", edges]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some((package, features)) = line.split_once('|') {
            all.entry(package.to_owned()).or_default().insert(features.to_owned());
        }
    }
    all
}

#[test]
fn tests_enable_no_feature_of_a_crate_that_programs_do_not() {
    let tests = features("normal,build,dev");
    for (package, sets) in features("normal,build") {
        let missing: Vec<_> = sets.difference(&tests[&package]).collect();
        assert!(
            missing.is_empty(),
            "{package}: programs have {missing:?}, tests {:?}: add the difference to dev/test-features",
            tests[&package]
        );
    }
}
