//! What is wrong with an object.

use schemars::JsonSchema;
use serde::Serialize;

use crate::manifest::{FieldPath, Position};

/// The rule that an object breaks.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::EnumIter,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Rule {
    /// The document can't be parsed.
    Syntax,
    /// The group has no such kind or version.
    UnknownKind,
    /// A key that its object has already.
    DuplicateKey,
    UnknownField,
    Required,
    Type,
    Enum,
    TooLong,
    TooShort,
    TooMany,
    Pattern,
    OutOfRange,
    /// The same item twice in a set.
    DuplicateItem,
    /// Names, labels and other metadata.
    Metadata,
    /// A validation rule (CEL) of the CustomResourceDefinition.
    Validation,
}

/// One thing that is wrong, at one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub rule: Rule,
    pub path: FieldPath,
    /// *cause: remedy*, without the path.
    pub message: String,
    /// Where it is, if that is not where the path leads.
    pub at: Option<Position>,
}

// === impl Rule ===

impl Rule {
    /// Whether the API server then leaves the validation rules (CEL) out.
    pub fn hides_rules(self) -> bool {
        match self {
            Self::Required | Self::Type | Self::Enum | Self::TooLong | Self::TooMany => true,
            Self::Syntax
            | Self::UnknownKind
            | Self::DuplicateKey
            | Self::UnknownField
            | Self::TooShort
            | Self::Pattern
            | Self::OutOfRange
            | Self::DuplicateItem
            | Self::Metadata
            | Self::Validation => false,
        }
    }

    /// One sentence about it, for those who read only the rule's name.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Syntax => "The document can't be parsed.",
            Self::UnknownKind => "The API group has no such kind or version.",
            Self::DuplicateKey => "An object has the same key twice.",
            Self::UnknownField => "The schema has no such field.",
            Self::Required => "A required field is missing.",
            Self::Type => "A value has the wrong type.",
            Self::Enum => "A value is none of the allowed ones.",
            Self::TooLong => "A text is too long.",
            Self::TooShort => "A text is too short.",
            Self::TooMany => "A list or an object has too many entries.",
            Self::Pattern => "A text has characters that are not allowed.",
            Self::OutOfRange => "A number is too small or too large.",
            Self::DuplicateItem => "A set has the same item twice.",
            Self::Metadata => "A name, a label or other metadata is not valid in Kubernetes.",
            Self::Validation => "A validation rule of the kind refuses the object.",
        }
    }
}

// === impl Finding ===

impl Finding {
    pub fn new(rule: Rule, path: &FieldPath, message: impl Into<String>) -> Self {
        Self { rule, path: path.clone(), message: message.into(), at: None }
    }
}
