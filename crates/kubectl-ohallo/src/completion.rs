//! Completion in shells: `kubectl_complete-ohallo` asks `__complete`, which also knows the names in the cluster.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::sync::OnceLock;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::engine::CompletionCandidate;
use clap_complete::{Shell, generate};
use kube::api::ListParams;
use ohallo_core::api::ObjectKind;

use crate::cli::Cli;
use crate::cluster::{Cluster, block_on};
use crate::failure::Failure;
use crate::global::Global;
use crate::output::Output;

/// Nobody waits longer for a completion.
const PATIENCE: Duration = Duration::from_secs(2);

/// After the candidates: the shell adds no names of files.
const NO_FILES: &str = ":4";

/// The flags of the command that is being completed, which say where the names are.
static GLOBAL: OnceLock<Global> = OnceLock::new();

const HELP: &str = "\
Examples:
  source <(kubectl ohallo completion bash)
  kubectl ohallo completion zsh > \"${fpath[1]}/_kubectl-ohallo\"

This script completes `kubectl-ohallo`. For `kubectl ohallo`, put the file kubectl_complete-ohallo of the release on the PATH:
kubectl's own completion asks it, and it also completes names of Channels.

Exit codes: 0 success, 64 wrong usage.";

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Script {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub struct Words {
    /// What follows `kubectl ohallo`; the last word is completed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// # Errors
/// stdout can't be written.
pub fn script(args: &Script, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "kubectl-ohallo", &mut script);
    output.print(&String::from_utf8_lossy(&script))
}

/// Answers as kubectl asks a plugin: a line for each candidate, and a directive.
///
/// # Errors
/// stdout can't be written.
pub fn candidates(args: &Words, output: &mut Output) -> Result<(), Failure> {
    GLOBAL.get_or_init(|| global(&args.words));
    let mut words = vec![OsString::from("kubectl-ohallo")];
    words.extend(args.words.iter().cloned());
    if args.words.is_empty() {
        words.push(OsString::new());
    }
    let last = words.len() - 1;
    let mut text = String::new();
    // An unknown command has no candidates.
    let found = clap_complete::engine::complete(&mut Cli::command(), words, last, None).unwrap_or_default();
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let value = candidate.get_value().to_string_lossy();
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        _ = writeln!(text, "{}\t{}", ohallo_core::text::escape(&value), ohallo_core::text::escape(help));
    }
    _ = writeln!(text, "{NO_FILES}");
    output.print(&text)
}

/// The flags that say where the cluster is.
fn global(words: &[OsString]) -> Global {
    let value = |names: [&str; 2]| {
        let mut words = words.iter().filter_map(|word| word.to_str());
        while let Some(word) = words.next() {
            for name in names {
                if word == name {
                    return words.next().map(str::to_owned);
                }
                if let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                    return Some(value.to_owned());
                }
            }
        }
        None
    };
    Global {
        namespace: value(["--namespace", "-n"]),
        kubeconfig: value(["--kubeconfig", "--kubeconfig"]).map(Into::into),
        context: value(["--context", "--context"]),
        no_color: true,
    }
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
    use super::*;

    fn of(words: &[&str]) -> Global {
        global(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_flags_before_the_word_say_where_the_names_are() {
        let flags = of(&["why", "-n", "team-a", "--context=prod", "--kubeconfig", "file", ""]);
        assert_eq!((flags.namespace.as_deref(), flags.context.as_deref()), (Some("team-a"), Some("prod")));
        assert_eq!(flags.kubeconfig.as_deref(), Some(std::path::Path::new("file")));
        assert_eq!(of(&["why", "--namespace"]).namespace, None);
    }
}
