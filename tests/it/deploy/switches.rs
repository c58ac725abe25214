//! Every value of the chart, and what it changes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::helm::{RELEASE, arguments, documents, of_kind, render};
use crate::support::lines::{Lines, changed_lines, lines};

const TABLE: &str = include_str!("switches.txt");
/// What divides those that can be thrown all at once from the others.
const APART: &str = "---";
pub const TEAMS: &str = r#"watchNamespaces=["team-a","team-b"]"#;
/// Those that open the pod.
pub const NO_POD_CONTEXT: &str = "podSecurityContext=null";
pub const NO_CONTEXT: &str = "securityContext=null";

/// Values that no switch throws, and the test that judges each.
const ELSEWHERE: [(&str, &str); 4] = [
    ("enabled", "a_chart_that_depends_on_this_one_configures_or_disables_it"),
    ("nameOverride", "a_release_of_any_name_holds_together"),
    ("fullnameOverride", "a_release_of_any_name_holds_together"),
    ("metrics.prometheusRule.runbookUrl", "alerts_link_to_where_the_runbooks_are_read"),
];

const VALUES: &str = include_str!("../../../deploy/helm/ohallo-operator/values.yaml");
const TESTS: &str = include_str!("values.rs");

/// A part of the table.
pub struct Switch {
    /// `path=JSON`
    pub value: &'static str,
    /// The values without which it does nothing.
    required: Vec<&'static str>,
    /// What it changes beside them.
    changes: Vec<String>,
}

// === impl Switch ===

impl Switch {
    pub fn with_required(&self) -> Vec<&'static str> {
        [self.required.as_slice(), &[self.value]].concat()
    }

    fn path(&self) -> &str {
        self.value.split('=').next().unwrap()
    }
}

fn read(part: &'static str) -> Vec<Switch> {
    let mut switches: Vec<Switch> = Vec::new();
    for line in part.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix("  "), switches.last_mut()) {
            (Some(line), Some(last)) => match line.strip_prefix("with ") {
                Some(value) => last.required.push(value),
                None => last.changes.push(line.replace("VERSION", env!("CARGO_PKG_VERSION"))),
            },
            _ => switches.push(Switch { value: line, required: Vec::new(), changes: Vec::new() }),
        }
    }
    switches
}

/// The values of all that can be thrown at once.
pub fn all() -> Vec<&'static str> {
    let together = TABLE.split_once(APART).unwrap().0;
    read(together).iter().map(|switch| switch.value).collect()
}

/// Those that can't.
pub fn separate() -> Vec<Switch> {
    let (_, rest) = TABLE.split_once(APART).unwrap();
    read(rest.split_once('\n').unwrap().1)
}

pub fn each() -> Vec<Switch> {
    let mut each = read(TABLE.split_once(APART).unwrap().0);
    each.extend(separate());
    each
}

/// The paths of all values that have none below them.
fn paths(values: &Value, path: &str, found: &mut Vec<String>) {
    match values.as_object() {
        Some(map) if !map.is_empty() => {
            let dot = if path.is_empty() { "" } else { "." };
            map.iter().for_each(|(key, value)| paths(value, &format!("{path}{dot}{key}"), found));
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_value_of_the_chart_is_thrown_by_a_switch() {
    let mut all = Vec::new();
    paths(&documents(VALUES)[0], "", &mut all);
    let switches = each();
    let thrown = |path: &str| {
        switches.iter().any(|switch| {
            let name = switch.path();
            let below = |inner: &str, outer: &str| {
                inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            below(path, name) || below(name, path)
        })
    };
    let other_namespace = |path: &str| ELSEWHERE.iter().any(|value| value.0 == path);
    let missing: Vec<_> = all.iter().filter(|path| !thrown(path) && !other_namespace(path)).collect();
    assert!(missing.is_empty(), "values that no switch throws: {missing:#?}");
    for (value, test) in ELSEWHERE {
        assert!(all.iter().any(|path| path == value) && !thrown(value), "{value} needs no exception");
        assert!(TESTS.contains(&format!("fn {test}()")), "{test}");
        assert!(TESTS.contains(value.rsplit('.').next().unwrap()), "{value}");
    }
}

#[test]
fn each_switch_changes_what_it_says_and_nothing_else() {
    let mut wrong = Vec::new();
    for switch in each() {
        let Switch { value, required, changes } = &switch;
        let rendered = render(&switch.with_required()).unwrap_or_else(|error| panic!("{value}: {error}"));
        holds_together(&rendered);
        let after = lines(&rendered);
        let found = changed_lines(&lines(&render(required).unwrap()), &after);
        let changes: BTreeSet<_> = changes.iter().flat_map(|line| of_every(line, &after)).collect();
        let (more, not): (Vec<_>, Vec<_>) =
            (found.difference(&changes).collect(), changes.difference(&found).collect());
        // Of an object that is new as a whole some lines may be told.
        let in_new = |line: &&String| {
            let (object, line) = line.strip_prefix("+ ").and_then(|line| line.split_once(": "))?;
            (found.contains(&format!("+ {object}")) && after[object].contains(line)).then_some(())
        };
        let not: Vec<_> = not.into_iter().filter(|line| in_new(line).is_none()).collect();
        if !more.is_empty() || !not.is_empty() {
            wrong.push(format!("{value}: changes {more:#?} and not {not:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `every` stands for each object, and `every Kind` for each of a kind.
fn of_every(line: &str, objects: &Lines) -> Vec<String> {
    let Some((sign, rest)) = line.split_once(" every") else { return vec![line.to_owned()] };
    let (kind, rest) = rest.split_once(": ").unwrap();
    let mut names: Vec<_> = objects.keys().collect();
    names.retain(|name| kind.is_empty() || name.split(' ').next() == Some(kind.trim_start()));
    names.iter().map(|name| format!("{sign} {name}: {rest}")).collect()
}

/// That each name in it is the name of something in it.
pub fn holds_together(rendered: &[Value]) {
    let deployment = &of_kind(rendered, "Deployment")[0];
    let (home, pod) = (&deployment["metadata"]["namespace"], &deployment["spec"]["template"]);
    let chosen = |wanted: &Value, labels: &Value, by: &Value| {
        let wanted = wanted.as_object().unwrap_or_else(|| panic!("no selector in {by:#}"));
        assert!(wanted.iter().all(|(name, value)| labels[name] == *value), "it finds nothing: {by:#}");
    };
    for (kind, path) in [
        ("Deployment", "/spec/selector/matchLabels"),
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ("PodMonitor", "/spec/selector/matchLabels"),
    ] {
        for object in of_kind(rendered, kind) {
            chosen(object.pointer(path).unwrap(), &pod["metadata"]["labels"], object);
        }
    }
    for constraint in pod["spec"]["topologySpreadConstraints"].as_array().into_iter().flatten() {
        chosen(&constraint["labelSelector"]["matchLabels"], &pod["metadata"]["labels"], constraint);
    }
    for monitor in of_kind(rendered, "ServiceMonitor") {
        let service = of_kind(rendered, "Service")[0];
        chosen(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"], monitor);
    }
    let account = &pod["spec"]["serviceAccountName"];
    let own = of_kind(rendered, "ServiceAccount");
    assert!(
        own.iter().all(|own| own["metadata"]["name"] == *account && own["metadata"]["namespace"] == *home)
    );
    for kind in ["Role", "ClusterRole"] {
        for binding in of_kind(rendered, &format!("{kind}Binding")) {
            let subject = json!([{"kind": "ServiceAccount", "name": account, "namespace": home}]);
            assert_eq!(binding["subjects"], subject);
            let role = of_kind(rendered, binding["roleRef"]["kind"].as_str().unwrap());
            let is_meant = |role: &&Value| {
                role["metadata"]["name"] == binding["roleRef"]["name"]
                    && role["metadata"]["namespace"] == binding["metadata"]["namespace"]
            };
            assert!(role.iter().any(is_meant), "it binds nothing: {binding:#}");
        }
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let user = format!("'system:serviceaccount:{}:{}'", text(home), text(account));
    for binding in of_kind(rendered, "ValidatingAdmissionPolicyBinding") {
        let policies = of_kind(rendered, "ValidatingAdmissionPolicy");
        let is_meant = |policy: &&&Value| policy["metadata"]["name"] == binding["spec"]["policyName"];
        let policy =
            policies.iter().find(is_meant).unwrap_or_else(|| panic!("it binds nothing: {binding:#}"));
        let conditions = policy["spec"]["matchConditions"].as_array().into_iter().flatten();
        for but in conditions.filter(|condition| condition["name"] == "not-the-operator") {
            assert!(text(&but["expression"]).contains(&user), "{but} is not about {user}");
        }
    }
    let arguments = arguments(deployment);
    let given = |flag: &str| {
        let values = arguments.iter().filter_map(|argument| argument.strip_prefix(flag));
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    let lease = given("--lease-name=").pop().unwrap_or(RELEASE.into());
    let roles = of_kind(rendered, "Role");
    let rules = |role: &&Value| role["rules"].as_array().unwrap().clone();
    let leases: Vec<_> =
        roles.iter().flat_map(rules).filter(|rule| !rule["resourceNames"].is_null()).collect();
    assert!(leases.iter().all(|rule| rule["resourceNames"] == json!([lease])), "{lease}: {leases:?}");
    if !roles.is_empty() {
        let about = |role: &&&Value| rules(role).iter().any(|rule| rule["resources"] == json!(["channels"]));
        let places: Vec<_> =
            roles.iter().filter(about).map(|role| text(&role["metadata"]["namespace"])).collect();
        assert_eq!(places, given("--namespace="), "roles where the operator reads");
    }
    let container = &pod["spec"]["containers"][0];
    let ports = &container["ports"][0];
    assert_eq!((&ports["name"], container["ports"].as_array().unwrap().len()), (&json!("http"), 1));
    let http = given("--http-addr=").pop().unwrap_or("0.0.0.0:8080".into());
    assert!(http.ends_with(&format!(":{}", ports["containerPort"])), "{http} is not at {ports}");
}
