//! What can be given to the chart, and what it makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::deploy::switches::{TEAMS, all, holds_together};
use crate::support::differences::differences;
use crate::support::harness::settings;
use crate::support::helm::{
    CHART, OPERATOR_NAMESPACE, RELEASE, arguments, documents, of_kind, output_text, render, render_as,
    without_cluster,
};

#[test]
fn the_chart_passes_helms_linter_as_it_is_and_with_every_switch() {
    let mut args = vec!["lint", "--strict", CHART];
    let plain = without_cluster(&args);
    assert!(plain.status.success(), "{}", output_text(&plain));
    let switches = all();
    switches.iter().for_each(|switch| args.extend(["--set-json", switch]));
    let all = without_cluster(&args);
    assert!(all.status.success(), "{}", output_text(&all));
}

#[test]
fn every_flag_of_the_chart_is_one_that_the_operator_takes() {
    let deployment = |switches: &[&str]| of_kind(&render(switches).unwrap(), "Deployment")[0].clone();
    let plain = arguments(&deployment(&[]));
    assert_eq!(plain, ["--leader-elect"], "the defaults are the operator's own");
    let mut without_ca = all();
    without_ca.retain(|switch| !switch.starts_with("ohallo.caConfigMap"));
    let given = arguments(&deployment(&without_ca));
    let settings = settings(&given);
    assert_eq!(settings.namespaces, ["team-a", "team-b"]);
    assert_eq!((settings.concurrency, settings.burst, settings.requests_per_second), (1000, 10_000, 0.5));
    assert_eq!(settings.total_rate(), Some(50.0));
    assert_eq!(settings.workspace_selector.as_deref(), Some("tier in (gold, silver)"));
    assert_eq!(settings.http_addr.to_string(), "[::]:9090");
    assert!(settings.serves_cluster_workspaces() && settings.leader_elect);
    // What has no value of its own is a path in the pod, or comes from the pod.
    let known: BTreeSet<_> = given.iter().map(|flag| flag.split('=').next().unwrap().to_owned()).collect();
    let help = Command::new(env!("CARGO_BIN_EXE_ohallo-operator")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let flags = flags.map(|flag| format!("--{}", flag.split(' ').next().unwrap()));
    let left: Vec<_> = flags.filter(|flag| !known.contains(flag)).collect();
    assert_eq!(
        left,
        ["--kubeconfig", "--operator-namespace", "--ca-file"],
        "a new flag of the operator is to be given by a value of the chart"
    );
}

#[test]
fn a_wrong_value_is_refused_with_a_sentence() {
    for (value, part) in [
        (r#"replicas="two""#, "at '/replicas': got string, want integer"),
        ("replicas=-1", "at '/replicas': minimum: got -1, want 0"),
        ("replica=2", "additional properties 'replica' not allowed"),
        (r#"image={"tags":"v1"}"#, "additional properties 'tags' not allowed"),
        (r#"image={"digest":"abc"}"#, "'abc' does not match pattern '^(sha256:"),
        // A Service is called so, and its name takes no dot.
        (r#"fullnameOverride="a.b""#, "at '/fullnameOverride': 'a.b' does not match pattern"),
        (r#"nameOverride="1a""#, "at '/nameOverride': '1a' does not match pattern"),
        (r#"watchNamespaces="team-a""#, "at '/watchNamespaces': got string, want array"),
        (r#"watchNamespaces=["Team_A"]"#, "'Team_A' does not match pattern"),
        (r#"watchNamespaces=["a","a"]"#, "items at 0 and 1 are equal"),
        (r#"http={"port":70000}"#, "at '/http/port': maximum: got 70,000, want 65,535"),
        (r#"ohallo={"apiUrl":"ftp://x"}"#, "'ftp://x' does not match pattern '^https?://'"),
        (r#"ohallo={"burst":0}"#, "at '/ohallo/burst': minimum: got 0, want 1"),
        (r#"metrics={"serviceMonitor":{"enabled":"yes"}}"#, "got string, want boolean"),
        (
            r#"metrics={"prometheusRule":{"runbookUrl":"wiki/"}}"#,
            "'wiki/' does not match pattern '^https?://",
        ),
        (r#"podLabels={"a":1}"#, "at '/podLabels/a': got number, want string"),
        (
            r#"podDisruptionBudget={"minAvailable":1,"maxUnavailable":"50%"}"#,
            "podDisruptionBudget: set minAvailable or maxUnavailable, not both.",
        ),
        (
            r#"leaderElection={"retrySeconds":50}"#,
            "renewDeadlineSeconds (40), and that longer than retrySeconds (50).",
        ),
        (r#"ohallo={"requestTimeoutSeconds":90}"#, "createTimeoutSeconds (60) must not be shorter"),
        (r#"serviceAccount={"create":false}"#, "serviceAccount.name must be set"),
        (
            r#"metrics={"serviceMonitor":{"enabled":true},"podMonitor":{"enabled":true}}"#,
            "enable serviceMonitor or podMonitor, not both",
        ),
        (
            r#"metrics={"serviceMonitor":{"enabled":true},"service":{"enabled":false}}"#,
            "serviceMonitor needs metrics.service.enabled",
        ),
    ] {
        let reported = render(&[value]).expect_err(value);
        assert!(reported.contains(part), "{value}: {reported}");
    }
}

#[test]
fn the_crds_of_the_chart_are_those_of_the_code_and_outlive_the_release() {
    let rendered = render(&[]).unwrap();
    let crds = of_kind(&rendered, "CustomResourceDefinition");
    assert_eq!(crds.len(), 3);
    for ours in ohallo_core::api::crds() {
        let ours = serde_json::to_value(ours).unwrap();
        let found = crds.iter().find(|crd| crd["metadata"]["name"] == ours["metadata"]["name"]).unwrap();
        let differences = differences(&found["spec"], &ours["spec"]);
        assert!(differences.is_empty(), "cargo run -- crd --out {CHART}/files/crds: {differences:#?}");
        assert_eq!(found["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
    }
    let text = std::fs::read_dir(Path::new(CHART).join("files/crds")).unwrap().count();
    assert_eq!(text, 3, "a file that is no CRD of ours");
    assert!(of_kind(&render(&[r#"crds={"install":false}"#]).unwrap(), "CustomResourceDefinition").is_empty());
    let let_go = render(&[r#"crds={"keep":false}"#]).unwrap();
    assert!(
        of_kind(&let_go, "CustomResourceDefinition")
            .iter()
            .all(|crd| crd["metadata"]["annotations"].is_null())
    );
}

/// The release, values, the name of what it creates, and the values of its labels.
#[test]
fn a_release_of_any_name_holds_together() {
    let long = "a".repeat(53);
    let (name, full) = (r#"nameOverride="gate""#, r#"fullnameOverride="other""#);
    let longer = format!(r#"fullnameOverride="{}-b""#, "a".repeat(39));
    for (release, names, called, labelled) in [
        (RELEASE, &[][..], RELEASE, RELEASE),
        ("probe", &[], "probe-ohallo-operator", RELEASE),
        ("my-ohallo-operator", &[], "my-ohallo-operator", RELEASE),
        (RELEASE, &[name], "ohallo-operator-gate", "gate"),
        ("gatekeeper", &[name], "gatekeeper", "gate"),
        (RELEASE, &[full], "other", RELEASE),
        ("probe", &[name, full], "other", "gate"),
        (&long, &[], &long[..40], RELEASE),
        (RELEASE, &[&longer], &long[..39], RELEASE),
    ] {
        let mut values = all();
        // Their names and labels are the user's.
        let own = ["serviceAccount.name", "leaderElection.leaseName", "extraObjects"];
        values.retain(|value| own.iter().all(|own| !value.starts_with(own)));
        for values in [names.to_vec(), [&values, names].concat()] {
            let rendered = render_as(release, OPERATOR_NAMESPACE, &values).unwrap();
            holds_together(&rendered);
            for object in rendered.iter().filter(|object| object["kind"] != "CustomResourceDefinition") {
                let name = object["metadata"]["name"].as_str().unwrap();
                let rest = name.strip_prefix(called).unwrap_or_else(|| panic!("{name} is not {called}"));
                assert!(rest.is_empty() || rest.starts_with('-'), "{name}");
                assert!(name.len() <= 63, "{name}");
                let labels = &object["metadata"]["labels"];
                let of = |label: &str| &labels[format!("app.kubernetes.io/{label}")];
                assert_eq!((of("name"), of("instance")), (&json!(labelled), &json!(release)), "{object:#}");
            }
        }
    }
}

fn names(objects: &[&Value]) -> Vec<String> {
    let name = |object: &&Value| {
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().map(|name| format!("{name}/")).unwrap_or_default();
        format!("{namespace}{}", metadata["name"].as_str().unwrap())
    };
    let mut names: Vec<_> = objects.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn listed_namespaces_take_roles_there_and_nothing_cluster_wide() {
    let people = r#"rbac={"aggregateRoles":false}"#;
    let listed = render(&[TEAMS, people]).unwrap();
    assert!(of_kind(&listed, "ClusterRole").is_empty() && of_kind(&listed, "ClusterRoleBinding").is_empty());
    let here = ["ohallo-system/ohallo-operator-lease", "team-a/ohallo-operator", "team-b/ohallo-operator"];
    assert_eq!(names(&of_kind(&listed, "Role")), here);
    assert_eq!(names(&of_kind(&listed, "RoleBinding")), here);
    let policed = render(&[TEAMS, r#"admissionPolicies={"enabled":true}"#]).unwrap();
    for binding in of_kind(&policed, "ValidatingAdmissionPolicyBinding") {
        let selector = &binding["spec"]["matchResources"]["namespaceSelector"];
        let listed =
            json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "team-b"]});
        assert_eq!(selector["matchExpressions"], json!([listed]));
    }

    let shared = render(&[TEAMS, "clusterWorkspaces=true", people]).unwrap();
    let rules = serde_json::to_string(&of_kind(&shared, "ClusterRole")[0]["rules"]).unwrap();
    assert!(!rules.contains("secrets") && !rules.contains("\"channels\""), "{rules}");
    let more = ["default/ohallo-operator-events", "ohallo-system/ohallo-operator-keys"];
    let mut all: Vec<_> = more.iter().chain(&here).map(|name| (*name).to_owned()).collect();
    all.sort();
    assert_eq!(names(&of_kind(&shared, "Role")), all);

    let own = render(&["clusterWorkspaces=false"]).unwrap();
    let operator =
        of_kind(&own, "ClusterRole").into_iter().find(|role| role["metadata"]["name"] == "ohallo-operator");
    let rules = serde_json::to_string(&operator.unwrap()["rules"]).unwrap();
    assert!(!rules.contains("clusterworkspaces") && !rules.contains("\"namespaces\""), "{rules}");
}

#[test]
fn alerts_link_to_where_the_runbooks_are_read() {
    let rule = |url: &str| {
        let values = format!(r#"metrics={{"prometheusRule":{{"enabled":true{url}}}}}"#);
        let rendered = render(&[&values]).unwrap();
        let groups = of_kind(&rendered, "PrometheusRule")[0]["spec"]["groups"].clone();
        let rules: Vec<_> = groups
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|it| it["rules"].as_array().unwrap().clone())
            .collect();
        assert!(rules.len() > 10);
        rules
    };
    for (url, start) in [
        ("", "https://github.com/ohallo/ohallo-operator/blob/main/docs/runbooks"),
        (r#","runbookUrl":"https://wiki.example/ohallo""#, "https://wiki.example/ohallo"),
    ] {
        for alert in rule(url) {
            let page = format!("{start}/{}.md", alert["alert"].as_str().unwrap());
            assert_eq!(alert["annotations"]["runbook_url"], page);
        }
    }
}

#[test]
fn replicas_spread_over_nodes_without_naming_themselves() {
    let constraint = r#"topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"kubernetes.io/hostname","whenUnsatisfiable":"ScheduleAnyway"}]"#;
    let rendered = render(&[constraint]).unwrap();
    let spec = &of_kind(&rendered, "Deployment")[0]["spec"];
    let constraint = &spec["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(constraint["labelSelector"]["matchLabels"], spec["selector"]["matchLabels"]);
    assert_eq!(constraint["maxSkew"], 1);
}

#[test]
fn the_network_policy_lets_out_what_is_needed_and_in_only_the_peers_it_names() {
    let policy = |value: &str| {
        let rendered = render(&[value]).unwrap();
        let found = of_kind(&rendered, "NetworkPolicy");
        let selector = &of_kind(&rendered, "Deployment")[0]["spec"]["selector"];
        assert_eq!(found[0]["spec"]["podSelector"], *selector);
        found[0]["spec"].clone()
    };
    let port = |protocol: &str, port: Value| json!({"protocol": protocol, "port": port});
    let tcp = |number: u16| port("TCP", number.into());
    let plain = policy(r#"networkPolicy={"enabled":true}"#);
    assert_eq!(plain["policyTypes"], json!(["Ingress", "Egress"]), "what is not named is denied");
    assert_eq!(plain["ingress"], json!([]), "nobody is named");
    let dns = json!([port("UDP", 53.into()), tcp(53)]);
    let egress = json!([{"ports": dns}, {"ports": [tcp(443), tcp(6443)]}, {"ports": [tcp(443)]}]);
    assert_eq!(plain["egress"], egress);

    let peer = json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]);
    let narrow = policy(&format!(
        r#"networkPolicy={{"enabled":true,"dns":{{"to":{peer}}},"apiServer":{{"to":{peer}}},"ohallo":{{"ports":[3128],"to":{peer}}},"metrics":{{"from":{peer}}}}}"#
    ));
    assert_eq!(narrow["ingress"], json!([{"ports": [port("TCP", "http".into())], "from": peer}]));
    assert!(narrow["egress"].as_array().unwrap().iter().all(|rule| rule["to"] == peer), "{narrow}");
    assert_eq!(narrow["egress"][2]["ports"], json!([tcp(3128)]));
}

#[test]
fn a_chart_that_depends_on_this_one_configures_or_disables_it() {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("Chart.yaml");
    let dependency = json!({"name": "ohallo-operator", "version": "*", "repository": format!("file://{CHART}"), "condition": "ohallo-operator.enabled"});
    let wrapper =
        json!({"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]});
    std::fs::write(chart, wrapper.to_string()).unwrap();
    let path = folder.path().to_str().unwrap();
    let helm = |args: &[&str]| {
        let output = without_cluster(args);
        assert!(output.status.success(), "{}", output_text(&output));
        documents(&String::from_utf8(output.stdout).unwrap())
    };
    helm(&["dependency", "update", path]);
    let template =
        |values: &str| helm(&["template", "platform", path, "--namespace", "platform", "--set", values]);
    let enabled = template("global.imageRegistry=mirror.example,ohallo-operator.replicas=2");
    let deployment = of_kind(&enabled, "Deployment")[0];
    assert_eq!(deployment["spec"]["replicas"], 2);
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
    assert!(image.starts_with("mirror.example/ohallo/ohallo-operator:"), "{image}");
    assert!(template("ohallo-operator.enabled=false").is_empty());
}

#[test]
fn a_repository_with_a_host_of_its_own_gets_no_other_registry() {
    for (values, image) in [
        (vec![r#"image.repository="registry.example/ohallo""#], "registry.example/ohallo"),
        (vec![r#"image.repository="localhost:5000/ohallo""#], "localhost:5000/ohallo"),
        (vec![r#"image.registry="""#, r#"image.repository="ohallo-operator""#], "ohallo-operator"),
        (vec![r#"image.repository="team/ohallo""#], "ghcr.io/team/ohallo"),
    ] {
        let rendered = render(&values).unwrap();
        let container = &of_kind(&rendered, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], format!("{image}:{}", env!("CARGO_PKG_VERSION")));
    }
}

/// helm-docs writes the page; `.ci/full linters` compares all of it.
#[test]
fn the_charts_page_lists_every_value_with_its_default() {
    let page = include_str!("../../../deploy/helm/ohallo-operator/README.md");
    let values: Value =
        serde_saphyr::from_str(include_str!("../../../deploy/helm/ohallo-operator/values.yaml")).unwrap();
    let mut rows = BTreeMap::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (path, rest) = line.split_once("` | `").unwrap();
        rows.insert(path.to_owned(), rest.split('`').next().unwrap().to_owned());
    }
    let mut leaves = BTreeMap::new();
    collect_leaves("", &values, &mut leaves);
    let written: BTreeMap<_, _> =
        leaves.iter().map(|(path, value)| (path.clone(), value.to_string())).collect();
    assert_eq!(rows, written);
}

/// What is not an object with entries.
fn collect_leaves(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            map.iter().for_each(|(key, value)| collect_leaves(&below(key), value, found));
        }
        _ => drop(found.insert(path.to_owned(), value.clone())),
    }
}
