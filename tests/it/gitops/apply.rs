//! Applying again what is applied: nothing differs, nobody conflicts, nothing is written.

use std::collections::BTreeSet;
use std::process::Output;

use ohallo_core::api;
use ohallo_sim::Config;
use serde_json::{Value, json};

use crate::support::harness::Harness;
use crate::support::samples::samples;
use crate::support::steps::insert_in_dashboard;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");

/// What is applied: kubectl's flag and its value, or the text on stdin.
struct Applied<'a> {
    from: [&'a str; 2],
    stdin: Option<String>,
    /// As `kind/name`.
    objects: Vec<&'a str>,
}

// === impl Applied ===

impl Applied<'_> {
    fn kubectl(&self, harness: &Harness, args: &[&str]) -> Output {
        let args: Vec<_> = args.iter().chain(&self.from).copied().collect();
        harness.kubectl(&args, self.stdin.as_deref())
    }

    /// What kubectl prints; it must succeed.
    fn run(&self, harness: &Harness, args: &[&str]) -> String {
        let output = self.kubectl(harness, args);
        let reported = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {reported}{}", String::from_utf8_lossy(&output.stderr));
        reported
    }

    /// What changes with any write, and with a write of the spec.
    fn versions(&self, harness: &Harness) -> Vec<Value> {
        let version = |object: &&str| {
            let got = harness.kubectl(&["get", object, "-o", "json"], None);
            let got: Value = serde_json::from_slice(&got.stdout).unwrap();
            json!([object, got["metadata"]["resourceVersion"], got["metadata"]["generation"]])
        };
        self.objects.iter().map(version).collect()
    }

    /// Whatever a tool applies by, the second time is as if it had not.
    fn settles(&self, harness: &Harness) {
        let before = self.versions(harness);
        assert_eq!(self.run(harness, &["diff"]), "");
        assert_eq!(
            self.run(harness, &["diff", "--server-side", "--field-manager=kubectl-client-side-apply"]),
            ""
        );
        for how in [&["apply"][..], &["apply", "--dry-run=server"]] {
            let reported = self.run(harness, how);
            for object in &self.objects {
                let line =
                    reported.lines().find(|line| line.starts_with(&object.replace('/', ".ohallo.eu/")));
                let line = line.unwrap_or_else(|| panic!("{object} is not in {reported}"));
                assert!(line.contains(" unchanged"), "{how:?}: {line}");
            }
        }
        assert_eq!(self.versions(harness), before, "applied again");
        let server_side = ["apply", "--server-side", "--field-manager=another-tool"];
        self.run(harness, &server_side);
        let owned = self.versions(harness);
        for (before, owned) in before.iter().zip(&owned) {
            assert_eq!(before[2], owned[2], "a second owner creates no new generation");
        }
        self.run(harness, &server_side);
        self.run(harness, &["apply", "--server-side", "--field-manager=another-tool", "--dry-run=server"]);
        assert_eq!(self.run(harness, &["diff"]), "");
        assert_eq!(self.versions(harness), owned, "applied again by the server");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_differ_in_nothing_when_they_are_applied_again() {
    let mut harness = Harness::bare(Config::default(), &[]).await;
    samples(&harness);
    harness.start_operator().await;
    let objects = vec![
        "workspace/default",
        "channel/support-email",
        "channel/website-chat",
        "channel/whatsapp",
        "channel/voice",
    ];
    let applied = Applied { from: ["-k", SAMPLES], stdin: None, objects };
    applied.run(&harness, &["apply"]);
    for object in &applied.objects {
        if let Some(name) = object.strip_prefix("channel/") {
            harness.reason(name, "Available").await;
        }
    }
    harness.has("website-chat", "Connected", "TestPassed").await;
    applied.settles(&harness);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_with_every_field_differs_in_nothing_when_it_is_applied_again() {
    let harness = Harness::start().await;
    harness.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    let id = insert_in_dashboard(&harness, "chat", "Every Field");
    let spec = json!({
        "workspaceRef": {"kind": "Workspace", "name": "default"},
        "channelType": "chat", "displayName": "Every Field", "channelId": id, "enabled": true,
        "config": {
            "nested": {"list": [1, 2.5, "three", true, {"deep": [[]]}], "empty": {}}, "whole": 1.0, "large": 1e15,
            "small": -0.000001, "text": "æ \u{1F600} 'quoted'", "off": false,
        },
        "credentials": [
            {"secretRef": {"name": "provider"}}, {"secretRef": {"name": "not-there", "optional": true}},
            {"name": "webhookSecret", "secretKeyRef": {"name": "provider", "key": "apiKey"}},
        ],
        "managementPolicy": "Manage", "driftPolicy": "Correct", "deletionPolicy": "Delete", "suspend": false,
        "intervalSeconds": 3600, "connectivityTest": "OnChange", "provisioningRetry": {"limit": 3, "backoffSeconds": 30},
    });
    let schema = serde_json::to_value(&api::crds()[0]).unwrap();
    let fields =
        &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&spec), names(fields), "a field is left out");
    let stdin = Some(harness.manifest("every", spec).to_string());
    let every = Applied { from: ["-f", "-"], stdin, objects: vec!["channel/every"] };
    every.run(&harness, &["apply"]);
    harness.reason("every", "Available").await;
    harness.has("every", "Connected", "TestPassed").await;
    every.settles(&harness);
    harness.finish().await;
}
