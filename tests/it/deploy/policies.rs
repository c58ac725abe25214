//! The admission policies, with real users: who may have a Secret sent, and who may write what is the operator's.

mod own;

use std::process::Output;

use ohallo_sim::{Config, Operation};
use serde_json::{Value, json};
use testbed::{ControlPlane, User};

use crate::support::clusters::{empty, established, kubectl};
use crate::support::harness::{Harness, WORKSPACE, kubectl_as};
use crate::support::helm::{CHART, OPERATOR_NAMESPACE, RELEASE, on, output_text, stored_arguments};
use crate::support::program::Program;

/// Edits Channels and Workspaces and may get the Secrets `mine-1` to `mine-9` only.
const EDITOR: User = User::Tenant;
/// Edits them and may get every Secret of the namespace.
const OWNER: User = User::Spare(1);
/// Has every verb on our kinds, those of status included, but not `override`.
const WRITER: User = User::Spare(2);
/// The same with `override` in the namespace.
const OVERRIDER: User = User::Spare(3);
/// The same with `override` everywhere.
const CHIEF: User = User::Spare(4);

struct Policed {
    harness: Harness,
    operator: Program,
}

fn bind(harness: &Harness, user: User, rules: &Value) {
    let name = user.name();
    let meta = json!({"name": name});
    let api = "rbac.authorization.k8s.io";
    harness
        .apply(&json!({"apiVersion": format!("{api}/v1"), "kind": "Role", "metadata": meta, "rules": rules}));
    harness.apply(&json!({
        "apiVersion": format!("{api}/v1"), "kind": "RoleBinding", "metadata": meta,
        "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": api, "kind": "User", "name": name}],
    }));
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

// === impl Policed ===

impl Policed {
    async fn start() -> Self {
        let plane = empty().await;
        let install = ["install", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--create-namespace"];
        on(plane, &[&install[..], &["--set", "admissionPolicies.enabled=true"]].concat());
        established(plane);
        let harness = Harness::on(plane, Config::default(), &[]).await;
        let url = format!("ohallo.apiUrl={}", harness.sim.url());
        on(plane, &["upgrade", RELEASE, CHART, "-n", OPERATOR_NAMESPACE, "--reuse-values", "--set", &url]);
        let edit = rule(
            "ohallo.eu",
            &["channels", "workspaces"],
            &["get", "list", "create", "update", "patch", "delete"],
        );
        let mine: Vec<_> = (1..=9).map(|n| format!("mine-{n}")).collect();
        let mut some = rule("", &["secrets"], &["get"]);
        some["resourceNames"] = json!(mine);
        bind(&harness, EDITOR, &json!([edit, some]));
        bind(&harness, OWNER, &json!([edit, rule("", &["secrets"], &["get"])]));
        let status =
            rule("ohallo.eu", &["channels/status", "workspaces/status"], &["get", "update", "patch"]);
        bind(&harness, WRITER, &json!([edit, status]));
        let over = rule("ohallo.eu", &["channels"], &["override"]);
        bind(&harness, OVERRIDER, &json!([edit, status, over]));
        bind(&harness, CHIEF, &json!([edit, status]));
        own::everywhere(&harness);
        let operator = Program::named(plane, User::Operator, "pod", &stored_arguments(plane));
        operator.until("/readyz", 200, "this replica: leader").await;
        harness
            .put_secret(
                json!({"metadata": {"name": "ohallo-api-key"}, "stringData": {"apiKey": harness.key}}),
            )
            .await;
        harness.workspace("default", "ohallo-api-key").await;
        harness.workspace_reason("default", "Verified").await;
        let policed = Self { harness, operator };
        policed.in_force().await;
        policed
    }

    /// A policy holds a moment after it is written.
    async fn in_force(&self) {
        for manifest in [
            self.channel("probe", &["theirs"]),
            workspace("probe", "theirs"),
            json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
                "metadata": {"name": "probe", "annotations": {"ohallo.eu/create-intent": "x"}},
                "spec": {"channelType": "chat", "displayName": "Probe"}}),
        ] {
            let refused = || async {
                let output = self.dry(EDITOR, &manifest);
                (!output.status.success()).then_some(())
            };
            self.harness.eventually("the policies in force", refused).await;
        }
    }

    fn plane(&self) -> &'static ControlPlane {
        self.harness.plane
    }

    fn channel(&self, name: &str, secrets: &[&str]) -> Value {
        let items: Vec<_> =
            secrets.iter().map(|name| json!({"secretRef": {"name": name, "optional": true}})).collect();
        // Only the API server's answer matters.
        self.harness.manifest(name, json!({"credentials": items, "suspend": true}))
    }

    fn dry(&self, user: User, manifest: &Value) -> Output {
        self.run(user, &["create", "--dry-run=server", "-f", "-"], Some(manifest))
    }

    fn run(&self, user: User, args: &[&str], manifest: Option<&Value>) -> Output {
        let args: Vec<_> = ["-n", &self.harness.namespace].into_iter().chain(args.iter().copied()).collect();
        kubectl_as(self.plane(), user, &args, manifest.map(Value::to_string).as_deref())
    }

    fn may(&self, user: User, args: &[&str], manifest: Option<&Value>) {
        let output = self.run(user, args, manifest);
        assert!(output.status.success(), "{user:?} {args:?}: {}", output_text(&output));
    }

    fn may_not(&self, user: User, args: &[&str], manifest: Option<&Value>, why: &str) {
        let output = self.run(user, args, manifest);
        let reported = output_text(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!output.status.success() && reported.contains(why), "{user:?} {args:?}: {reported}");
    }

    async fn finish(mut self) {
        self.operator.terminate();
        assert_eq!(self.operator.ended().await.0, Some(0), "{}", self.operator.log());
        let plane = self.plane();
        self.harness.finish().await;
        plane.kill().unwrap();
    }
}

fn workspace(name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": name},
        "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": secret}},
    })
}

const APPLY: [&str; 3] = ["apply", "-f", "-"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_let_everybody_do_their_part_and_nobody_another_ones() {
    let policed = Policed::start().await;
    who_may_have_a_secret_sent(&policed);
    who_may_use_a_secret_as_a_key(&policed);
    own::what_is_the_operators(&policed).await;
    own::what_is_the_operators_in_no_namespace(&policed).await;
    a_namespace_goes_with_its_channels(&policed).await;
    policed.finish().await;
}

fn who_may_have_a_secret_sent(policed: &Policed) {
    let own = policed.channel("a", &["mine-1", "mine-2", "mine-1"]);
    let theirs = policed.channel("a", &["mine-1", "theirs"]);
    let sends = "would send the Secret theirs, which tenant may not get";
    policed.may_not(EDITOR, &APPLY, Some(&theirs), sends);
    policed.may(EDITOR, &APPLY, Some(&own));
    policed.may_not(EDITOR, &APPLY, Some(&theirs), sends);
    policed.may(OWNER, &APPLY, Some(&theirs));
    // What another user has named may stay, and every other field may be edited.
    policed.may(EDITOR, &["label", "channel", "a", "team=x"], None);
    policed.may(
        EDITOR,
        &["patch", "channel", "a", "--type=merge", "-p", r#"{"spec":{"displayName":"B"}}"#],
        None,
    );
    // Another key of the same Secret is something new.
    let one = json!({"spec": {"credentials": [
        {"name": "token", "secretKeyRef": {"name": "theirs", "key": "other", "optional": true}},
    ]}});
    policed.may_not(EDITOR, &["patch", "channel", "a", "--type=merge", "-p", &one.to_string()], None, sends);
    let mine: Vec<_> = (1..=9).map(|n| format!("mine-{n}")).collect();
    let mine: Vec<_> = mine.iter().map(String::as_str).collect();
    policed.may(EDITOR, &APPLY, Some(&policed.channel("eight", &mine[..8])));
    policed.may_not(EDITOR, &APPLY, Some(&policed.channel("nine", &mine)), "at most 8 at a time");
    let many: Vec<_> = (1..=32).map(|n| format!("s-{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    policed.may(OWNER, &APPLY, Some(&policed.channel("many", &many)));
    policed.may_not(EDITOR, &APPLY, Some(&policed.channel("more", &many)), "may not get");
    policed.may(EDITOR, &["delete", "channel", "eight", "many"], None);
}

fn who_may_use_a_secret_as_a_key(policed: &Policed) {
    let uses = "the Secret theirs would be used as an API key, and tenant may not get it in namespace";
    policed.may_not(EDITOR, &APPLY, Some(&workspace("w", "theirs")), uses);
    policed.may(EDITOR, &APPLY, Some(&workspace("w", "mine-1")));
    policed.may_not(EDITOR, &APPLY, Some(&workspace("w", "theirs")), uses);
    policed.may(OWNER, &APPLY, Some(&workspace("w", "theirs")));
    policed.may(EDITOR, &["label", "workspace", "w", "team=x"], None);
    policed.may(EDITOR, &["delete", "workspace", "w"], None);
    // The Secrets of ClusterWorkspaces lie in the operator's namespace, whoever may get those of the own one.
    let mut shared = workspace("shared", "mine-1");
    shared["kind"] = "ClusterWorkspace".into();
    let role = [
        "create",
        "clusterrole",
        "sharer",
        "--verb=create,get,patch",
        "--resource=clusterworkspaces.ohallo.eu",
    ];
    kubectl(policed.plane(), &role);
    kubectl(
        policed.plane(),
        &["create", "clusterrolebinding", "sharer", "--clusterrole=sharer", "--user=user-1"],
    );
    policed.may_not(OWNER, &APPLY, Some(&shared), "user-1 may not get it in namespace ohallo-system");
    policed.may(User::Admin, &APPLY, Some(&shared));
    policed.may(User::Admin, &["delete", "clusterworkspace", "shared"], None);
}

async fn a_namespace_goes_with_its_channels(policed: &Policed) {
    let (harness, plane) = (&policed.harness, policed.plane());
    kubectl(plane, &["create", "namespace", "leaving"]);
    let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ohallo-api-key"},
        "stringData": {"apiKey": harness.key}});
    let mut channel = harness.manifest("c", json!({}));
    channel["metadata"]["namespace"] = "leaving".into();
    let all = json!({"apiVersion": "v1", "kind": "List", "items": [key, workspace("default", "ohallo-api-key"), channel]});
    let apply = ["-n", "leaving", "apply", "-f", "-"];
    let applied = kubectl_as(plane, User::Admin, &apply, Some(&all.to_string()));
    assert!(applied.status.success(), "{}", output_text(&applied));
    kubectl(plane, &["-n", "leaving", "wait", "--for=condition=Ready", "channel/c", "--timeout=180s"]);
    kubectl(plane, &["delete", "namespace", "leaving", "--timeout=180s"]);
    assert_eq!((harness.count(Operation::DeleteChannel), harness.sim.channel_count()), (3, 0));
    policed.may(EDITOR, &["delete", "channel", "a"], None);
}
