//! Applying again what is applied: nothing differs, nobody conflicts, nothing is written.

use std::collections::BTreeSet;
use std::process::Output;

use ohallo_core::api;
use ohallo_sim::Config;
use serde_json::{Value, json};

use crate::acts::by_hand;
use crate::install::samples;
use crate::rig::Rig;

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
    fn kubectl(&self, rig: &Rig, args: &[&str]) -> Output {
        let args: Vec<_> = args.iter().chain(&self.from).copied().collect();
        rig.kubectl(&args, self.stdin.as_deref())
    }

    /// What kubectl prints; it must succeed.
    fn says(&self, rig: &Rig, args: &[&str]) -> String {
        let output = self.kubectl(rig, args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// What changes with any write, and with a write of the spec.
    fn versions(&self, rig: &Rig) -> Vec<Value> {
        let version = |object: &&str| {
            let got = rig.kubectl(&["get", object, "-o", "json"], None);
            let got: Value = serde_json::from_slice(&got.stdout).unwrap();
            json!([object, got["metadata"]["resourceVersion"], got["metadata"]["generation"]])
        };
        self.objects.iter().map(version).collect()
    }

    /// Whatever a tool applies by, the second time is as if it had not.
    fn settles(&self, rig: &Rig) {
        let before = self.versions(rig);
        assert_eq!(self.says(rig, &["diff"]), "");
        assert_eq!(
            self.says(rig, &["diff", "--server-side", "--field-manager=kubectl-client-side-apply"]),
            ""
        );
        for how in [&["apply"][..], &["apply", "--dry-run=server"]] {
            let said = self.says(rig, how);
            for object in &self.objects {
                let line = said.lines().find(|line| line.starts_with(&object.replace('/', ".ohallo.eu/")));
                let line = line.unwrap_or_else(|| panic!("{object} is not in {said}"));
                assert!(line.contains(" unchanged"), "{how:?}: {line}");
            }
        }
        assert_eq!(self.versions(rig), before, "applied again");
        let server_side = ["apply", "--server-side", "--field-manager=another-tool"];
        self.says(rig, &server_side);
        let owned = self.versions(rig);
        for (before, owned) in before.iter().zip(&owned) {
            assert_eq!(before[2], owned[2], "a second owner makes no new generation");
        }
        self.says(rig, &server_side);
        self.says(rig, &["apply", "--server-side", "--field-manager=another-tool", "--dry-run=server"]);
        assert_eq!(self.says(rig, &["diff"]), "");
        assert_eq!(self.versions(rig), owned, "applied again by the server");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_differ_in_nothing_when_they_are_applied_again() {
    let mut rig = Rig::bare(Config::default(), &[]).await;
    samples(&rig);
    rig.start_operator().await;
    let objects = vec![
        "workspace/default",
        "channel/support-email",
        "channel/website-chat",
        "channel/whatsapp",
        "channel/voice",
    ];
    let applied = Applied { from: ["-k", SAMPLES], stdin: None, objects };
    applied.says(&rig, &["apply"]);
    for object in &applied.objects {
        if let Some(name) = object.strip_prefix("channel/") {
            rig.reason(name, "Available").await;
        }
    }
    rig.has("website-chat", "Connected", "TestPassed").await;
    applied.settles(&rig);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_with_every_field_differs_in_nothing_when_it_is_applied_again() {
    let rig = Rig::start().await;
    rig.secret("provider", &[("apiKey", "whatsapp-api-key-abc123")]).await;
    let id = by_hand(&rig, "chat", "Every Field");
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
    let stdin = Some(rig.manifest("every", spec).to_string());
    let every = Applied { from: ["-f", "-"], stdin, objects: vec!["channel/every"] };
    every.says(&rig, &["apply"]);
    rig.reason("every", "Available").await;
    rig.has("every", "Connected", "TestPassed").await;
    every.settles(&rig);
    rig.finish().await;
}
