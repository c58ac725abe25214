//! `schema`: JSON schemas for editors and for other validators.

mod convert;

use std::path::{Path, PathBuf};

use ohallo_core::api::{GROUP, crds};
use serde_json::Value;

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::{plan, validate};

const HELP: &str = "\
Examples:
  kubectl ohallo schema channel
  kubectl ohallo schema --out schemas/
  kubeconform -schema-location 'schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json' \\
    -schema-location default channels/

For yaml-language-server, begin a manifest with
  # yaml-language-server: $schema=schemas/ohallo.eu/channel_v1alpha1.json

Exit codes: 0 written, 2 can't be written, 64 wrong usage.";

/// The folder of the schemas of this program's own output.
const REPORTS: &str = "kubectl-ohallo";

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Kind to print: channel, workspace, clusterworkspace; or validate or plan, for their reports
    #[arg(value_name = "KIND", required_unless_present = "out", conflicts_with = "out")]
    kind: Option<String>,

    /// Write all schemas into this directory, as <group>/<kind>_<version>.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// One schema, and its file below the directory.
struct Published {
    name: String,
    file: PathBuf,
    schema: Value,
}

/// # Errors
/// There is no such kind, or a file can't be written.
pub fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let all = published()?;
    if let Some(folder) = &args.out {
        return all.iter().try_for_each(|schema| write(folder, schema));
    }
    let wanted = args.kind.as_deref().unwrap_or_default().to_lowercase();
    match all.iter().find(|schema| schema.name == wanted) {
        Some(schema) => output.print(&output::json(&schema.schema)?),
        None => {
            let names: Vec<_> = all.iter().map(|schema| schema.name.as_str()).collect();
            Err(Failure::usage(format!("there is no schema {wanted}: name one of {}", names.join(", "))))
        }
    }
}

fn write(folder: &Path, published: &Published) -> Result<(), Failure> {
    let path = folder.join(&published.file);
    let text = output::json(&published.schema)?;
    let parent = path.parent().unwrap_or(folder);
    let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, text));
    written.map_err(|error| Failure::undecided(format!("{} can't be written: {error}", path.display())))
}

fn published() -> Result<Vec<Published>, Failure> {
    let mut all = Vec::new();
    for crd in crds() {
        let kind = &crd.spec.names.kind;
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let schema = serde_json::to_value(schema).map_err(Failure::undecided)?;
            let name = kind.to_lowercase();
            let file = Path::new(GROUP).join(format!("{name}_{}.json", version.name));
            all.push(Published { name, file, schema: convert::of_kind(kind, &version.name, schema) });
        }
    }
    let file = Path::new(REPORTS).join(format!("validate_{}.json", validate::VERSION));
    all.push(Published { name: "validate".to_owned(), file, schema: validate::schema() });
    let file = Path::new(REPORTS).join(format!("plan_{}.json", plan::VERSION));
    all.push(Published { name: "plan".to_owned(), file, schema: plan::schema() });
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn accepts(name: &str, value: &Value) -> bool {
        let all = published().unwrap();
        let schema = &all.iter().find(|schema| schema.name == name).unwrap().schema;
        jsonschema::draft7::new(schema).unwrap().is_valid(value)
    }

    fn channel(spec: Value) -> Value {
        json!({"apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel", "metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn a_schema_accepts_a_channel_and_refuses_what_a_schema_can_see() {
        let good = json!({"channelType": "chat", "displayName": "A", "config": {"any": {"thing": [1]}}});
        assert!(accepts("channel", &channel(good.clone())));
        for (key, wrong) in [
            ("channelType", json!("sms")),
            ("displayName", json!("")),
            ("enabled", json!("yes")),
            ("intervalSeconds", json!(5)),
            ("channelId", json!("a/b")),
            ("colour", json!("red")),
            ("credentials", json!([{"secretRef": {"name": "a", "namespace": "b"}}])),
            ("config", json!([])),
        ] {
            let mut spec = good.clone();
            spec[key] = wrong;
            assert!(!accepts("channel", &channel(spec)), "{key}");
        }
        let mut other = channel(good);
        other["kind"] = json!("Workspace");
        assert!(!accepts("channel", &other));
    }

    #[test]
    fn every_field_of_a_schema_has_a_description() {
        for published in published().unwrap() {
            let mut without = Vec::new();
            collect(&published.schema, "", &mut without);
            without.retain(|path| !path.contains("status."));
            assert!(without.is_empty(), "{}: {without:?}", published.name);
        }
    }

    fn collect(schema: &Value, path: &str, without: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if !property["description"].is_string()
                && property.get("$ref").is_none()
                && property.get("allOf").is_none()
            {
                without.push(path.clone());
            }
            collect(property, &path, without);
        }
    }
}
