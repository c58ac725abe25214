//! docs/kubectl-ohallo.md, generated from the program's own help.

use std::fmt::Write;

use crate::cli::rights::{RIGHTS, Rights};
use crate::cli::support::program::run;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kubectl-ohallo.md");
const HEAD: &str = "# kubectl ohallo

Generated from `--help`: `OHALLO_TEST_WRITE=1 cargo test --test it the_page_of_kubectl_ohallo`.

One program for people and pipelines. It works as `kubectl ohallo` and as `kubectl-ohallo`. [Pipelines](pipelines.md) shows it in
GitHub, GitLab, Flux and Argo CD.

## Install

With [krew](https://krew.sigs.k8s.io), from the files of a release: download `ohallo.yaml` and the archive for your system, then

    kubectl krew install --manifest=ohallo.yaml --archive=kubectl-ohallo-linux-amd64.tar.gz

Or unpack the archive and move `kubectl-ohallo` to a folder of your `PATH`. From source: `cargo build --release --package kubectl-ohallo`.

Put `kubectl_complete-ohallo` of the archive on the `PATH` too: kubectl's completion then knows the commands and the names of your
Channels. `k9s-plugins.yaml` has keys for k9s.

## Rights

What a command asks of the API server. A test compares this table with the audit log.

| command | needs | shows more with |
|---|---|---|
";

fn cell(rights: &[&str]) -> String {
    if rights.is_empty() {
        return "nothing".to_owned();
    }
    rights.iter().map(|right| format!("`{right}`")).collect::<Vec<_>>().join(" ")
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for Rights { commands, required, optional } in RIGHTS {
        let commands: Vec<_> = commands.iter().map(|command| format!("`{command}`")).collect();
        writeln!(page, "| {} | {} | {} |", commands.join(" "), cell(required), cell(optional)).unwrap();
    }
    page.push_str(
        "\nFor a Workspace or ClusterWorkspace, `why` and the verbs need the same verbs on that kind. \
         With `--live`, `plan` also needs `get secrets`. With `--base` alone, it asks nothing.\n\n## Commands\n",
    );
    let help = help(&[]);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for name in names.filter(|name| !name.is_empty()) {
        write!(page, "\n### {name}\n\n```\n{}```\n", self::help(&[name])).unwrap();
    }
    page
}

fn help(command: &[&str]) -> String {
    let mut args = command.to_vec();
    args.push("--help");
    let text = String::from_utf8(run(&args).stdout).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_page_of_kubectl_ohallo_is_its_help() {
    let page = page();
    if std::env::var_os("OHALLO_TEST_WRITE").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let found = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        found == page,
        "docs/kubectl-ohallo.md is not what the program says: OHALLO_TEST_WRITE=1 cargo test --test it the_page_of_kubectl_ohallo"
    );
}
