//! The plan as programs read it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value;
use strum::VariantArray;

use crate::plan::change::{Change, Depth, Effect};

/// The version of the JSON format. It rises with each change that a reader has to know of.
pub const VERSION: u32 = 1;

/// What an apply would do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "The report of kubectl ohallo plan")]
pub struct Report {
    /// The version of the format: 1. It rises with each change that a reader has to know of.
    pub version: u32,
    /// What the plan knows: files, cluster or oHallo.
    pub depth: Depth,
    /// `--base`, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whether a channel in oHallo is deleted, may be, or will be when what the deletion waits for has ended.
    pub destroys: bool,
    /// Whether anything changes in oHallo or in who manages a channel there.
    pub has_changes: bool,
    /// In the order of `effect`, then by object.
    pub changes: Vec<Change>,
    /// How many there are of each effect.
    pub counts: BTreeMap<String, usize>,
    /// Channels of the manifests for which nothing changes.
    pub unchanged: usize,
    /// What the plan could not know.
    pub notes: Vec<String>,
}

/// The JSON schema of [`Report`].
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().for_serialize().into_generator();
    generator.into_root_schema_for::<Report>().to_value()
}

// === impl Report ===

impl Report {
    pub fn new(
        depth: Depth,
        base: Option<String>,
        mut changes: Vec<Change>,
        unchanged: usize,
        notes: Vec<String>,
    ) -> Self {
        changes.sort_by(|one, other| {
            let key = |change: &Change| {
                (change.effect, change.kind.clone(), change.namespace.clone(), change.name.clone())
            };
            key(one).cmp(&key(other))
        });
        let mut counts = BTreeMap::new();
        for change in &changes {
            *counts.entry(word(change.effect)).or_default() += 1;
        }
        Self {
            version: VERSION,
            depth,
            base,
            destroys: changes.iter().any(|change| change.effect.destroys() || change.deletes_later),
            has_changes: changes.iter().any(|change| change.effect.is_change()),
            changes,
            counts,
            unchanged,
            notes,
        }
    }

    /// The changes of each effect that has any.
    pub fn sections(&self) -> impl Iterator<Item = (Effect, Vec<&Change>)> {
        Effect::VARIANTS.iter().filter_map(|effect| {
            let changes: Vec<_> = self.changes.iter().filter(|change| change.effect == *effect).collect();
            (!changes.is_empty()).then_some((*effect, changes))
        })
    }

    /// Objects that the API server would refuse.
    pub fn refused(&self) -> usize {
        self.changes.iter().filter(|change| change.effect == Effect::Refused).count()
    }

    /// One sentence about the depth.
    pub fn about(&self) -> String {
        let what = match self.depth {
            Depth::Files => "the manifests alone; ids, origins and the values in oHallo are not known",
            Depth::Cluster => "the manifests and the cluster; the values in oHallo are not read",
            Depth::Ohallo => "the manifests, the cluster and the channels in oHallo",
        };
        format!("Depth {}: {what}.", self.depth)
    }

    /// `1 destroyed, 2 updated, 3 unchanged`.
    pub fn count_line(&self) -> String {
        let counted = self.sections().map(|(effect, changes)| format!("{} {}", changes.len(), effect.word()));
        counted.chain([format!("{} unchanged", self.unchanged)]).collect::<Vec<_>>().join(", ")
    }
}

/// The effect as JSON writes it.
fn word(effect: Effect) -> String {
    let value = serde_json::to_value(effect).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
