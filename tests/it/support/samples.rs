//! `deploy/samples`.

use ohallo_sim::Key;
use serde_json::Value;

use crate::support::canary;
use crate::support::harness::{Harness, TENANT};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// From the samples' Secret.
const SAMPLE_KEY: &str = "sf_test_v1_demo0000000000000000000000000";

/// The simulator knows the samples' key, and the canary searches for their Secrets.
pub fn samples(harness: &Harness) {
    harness.sim.add_key(Key::new(SAMPLE_KEY, TENANT));
    let secrets = std::fs::read_to_string(format!("{ROOT}/deploy/samples/00-secrets.yaml")).unwrap();
    for secret in serde_saphyr::from_multiple::<Value>(&secrets).unwrap() {
        let values = secret["stringData"].as_object().unwrap().values();
        values.for_each(|value| canary::register(value.as_str().unwrap()));
    }
}
