use ohallo_core::rights::Served;

use super::*;

fn operator(replicas: i32, ready_replicas: i32) -> Operator {
    Operator {
        namespace: "home".into(),
        name: "op".into(),
        version: "0.2.0".into(),
        replicas,
        ready_replicas,
        container: "operator".into(),
        service_account: "op".into(),
        http_port: 8080,
        served: Served::default(),
    }
}

#[test]
fn an_operator_without_ready_pods_is_a_problem_with_a_command() {
    assert_eq!(running(&operator(2, 2)).state, State::Ok);
    let stopped = running(&operator(0, 0));
    assert_eq!(stopped.remedy.as_deref(), Some("kubectl -n home scale deployment/op --replicas=1"));
    let starting = running(&operator(2, 1));
    assert!(starting.state == State::Problem && starting.message.contains("1 of 2 replicas are ready"));
    let served = Served { namespaces: vec!["a".into(), "b".into()], ..Served::default() };
    let limited = running(&Operator { served, ..operator(1, 1) });
    assert!(limited.message.ends_with("serves the namespaces a, b"), "{}", limited.message);
}

#[test]
fn the_json_says_everything_that_the_text_says() {
    let findings = Findings {
        findings: vec![
            Finding::ok("a", "is well"),
            Finding::problem("b", "is broken", "repair b"),
            Finding::unknown("c", "may not be read"),
        ],
    };
    let (text, json) = (text(&findings), output::json(&findings).unwrap());
    for part in ["a", "is well", "is broken", "repair b", "may not be read", "ok", "problem", "unknown"] {
        assert!(text.contains(part) && json.contains(part), "{part}");
    }
}
