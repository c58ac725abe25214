//! Names of objects in the cluster, for the completion of arguments.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap_complete::engine::CompletionCandidate;
use kube::api::ListParams;
use ohallo_core::api::ObjectKind;

use crate::cluster::{Cluster, block_on};
use crate::failure::Failure;
use crate::global::Global;

/// Nobody waits longer for a completion.
const PATIENCE: Duration = Duration::from_secs(2);

/// The flags of the command that is being completed, which say where the names are.
static GLOBAL: OnceLock<Global> = OnceLock::new();

/// Looks where the flags of this unfinished command line say.
pub fn look_where(command: clap::Command, words: &[OsString]) {
    GLOBAL.get_or_init(|| global(command, words));
}

/// Whatever is wrong in a command line that is still being written is ignored.
fn global(command: clap::Command, words: &[OsString]) -> Global {
    let parsed = command.ignore_errors(true).try_get_matches_from(words);
    let flag = |name| parsed.as_ref().ok()?.get_one::<String>(name).cloned();
    let kubeconfig = parsed.as_ref().ok().and_then(|parsed| parsed.get_one::<PathBuf>("kubeconfig").cloned());
    Global { namespace: flag("namespace"), kubeconfig, context: flag("context"), no_color: true }
}

/// Names of Channels that begin so; with `workspace/` those of Workspaces.
pub fn targets(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let (prefix, kind) = match current.split_once('/') {
        Some(("workspace", _)) => ("workspace/", ObjectKind::Workspace),
        Some(("clusterworkspace", _)) => ("clusterworkspace/", ObjectKind::ClusterWorkspace),
        Some(("channel", _)) => ("channel/", ObjectKind::Channel),
        _ => ("", ObjectKind::Channel),
    };
    let names = names(kind).into_iter().map(|name| format!("{prefix}{name}"));
    names.filter(|name| name.starts_with(&*current)).map(CompletionCandidate::new).collect()
}

/// None where there is no answer in time: a completion reports no errors.
fn names(kind: ObjectKind) -> Vec<String> {
    let Some(global) = GLOBAL.get() else { return Vec::new() };
    let listed = block_on(async {
        let listed = async {
            let cluster = Cluster::connect(global).await?;
            let params = ListParams::default().limit(500);
            cluster.api(kind).list_metadata(&params).await.map_err(Failure::undecided)
        };
        tokio::time::timeout(PATIENCE, listed).await.map_err(Failure::undecided)?
    });
    let items = listed.map(|list| list.items).unwrap_or_default();
    items.into_iter().filter_map(|object| object.metadata.name).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn of(words: &[&str]) -> Global {
        let words = ["kubectl-ohallo"].iter().chain(words).map(OsString::from);
        global(crate::cli::Cli::command(), &words.collect::<Vec<_>>())
    }

    #[test]
    fn the_flags_before_the_word_say_where_the_names_are() {
        let flags = of(&["why", "-n", "team-a", "--context=prod", "--kubeconfig", "file", ""]);
        assert_eq!((flags.namespace.as_deref(), flags.context.as_deref()), (Some("team-a"), Some("prod")));
        assert_eq!(flags.kubeconfig.as_deref(), Some(std::path::Path::new("file")));
        assert_eq!(of(&["why", "--namespace"]).namespace, None);
    }
}
