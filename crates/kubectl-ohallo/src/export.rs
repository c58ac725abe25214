//! `export`: the cluster's bound Channels, with their ids pinned, for Git, a backup or a move to another cluster.

use kube::ResourceExt;
use kube::api::DynamicObject;
use ohallo_core::api::channel::ChannelStatus;
use ohallo_core::api::{GROUP, ObjectKind, VERSION};
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, block_on};
use crate::failure::{Failure, SUCCESS};
use crate::global::Global;
use crate::output::{Output, fields, yaml};

const HELP: &str = "\
Examples:
  kubectl ohallo export > channels.yaml
  kubectl ohallo export --all-namespaces > backup.yaml

It prints the Workspaces and the bound Channels, without status. Each Channel names the id of its channel, so that an apply in
another cluster adopts the channel and creates none, and the deletion policy that is in force. A Channel without a channel is
left out, because an apply would create one. It has no Secrets: copy them by the tool that manages them.

Stop the operator of the old cluster before you apply the manifests in a new one: two operators would both manage the channels.

Exit codes: 0 success, 2 no answer, 64 wrong usage.";

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Export the objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// # Errors
/// The objects can't be read.
pub fn run(args: &Args, global: &Global, output: &mut Output) -> Result<u8, Failure> {
    let (manifests, left_out) = block_on(async {
        let cluster = Cluster::connect(global).await?;
        let shared = cluster.list_if_allowed(ObjectKind::ClusterWorkspace, false).await?;
        let workspaces = cluster.list(ObjectKind::Workspace, args.all_namespaces).await?;
        let channels = cluster.list(ObjectKind::Channel, args.all_namespaces).await?;
        let mut manifests = Vec::new();
        let shared = shared.iter().flatten().map(|object| (ObjectKind::ClusterWorkspace, object));
        let own = workspaces.iter().map(|object| (ObjectKind::Workspace, object));
        for (kind, object) in shared.chain(own) {
            manifests.push(yaml(&manifest(kind, object, spec(object)))?);
        }
        let mut left_out = Vec::new();
        for channel in &channels {
            match pinned(channel)? {
                Some(object) => manifests.push(yaml(&object)?),
                None => left_out.push(format!(
                    "{}/{}",
                    channel.namespace().unwrap_or_default(),
                    channel.name_any()
                )),
            }
        }
        Ok((manifests, left_out))
    })?;
    output.print(&manifests.join("---\n"))?;
    if !left_out.is_empty() {
        output.note(&format!(
            "left out, because they have no channel in oHallo or are being deleted: {}",
            left_out.join(", ")
        ));
    }
    Ok(SUCCESS)
}

/// What a user wrote: without what the API server and the operator add.
fn manifest(kind: ObjectKind, object: &DynamicObject, spec: Value) -> Value {
    let annotations = object.annotations().iter().filter(|(name, _)| is_the_users(name));
    let annotations: Map<_, _> =
        annotations.map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let metadata = fields([
        ("name", Some(object.name_any().into())),
        ("namespace", object.namespace().map(Value::from)),
        ("labels", Some(json!(object.labels())).filter(|_| !object.labels().is_empty())),
        ("annotations", Some(annotations).filter(|found| !found.is_empty()).map(Value::from)),
    ]);
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind.name(), "metadata": metadata, "spec": spec,
    })
}

fn spec(object: &DynamicObject) -> Value {
    object.data.get("spec").cloned().unwrap_or_default()
}

/// An intent or a request of the old cluster would mean something in the new one.
fn is_the_users(annotation: &str) -> bool {
    !annotation.starts_with(&format!("{GROUP}/"))
        && annotation != "kubectl.kubernetes.io/last-applied-configuration"
}

/// The manifest of a Channel with its id; `None` if it is bound to none, or being deleted.
///
/// # Errors
/// Its status can't be decoded.
fn pinned(channel: &DynamicObject) -> Result<Option<Value>, Failure> {
    let status = channel.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let status: ChannelStatus = serde_json::from_value(status).map_err(|error| {
        Failure::undecided(format!("the status of Channel {} can't be decoded: {error}", channel.name_any()))
    })?;
    Ok(with_id(channel, &status).filter(|_| channel.metadata.deletion_timestamp.is_none()))
}

fn with_id(channel: &DynamicObject, status: &ChannelStatus) -> Option<Value> {
    let id = status.bound_to(channel.metadata.uid.as_deref()?)?;
    let mut spec = spec(channel);
    let fields = spec.as_object_mut()?;
    fields.insert("channelId".into(), id.into());
    // An adopted channel is retained by default, and a created one is deleted: the new cluster adopts it. What is declared
    // may be newer than the status.
    if let Some(policy) = &status.deletion_policy {
        fields.entry("deletionPolicy").or_insert_with(|| policy.as_str().into());
    }
    Some(manifest(ObjectKind::Channel, channel, spec))
}
