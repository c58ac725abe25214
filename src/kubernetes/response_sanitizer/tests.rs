use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;
use ohallo_core::api::channel::Channel;
use ohallo_core::fuzz::{bytes, config, document, object};
use ohallo_core::placeholder::finalizers_in;

const SUBJECTS: [Subject; 5] =
    [Subject::Channel, Subject::SmallObject, Subject::Namespace, Subject::Secret, Subject::Other];
const MODES: [Mode; 3] = [Mode::Cached, Mode::Light, Mode::Whole];
const PIECES: [usize; 5] = [1, 2, 3, 7, 1 << 20];

fn nested(levels: usize, inner: &str) -> String {
    (0..levels).fold(inner.to_owned(), |inner, level| {
        if level % 2 == 0 { format!(r#"{{"a]{{\"":{inner},"b":"}}\\"}}"#) } else { format!("[1,{inner}]") }
    })
}

/// The output for input in pieces of this size.
fn sanitized(subject: Subject, mode: Mode, text: &[u8], piece: usize) -> Vec<u8> {
    let mut sanitizer = Sanitizer::new(subject, mode);
    text.chunks(piece.max(1)).flat_map(|piece| sanitizer.pass(piece)).collect()
}

fn text(text: &str, piece: usize) -> String {
    String::from_utf8(sanitized(Subject::Other, Mode::Light, text.as_bytes(), piece)).unwrap()
}

/// The output for a value, however it is cut into pieces and printed.
fn projected(subject: Subject, mode: Mode, value: &Value) -> Value {
    let plain = value.to_string();
    let whole = sanitized(subject, mode, plain.as_bytes(), 1 << 20);
    for piece in PIECES {
        assert_eq!(sanitized(subject, mode, plain.as_bytes(), piece), whole, "in pieces of {piece}");
    }
    serde_json::from_slice(&whole)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&whole)))
}

/// The object alone, in a list, and in a watch event.
fn in_each_place(object: &Value, check: impl Fn(&dyn Fn(Subject, Mode) -> Value)) {
    check(&|subject, mode| projected(subject, mode, object));
    let list = json!({"items": [{}, object, {}], "kind": "List", "metadata": {"resourceVersion": "1", "continue": "c"}});
    check(&|subject, mode| {
        let out = projected(subject, mode, &list);
        assert_eq!(out["metadata"], list["metadata"]);
        out["items"][1].clone()
    });
    for event in [json!({"type": "ADDED", "object": object}), json!({"object": object, "type": "ADDED"})] {
        check(&|subject, mode| {
            let out = projected(subject, mode, &event);
            assert_eq!(out["type"], "ADDED");
            out["object"].clone()
        });
    }
}

fn channel(metadata: Value, spec: Value, status: Value) -> Value {
    json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": metadata, "spec": spec, "status": status})
}

#[test]
fn up_to_the_level_limit_everything_passes_unchanged_and_beyond_it_is_null() {
    assert_eq!(text(&nested(LEVELS, "7"), 4096), nested(LEVELS, "7"));
    for inner in ["{}", "[]", r#"{"x":[{"y":"}]"}]}"#, &nested(5000, "\"\\\"\"")] {
        let deep = nested(LEVELS, inner);
        for piece in PIECES {
            assert_eq!(text(&deep, piece), nested(LEVELS, "null"));
        }
        let _: Value = serde_json::from_str(&text(&deep, 4096)).unwrap();
    }
}

#[test]
fn managed_fields_are_dropped_from_the_metadata_of_any_object() {
    let fields = json!([{"manager": "a}]\",", "time": "9999-12-31T23:59:59Z", "fieldsV1": {"f:managedFields": {"x": [1, "]"]}}}]);
    let config = json!({"managedFields": [1], "metadata": {"managedFields": [2]}, "items": [{"metadata": {"managedFields": [3]}}]});
    for given in [fields, json!([]), Value::Null] {
        let object = json!({"kind": "Lease", "metadata": {"managedFields": given, "name": "a"}, "spec": {"config": config}});
        let left = json!({"kind": "Lease", "metadata": {"name": "a"}, "spec": {"config": config}});
        in_each_place(&object, |out| assert_eq!(out(Subject::Other, Mode::Light), left));
    }
}

#[test]
fn only_the_parts_of_an_object_that_the_operator_reads_pass() {
    let metadata = json!({
        "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"tier": "gold", "a": "b".repeat(63)}, "generateName": "x-", "selfLink": "/x",
        "ownerReferences": [{"name": "o", "uid": "x"}], "managedFields": [{"manager": "m"}],
        "annotations": {"example.com/x": "x".repeat(9000), "ohallo.eu/other": "1", annotation::RELEASE: "c1", annotation::CREATE_INTENT: ""},
        "finalizers": ["example.com/other", finalizer::CHANNEL],
    });
    let kept = json!({
        "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {annotation::RELEASE: "c1", annotation::CREATE_INTENT: ""},
        "finalizers": ["example.com/other", finalizer::CHANNEL],
    });
    let (spec, status) =
        (json!({"channelType": "chat", "config": {"labels": {"a": 1}}}), json!({"channelId": "c1"}));
    let object = channel(metadata.clone(), spec.clone(), status.clone());
    in_each_place(&object, |out| {
        for mode in MODES {
            assert_eq!(out(Subject::Channel, mode), channel(kept.clone(), spec.clone(), status.clone()));
            assert_eq!(out(Subject::SmallObject, mode)["metadata"], kept);
        }
    });
    let mut of_others = kept;
    let fields = of_others.as_object_mut().unwrap();
    fields.remove("annotations");
    fields.remove("finalizers");
    let secret =
        json!({"metadata": metadata, "data": {"apiKey": "eA=="}, "stringData": {"a": "b"}, "type": "Opaque"});
    let read = json!({"metadata": of_others, "data": {"apiKey": "eA=="}, "type": "Opaque"});
    in_each_place(&secret, |out| {
        assert_eq!(out(Subject::Secret, Mode::Light), read);
        assert_eq!(out(Subject::Secret, Mode::Cached), json!({"metadata": of_others, "type": "Opaque"}));
    });
    of_others["labels"] = metadata["labels"].clone();
    let namespace = json!({"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}});
    in_each_place(&namespace, |out| {
        assert_eq!(out(Subject::Namespace, Mode::Cached), json!({ "metadata": of_others }))
    });
}

#[test]
fn an_error_passes_for_every_kind_of_request() {
    let error = json!({"kind": "Status", "metadata": {}, "status": "Failure", "message": "too old", "reason": "Expired", "code": 410, "details": {"name": "x"}});
    for subject in SUBJECTS {
        in_each_place(&error, |out| assert_eq!(out(subject, Mode::Cached), error));
    }
}

#[test]
fn a_config_that_is_too_large_for_its_place_is_dropped_with_a_note_of_its_size() {
    let tiny: Vec<Value> = vec![json!({"": 0}); 50];
    let many: Vec<Value> = vec![json!({"": 0}); 1000];
    let wide: Vec<Value> = vec![json!({"": 0}); 6500];
    for (what, config, kept) in [
        ("a usual one", json!({"greeting": "Hello", "hours": {"from": 8, "to": [17, 18]}}), [true; 3]),
        ("plain text", json!({"a": "x".repeat(15_000)}), [true; 3]),
        ("more text", json!({"a": "x".repeat(60_000)}), [false, true, true]),
        ("small objects", json!({ "a": tiny }), [false, true, true]),
        ("more of them", json!({ "a": many }), [false, false, true]),
        ("as many as 64 KiB hold", json!({ "a": wide }), [false; 3]),
        ("too large to be sent", json!({"a": "x".repeat(65_530)}), [false; 3]),
        ("huge", json!({"a": "x".repeat(150_000)}), [false; 3]),
    ] {
        let object = channel(
            json!({"name": "a"}),
            json!({"channelType": "chat", "config": config, "suspend": true}),
            json!({}),
        );
        in_each_place(&object, |out| {
            for (mode, kept) in MODES.into_iter().zip(kept) {
                let spec = out(Subject::Channel, mode)["spec"].clone();
                if kept {
                    assert_eq!(spec, object["spec"], "{what} {mode:?}");
                    continue;
                }
                let text = config.to_string();
                let sizes = json!({"bytes": text.len(), "decoded": ohallo_core::decoded_size::decoded_size(text.as_bytes())});
                let left = json!({"channelType": "chat", "suspend": true, "leftOut": {"cut": false, "config": sizes}});
                assert_eq!(spec, left, "{what} {mode:?}");
            }
        });
    }
}

#[test]
fn a_config_counts_by_its_size_when_sent_and_not_by_the_api_server_s_escapes() {
    let escaped = format!(r#"{{"spec":{{"config":{{"a":"{}"}}}}}}"#, "\\u003c".repeat(60_000));
    let out = sanitized(Subject::Channel, Mode::Light, escaped.as_bytes(), 1000);
    assert_eq!(out, escaped.as_bytes());
}

#[test]
fn no_user_can_forge_the_notes_of_the_sanitizer() {
    let note = json!({"cut": true, "config": {"bytes": 1, "decoded": 1}});
    let spec = json!({"leftOut": note, "config": {"leftOut": note}});
    let object = channel(json!({"name": "a", "leftOut": note}), spec, json!({"leftOut": true}));
    let left = channel(json!({"name": "a"}), json!({"config": {"leftOut": note}}), json!({}));
    for mode in MODES {
        in_each_place(&object, |out| assert_eq!(out(Subject::Channel, mode), left));
    }
}

#[test]
fn a_long_annotation_is_cut_between_characters_and_is_no_longer_an_intent() {
    let intent = "4a1c3f3e-0000-4000-8000-000000000000/1/2026-01-01T00:00:00Z";
    for (name, long) in [
        ("plain", format!("{intent}{}", "[a=b]".repeat(2000))),
        ("multibyte", format!("x{}", "é😀".repeat(3000))),
        ("quotes", "\"\\\n\u{1}".repeat(3000)),
    ] {
        for escaped in [false, true] {
            let value = json!({"metadata": {"annotations": {annotation::CREATE_INTENT: long, annotation::RELEASE: "c1"}}});
            let plain = value.to_string();
            let surrogates: String = plain
                .chars()
                .flat_map(|c| {
                    let mut units = [0; 2];
                    if c.is_ascii() {
                        vec![c.to_string()]
                    } else {
                        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                    }
                })
                .collect();
            let given = if escaped { surrogates } else { plain };
            for piece in PIECES {
                let out = sanitized(Subject::Channel, Mode::Cached, given.as_bytes(), piece);
                let out: Value = serde_json::from_slice(&out).unwrap();
                let annotations = &out["metadata"]["annotations"];
                let kept = annotations[annotation::CREATE_INTENT].as_str().unwrap();
                assert!(kept.len() < 5000 && kept.chars().count() > 256, "{name} {}", kept.len());
                assert!(long.starts_with(kept.strip_suffix(CUT).unwrap()), "{name}");
                assert_eq!(ohallo_core::channel::binding::AttemptId::of_intent(kept), None, "{name}");
                assert_eq!(annotations[annotation::RELEASE], "c1");
            }
        }
    }
}

#[test]
fn among_many_finalizers_the_own_one_keeps_its_position_and_the_dropped_ones_are_counted() {
    let others = |from: usize| (from..from + 40).map(|number| format!("example.com/{number}"));
    let many: Vec<String> = others(0)
        .chain([finalizer::CHANNEL.to_owned()])
        .chain(others(40))
        .chain(["x".repeat(5000)])
        .collect();
    let object = channel(json!({"finalizers": many}), json!({}), json!({}));
    in_each_place(&object, |out| {
        for mode in MODES {
            let kept = out(Subject::Channel, mode);
            let kept: Vec<&str> =
                kept["metadata"]["finalizers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert_eq!(&kept[FINALIZERS..], ["…8", finalizer::CHANNEL, "…41"]);
            let before = kept.iter().take_while(|name| **name != finalizer::CHANNEL);
            assert_eq!(before.map(|entry| finalizers_in(entry)).sum::<usize>(), 40);
        }
    });
}

#[test]
fn a_status_larger_than_any_that_the_operator_writes_is_kept_out_of_the_cache() {
    let keys: Vec<String> = (0..64).map(|number| format!("{number:0250}")).collect();
    let status = json!({"channelId": "c1", "credentials": {"keys": keys}, "drift": [{"path": "a"}], "state": "active"});
    let object = channel(json!({"name": "a"}), json!({}), status.clone());
    in_each_place(&object, |out| {
        let left = json!({"channelId": "c1", "drift": [{"path": "a"}], "state": "active", "leftOut": true});
        assert_eq!(out(Subject::Channel, Mode::Cached)["status"], left);
        assert_eq!(out(Subject::Channel, Mode::Light)["status"], status);
    });
}

#[test]
fn credentials_keep_their_secrets_names_and_other_long_texts_are_cut_with_a_note() {
    let (name, key) = ("s".repeat(253), "é".repeat(253));
    let one = |key: &str| json!([{"name": key, "secretKeyRef": {"name": name, "key": key}}, {"secretRef": {"name": name}}]);
    let object = channel(json!({"name": "a"}), json!({"credentials": one(&key)}), json!({}));
    in_each_place(&object, |out| {
        let spec = out(Subject::Channel, Mode::Cached)["spec"].clone();
        assert_eq!(spec["credentials"], one(&format!("{}{CUT}", "é".repeat(128))));
        assert_eq!(spec["leftOut"], json!({"cut": true}));
        assert_eq!(out(Subject::Channel, Mode::Light), object);
    });
}

#[test]
fn a_secret_is_read_up_to_its_limit_and_labels_of_a_namespace_up_to_theirs() {
    for (size, kept) in [(SECRET_DATA - 8, true), (SECRET_DATA - 7, false), (1 << 19, false)] {
        let secret = json!({"data": {"a": "x".repeat(size)}, "metadata": {"uid": "u"}});
        let left = if kept { secret.clone() } else { json!({"data": {CUT: ""}, "metadata": {"uid": "u"}}) };
        assert_eq!(projected(Subject::Secret, Mode::Light, &secret), left, "{size}");
    }
    let labels: Map<String, Value> =
        (0..2000).map(|number| (format!("label-{number}"), "v".into())).collect();
    let namespace = json!({"metadata": {"labels": labels, "name": "a"}});
    let left = json!({"metadata": {"labels": {CUT: ""}, "name": "a"}});
    assert_eq!(projected(Subject::Namespace, Mode::Cached, &namespace), left);
}

#[test]
fn the_request_decides_the_subject_and_the_mode() {
    let group = "/apis/ohallo.eu/v1alpha1";
    for (path, whole, subject, mode) in [
        (format!("{group}/channels?&limit=50"), false, Subject::Channel, Mode::Cached),
        (format!("{group}/namespaces/a/channels?watch=true"), false, Subject::Channel, Mode::Cached),
        (format!("{group}/namespaces/a/channels/b"), false, Subject::Channel, Mode::Light),
        (format!("{group}/namespaces/a/channels/b"), true, Subject::Channel, Mode::Whole),
        (
            format!("{group}/namespaces/channels/workspaces/channels/status"),
            false,
            Subject::SmallObject,
            Mode::Light,
        ),
        (format!("{group}/clusterworkspaces"), false, Subject::SmallObject, Mode::Cached),
        (format!("{group}/clusterworkspaces/a"), false, Subject::SmallObject, Mode::Light),
        ("/api/v1/secrets?watch=true".into(), false, Subject::Secret, Mode::Cached),
        ("/api/v1/namespaces/a/secrets".into(), false, Subject::Secret, Mode::Cached),
        ("/api/v1/namespaces/a/secrets/b".into(), false, Subject::Secret, Mode::Light),
        ("/api/v1/namespaces".into(), false, Subject::Namespace, Mode::Cached),
        ("/api/v1/namespaces/a".into(), false, Subject::Namespace, Mode::Light),
        (
            "/apis/coordination.k8s.io/v1/namespaces/a/leases/secrets".into(),
            false,
            Subject::Other,
            Mode::Light,
        ),
        (group.into(), false, Subject::Other, Mode::Light),
    ] {
        let mut request = Request::get(&path).body(()).unwrap();
        if whole {
            request.extensions_mut().insert(Whole);
        }
        let sanitizer = Sanitizer::of(&request);
        assert_eq!((sanitizer.subject, sanitizer.mode), (subject, mode), "{path}");
    }
}

#[test]
fn one_line_of_a_watch_does_not_affect_the_next() {
    let (deep, flat) = (nested(200, "1"), nested(3, "2"));
    let out = text(&format!("{deep}\n{flat}\n"), 5);
    assert_eq!(out.lines().nth(1), Some(flat.as_str()));
    let cut: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert!(cut.is_object() || cut.is_array());
    let line =
        |size| json!({"type": "ADDED", "object": {"spec": {"config": {"a": "x".repeat(size)}}}}).to_string();
    let out =
        sanitized(Subject::Channel, Mode::Cached, format!("{}\n{}\n", line(100_000), line(10)).as_bytes(), 9);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.lines().nth(1), Some(line(10).as_str()));
    assert!(out.lines().next().unwrap().len() < 200);
}

/// An object as the API server's schema allows it, and beyond.
fn any_channel() -> impl Strategy<Value = Value> {
    let metadata = (object(), select(&[0, 3, 40][..])).prop_map(|(annotations, finalizers)| {
        let finalizers: Vec<String> = (0..finalizers).map(|number| format!("example.com/{number}")).collect();
        json!({"name": "a", "annotations": annotations, "labels": annotations, "finalizers": finalizers})
    });
    let large = (object(), select(&[1, 20, 400][..]))
        .prop_map(|(fields, times)| json!({"a": vec![Value::from(fields); times]}));
    (metadata, prop_oneof![large, object().prop_map(Value::from)], object()).prop_map(
        |(metadata, config, status)| {
            channel(metadata, json!({"channelType": "chat", "config": config}), status.into())
        },
    )
}

fn levels(text: &[u8]) -> usize {
    let (mut level, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => level += 1,
            (false, b'}' | b']') => level = level.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(level);
    }
    deepest
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn an_object_without_dropped_parts_passes_unchanged(fields in object(), piece in 1..200_usize) {
        let whole = json!({"metadata": {"name": "a"}, "spec": {"config": fields}}).to_string();
        prop_assert_eq!(text(&whole, piece), whole.clone());
        let kept = sanitized(Subject::Channel, Mode::Light, whole.as_bytes(), piece);
        prop_assert_eq!(String::from_utf8(kept).unwrap(), whole);
    }

    #[test]
    fn the_output_decodes_and_equals_the_input_without_the_dropped_parts(object in any_channel(), piece in 1..200_usize, mode in select(&MODES[..])) {
        let out = sanitized(Subject::Channel, mode, object.to_string().as_bytes(), piece);
        let out: Value = serde_json::from_slice(&out).unwrap();
        let (spec, given) = (&out["spec"], &object["spec"]);
        prop_assert_eq!(&spec["channelType"], &given["channelType"]);
        prop_assert!(spec["config"] == given["config"] || (spec["config"].is_null() && spec["leftOut"]["config"]["bytes"].is_u64()));
        for (name, value) in out["metadata"].as_object().unwrap() {
            let was = &object["metadata"][name];
            match value {
                Value::Object(kept) => prop_assert!(kept.iter().all(|(key, value)| was[key] == *value)),
                Value::Array(kept) => {
                    let one = |one: &Value| one == "…8" || was.as_array().unwrap().contains(one);
                    prop_assert!(kept.iter().all(one));
                }
                value => prop_assert_eq!(value, was),
            }
        }
    }

    #[test]
    fn an_object_decodes_with_any_annotation_and_any_config(value in document(), piece in 1..50_usize) {
        let note = json!({annotation::CREATE_INTENT: value.to_string(), "x": value.to_string()});
        let object = channel(json!({"name": "a", "annotations": note}), json!({"config": {"a": value}}), json!({}));
        let out = sanitized(Subject::Channel, Mode::Cached, object.to_string().as_bytes(), piece);
        let decoded: Channel = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(decoded.spec.config.map(Value::from), Some(object["spec"]["config"].clone()));
    }

    #[test]
    fn for_any_input_the_output_has_bounded_levels_and_little_more_text(after in bytes(), deep in 0..300_usize, piece in 1..50_usize, subject in select(&SUBJECTS[..]), mode in select(&MODES[..])) {
        let given = [nested(deep, "1").into_bytes(), after].concat();
        let out = sanitized(subject, mode, &given, piece);
        prop_assert!(levels(&out) <= LEVELS);
        prop_assert!(out.len() <= 2 * given.len() + 200);
        prop_assert_eq!(sanitized(subject, mode, &given, 1 << 20), out);
    }
}
