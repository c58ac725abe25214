//! The types of oHallo's API. Decoding is lenient: a missing field or a field of another type is `None`, an unknown
//! field is ignored; the callers decide what that means.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::same_id;
use crate::api::values::RemoteState;
use crate::secret::Redactor;

/// The maximum length of a channel's words from oHallo, in characters.
const MAX_WORD_CHARS: usize = 128;

/// The maximum length of a workspace's name, in characters.
const MAX_NAME_CHARS: usize = 256;

/// The maximum length of a valid id, in bytes.
const ID_MAX: usize = 128;

/// An id from oHallo: opaque (its documentation shows several formats), but always valid as one path segment. Two ids are
/// equal in their canonical form: a UUID in any case is one.
#[derive(Clone, Debug, Eq)]
pub struct Id(String);

/// A channel as `GET /api/channels/{id}` and the response to `PATCH` return it. oHallo never returns
/// `enabled` and credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteChannel {
    pub id: Id,
    pub workspace_id: Option<String>,
    pub channel_type: Option<String>,
    pub display_name: Option<String>,
    /// `active`, `pending_dns`, `provisioning`, `error`, or a later word of oHallo.
    pub status: Option<String>,
    /// Empty where it is null or missing.
    pub config: Map<String, Value>,
    /// ISO 8601, as sent.
    pub created_at: Option<String>,
}

/// The fields of a workspace that the operator reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteWorkspace {
    pub id: Id,
    pub name: Option<String>,
}

/// The body of a create. It is inferred, not documented by oHallo.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewChannel {
    pub channel_type: String,
    pub display_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// The body of `PATCH /api/channels/{id}`: omitted fields remain unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The whole config, so that the result is the same whether oHallo merges or replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

// === impl Id ===

impl Id {
    /// Accepts `^[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}$`: characters that no URL library rewrites, and neither
    /// `.` nor `..`, which all of them resolve.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'~' | b'-');
        let (first, rest) = text.as_bytes().split_first()?;
        let fit =
            text.len() <= ID_MAX && plain(*first) && rest.iter().all(|byte| plain(*byte) || *byte == b'.');
        fit.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        same_id(&self.0, &other.0)
    }
}

// === impl RemoteChannel ===

impl RemoteChannel {
    /// Redacts and truncates the words that messages and statuses quote. `displayName` and `config` remain unchanged,
    /// because they are compared.
    pub fn cleaned(self, redactor: &Redactor) -> Self {
        let clean = |text: Option<String>| text.map(|text| redactor.clean(&text, MAX_WORD_CHARS));
        Self {
            channel_type: clean(self.channel_type),
            status: clean(self.status),
            created_at: clean(self.created_at),
            ..self
        }
    }

    /// The provisioning state, from `status`.
    pub fn state(&self) -> RemoteState<'_> {
        RemoteState::of(self.status.as_deref())
    }

    /// `None` where the value is not an object or has no valid id.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut fields) = value else { return None };
        Some(Self {
            id: Id::parse(&text(&mut fields, "id")?)?,
            workspace_id: text(&mut fields, "workspaceId"),
            channel_type: text(&mut fields, "channelType"),
            display_name: text(&mut fields, "displayName"),
            status: text(&mut fields, "status"),
            config: match fields.remove("config") {
                Some(Value::Object(config)) => config,
                _ => Map::new(),
            },
            created_at: text(&mut fields, "createdAt"),
        })
    }
}

// === impl RemoteWorkspace ===

impl RemoteWorkspace {
    /// Redacts and truncates the name for a status.
    pub fn cleaned(self, redactor: &Redactor) -> Self {
        Self { name: self.name.map(|name| redactor.clean(&name, MAX_NAME_CHARS)), ..self }
    }

    /// `None` where the value is not an object or has no valid id.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut fields) = value else { return None };
        Some(Self { id: Id::parse(&text(&mut fields, "id")?)?, name: text(&mut fields, "name") })
    }
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_valid_only_as_one_harmless_path_segment() {
        let longest = "a".repeat(128);
        for fit in
            ["a", "ws_abc123", "d4e5f6a7-b8c9-0123-4567-890abcdef012", "~x", "-", "a.b", "a..", &longest]
        {
            assert_eq!(Id::parse(fit).as_ref().map(Id::as_str), Some(fit));
        }
        let too_long = "a".repeat(129);
        let unfit = [
            "",
            ".",
            "..",
            "...",
            ".a",
            "a/b",
            "/a",
            "%2e",
            "%2e%2e",
            "http://x",
            "a?b",
            "a#b",
            "a b",
            " a",
            "a\n",
            "a\0",
            "\u{7f}",
            "a\r\nb",
            "é",
            "a\\b",
            "a:b",
            "a@b",
            "a;b",
            "a+b",
            "\u{202e}a",
            &too_long,
        ];
        for unfit in unfit {
            assert_eq!(Id::parse(unfit), None, "{unfit:?}");
        }
    }

    #[test]
    fn a_channel_is_decoded_leniently() {
        let bare = |id: &str| RemoteChannel {
            id: Id::parse(id).unwrap(),
            workspace_id: None,
            channel_type: None,
            display_name: None,
            status: None,
            config: Map::new(),
            created_at: None,
        };
        let config = json!({"a": [1]}).as_object().unwrap().clone();
        for (value, expected) in [
            (json!({"id": "c1"}), Some(bare("c1"))),
            (json!({"id": "c1", "config": null, "status": 7, "displayName": ["x"]}), Some(bare("c1"))),
            (json!({"id": "c1", "config": "text", "new": {"field": true}}), Some(bare("c1"))),
            (
                json!({"id": "c1", "status": "later", "config": {"a": [1]}, "workspaceId": "w"}),
                Some(RemoteChannel {
                    status: Some("later".into()),
                    workspace_id: Some("w".into()),
                    config,
                    ..bare("c1")
                }),
            ),
            (json!({"id": 5}), None),
            (json!({"id": ".."}), None),
            (json!({"id": null}), None),
            (json!({}), None),
            (json!([]), None),
            (json!("c1"), None),
            (json!(null), None),
        ] {
            assert_eq!(RemoteChannel::from_value(value.clone()), expected, "{value}");
        }
    }

    #[test]
    fn the_words_that_are_quoted_hold_no_key_and_are_bounded_and_what_is_compared_stays() {
        let key = "sf_live_v1_a3Bx9kLm";
        let redactor = Redactor::of(&crate::secret::ApiKey::new(key.into()));
        let value = json!({"id": "c1", "status": format!("{key}!"), "channelType": format!("a\n{}", "b".repeat(1000)),
            "displayName": key, "createdAt": key, "config": {"a": key}});
        let found = RemoteChannel::from_value(value).unwrap().cleaned(&redactor);
        assert_eq!(found.status.as_deref(), Some("[redacted]!"));
        assert_eq!(found.created_at.as_deref(), Some("[redacted]"));
        assert_eq!(found.channel_type.map(|word| word.chars().count()), Some(MAX_WORD_CHARS));
        assert_eq!((found.display_name.as_deref(), &found.config["a"]), (Some(key), &json!(key)));
        let workspace = RemoteWorkspace::from_value(json!({"id": "w1", "name": format!("{key}'s")})).unwrap();
        assert_eq!(workspace.cleaned(&redactor).name.as_deref(), Some("[redacted]'s"));
    }

    #[test]
    fn a_workspace_is_decoded_leniently() {
        let workspace = RemoteWorkspace::from_value(json!({"id": "w1", "name": 3, "x": 1})).unwrap();
        assert_eq!((workspace.id.as_str(), workspace.name), ("w1", None));
        assert_eq!(RemoteWorkspace::from_value(json!({"name": "n"})), None);
    }

    #[test]
    fn bodies_leave_out_what_is_not_set() {
        let create = NewChannel {
            channel_type: "email".into(),
            display_name: "A".into(),
            config: None,
            enabled: None,
        };
        assert_eq!(
            serde_json::to_value(create).unwrap(),
            json!({"channelType": "email", "displayName": "A"})
        );
        let changes = Changes { enabled: Some(false), ..Changes::default() };
        assert_eq!(serde_json::to_value(changes).unwrap(), json!({"enabled": false}));
    }
}
