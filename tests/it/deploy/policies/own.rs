//! What only the operator writes, and who has the verb `override`.

use ohallo_sim::Operation;
use serde_json::json;
use testbed::User;

use crate::deploy::policies::{CHIEF, EDITOR, OPERATOR_NAMESPACE, OVERRIDER, Policed, WRITER, workspace};
use crate::support::cluster_workspaces::{delete_and_wait, has_reason, in_use, until, using};
use crate::support::clusters::kubectl;
use crate::support::harness::Harness;

const SHARED: &str = "shared";
const STATUS: &str = "status: only the operator writes it";
const CREATE_INTENT: &str = "only the operator writes ohallo.eu/create-intent";
const FINALIZER: &str = "only the operator removes its finalizer";

/// Rights on what is in no namespace.
pub fn everywhere(harness: &Harness) {
    let bind = |name: &str, users: &[User], rights: &[&str]| {
        let users: Vec<_> = users.iter().map(|user| format!("--user={}", user.name())).collect();
        let role = format!("--clusterrole={name}");
        kubectl(harness.plane, &[&["create", "clusterrole", name], rights].concat());
        let binding = ["create", "clusterrolebinding", name, &role].into_iter();
        kubectl(harness.plane, &binding.chain(users.iter().map(String::as_str)).collect::<Vec<_>>());
    };
    let write = [
        "--verb=get,update,patch",
        "--resource=clusterworkspaces.ohallo.eu,clusterworkspaces.ohallo.eu/status",
    ];
    bind("cluster-writer", &[WRITER, OVERRIDER, CHIEF], &write);
    bind("ohallo-override", &[CHIEF], &["--verb=override", "--resource=channels.ohallo.eu"]);
}

fn merge<'a>(kind: &'a str, name: &'a str, patch: &'a str) -> [&'a str; 6] {
    ["patch", kind, name, "--type=merge", "-p", patch]
}

/// Says something in a status that the operator would not say.
fn forged<'a>(kind: &'a str, name: &'a str) -> Vec<&'a str> {
    [&merge(kind, name, r#"{"status":{"name":"forged","state":"forged"}}"#)[..], &["--subresource=status"]]
        .concat()
}

/// Takes the finalizers off.
fn bare<'a>(kind: &'a str, name: &'a str) -> [&'a str; 6] {
    merge(kind, name, r#"{"metadata":{"finalizers":[]}}"#)
}

/// Without the effect: the operator holds these objects, and would put it right again.
fn dry(args: &[&str]) -> Vec<String> {
    args.iter().copied().chain(["--dry-run=server"]).map(str::to_owned).collect()
}

// === impl Policed ===

impl Policed {
    fn could(&self, user: User, args: &[&str]) {
        let args = dry(args);
        self.may(user, &args.iter().map(String::as_str).collect::<Vec<_>>(), None);
    }
}

pub async fn what_is_the_operators(policed: &Policed) {
    let harness = &policed.harness;
    // The operator itself is not in the way of itself.
    let channel = harness.ready("b", json!({})).await;
    let intent = channel.metadata.annotations.unwrap_or_default()["ohallo.eu/create-intent"].clone();
    let status = forged("channel", "b");
    policed.may_not(WRITER, &status, None, STATUS);
    policed.may(OVERRIDER, &status, None);
    let on_workspace = forged("workspace", "default");
    policed.may_not(WRITER, &on_workspace, None, STATUS);

    let forge = ["annotate", "channel", "b", "--overwrite", "ohallo.eu/create-intent=x"];
    let forget = ["annotate", "channel", "b", "ohallo.eu/create-intent-"];
    policed.may_not(WRITER, &forge, None, CREATE_INTENT);
    policed.may_not(WRITER, &forget, None, CREATE_INTENT);
    let mut copied = harness.manifest("copied", json!({}));
    copied["metadata"]["annotations"] = json!({"ohallo.eu/create-intent": intent});
    policed.may_not(WRITER, &["create", "-f", "-"], Some(&copied), CREATE_INTENT);
    policed.may(OVERRIDER, &["create", "--dry-run=server", "-f", "-"], Some(&copied));
    for ours in ["create-again=uid/1", "release=id", "confirm-deletion=id/uid", "reconcile-requested-at=now"]
    {
        policed.may(EDITOR, &["annotate", "channel", "b", "--overwrite", &format!("ohallo.eu/{ours}")], None);
    }

    let off = bare("channel", "b");
    policed.may_not(WRITER, &off, None, FINALIZER);
    let more = r#"{"metadata":{"finalizers":["ohallo.eu/channel","a.example/b"]}}"#;
    let less = r#"{"metadata":{"finalizers":["ohallo.eu/channel"]}}"#;
    policed.may(WRITER, &merge("channel", "b", more), None);
    policed.may(WRITER, &merge("channel", "b", less), None);
    let in_use = bare("workspace", "default");
    policed.may_not(WRITER, &in_use, None, FINALIZER);

    for user in [OVERRIDER, CHIEF, User::Admin] {
        for args in [&status[..], &on_workspace, &forge, &forget, &off, &in_use] {
            policed.could(user, args);
        }
    }
    what_is_thrown_away(policed);
    // And its deletion works as ever, by a user who has no right to any of that.
    policed.may(EDITOR, &["delete", "channel", "b"], None);
    assert_eq!(harness.sim.count(Operation::DeleteChannel), 1);
}

/// An object that the operator has nothing to do with: what is done to it stays.
fn what_is_thrown_away(policed: &Policed) {
    let mut thrown = policed.channel("thrown", &[]);
    thrown["metadata"]["finalizers"] = json!(["ohallo.eu/channel"]);
    policed.may(EDITOR, &["create", "-f", "-"], Some(&thrown));
    let show = |path: &str| {
        let path = format!("jsonpath={{.metadata.{path}}}");
        let get = ["-n", &policed.harness.namespace, "get", "channel", "thrown", "-o", &path];
        kubectl(policed.plane(), &get)
    };
    let intent = r"annotations.ohallo\.eu/create-intent";
    for (value, shown) in [("=x", "x"), ("=y", "y"), ("-", "")] {
        let args =
            ["annotate", "channel", "thrown", "--overwrite", &format!("ohallo.eu/create-intent{value}")];
        policed.may_not(WRITER, &args, None, CREATE_INTENT);
        policed.may(OVERRIDER, &args, None);
        assert_eq!(show(intent), shown);
    }
    policed.may_not(WRITER, &bare("channel", "thrown"), None, FINALIZER);
    policed.may(OVERRIDER, &bare("channel", "thrown"), None);
    assert_eq!(show("finalizers"), "");
    policed.may(EDITOR, &["delete", "channel", "thrown"], None);
}

pub async fn what_is_the_operators_in_no_namespace(policed: &Policed) {
    let harness = &policed.harness;
    let literal = format!("--from-literal=apiKey={}", harness.key);
    kubectl(harness.plane, &["-n", OPERATOR_NAMESPACE, "create", "secret", "generic", SHARED, &literal]);
    let mut shared = workspace(SHARED, SHARED);
    shared["kind"] = "ClusterWorkspace".into();
    shared["spec"]["allowedNamespaces"] = json!({"names": [harness.namespace]});
    policed.may(User::Admin, &["create", "-f", "-"], Some(&shared));
    until(harness, SHARED, "verified", |workspace| has_reason(workspace, "Verified")).await;
    harness.ready("s", using(SHARED)).await;
    until(harness, SHARED, "in use", in_use).await;
    let status = forged("clusterworkspace", SHARED);
    let off = bare("clusterworkspace", SHARED);
    let label = ["label", "clusterworkspace", SHARED, "--overwrite", "team=x"];
    // To have `override` in a namespace is nothing here.
    for user in [WRITER, OVERRIDER] {
        policed.may_not(user, &status, None, STATUS);
        policed.may_not(user, &off, None, FINALIZER);
        policed.may(user, &label, None);
    }
    for user in [CHIEF, User::Admin] {
        policed.could(user, &status);
        policed.could(user, &off);
    }
    policed.may(EDITOR, &["delete", "channel", "s"], None);
    until(harness, SHARED, "free", |workspace| !in_use(workspace)).await;
    delete_and_wait(harness, SHARED).await;
}
