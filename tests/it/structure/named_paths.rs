//! The files that CONTRIBUTING.md names exist.

use std::path::Path;

use super::{ROOT, files, read, relative};

const ENDINGS: [&str; 13] =
    [".rs", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".lua", ".go", ".mod", ".sh", ".tpl", ".svg"];

/// The paths in backticks of a page: with a slash below one of these top folders, or with a known ending. Commands,
/// flags, URLs and Rust paths are none.
fn named(page: &str, top: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for word in page.split('`').skip(1).step_by(2) {
        let odd = |letter: char| letter.is_whitespace() || "$=\"'()|,".contains(letter);
        if word.contains(odd)
            || word.contains("::")
            || word.contains("//")
            || word.starts_with(['-', '/', '.'])
        {
            // Hidden folders of the project are paths as well.
            if !word.starts_with(".ci/") && !word.starts_with(".github/") {
                continue;
            }
        }
        let first = word.split('/').next().unwrap_or_default();
        let ending = ENDINGS.iter().any(|ending| word.len() > ending.len() && word.ends_with(ending));
        if ending || word.contains('/') && top.iter().any(|name| name == first) {
            found.push(word.to_owned());
        }
    }
    found
}

/// Whether a file or folder exists: `<kind>` and `*` stand for any part of a name, a name without a folder for a file
/// anywhere.
fn exists(named: &str, tree: &[String]) -> bool {
    let named = named.trim_end_matches('/');
    let anywhere = !named.contains('/');
    tree.iter().any(|path| {
        if anywhere {
            return path.split('/').any(|part| matches(named, part));
        }
        let (wanted, parts): (Vec<_>, Vec<_>) = (named.split('/').collect(), path.split('/').collect());
        parts.len() >= wanted.len() && wanted.iter().zip(&parts).all(|(wanted, part)| matches(wanted, part))
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    let open = pattern.find(['<', '*']);
    let Some(open) = open else { return pattern == name };
    let close = if pattern[open..].starts_with('*') {
        open + 1
    } else {
        pattern[open..].find('>').map_or(pattern.len(), |end| open + end + 1)
    };
    let (before, after) = (&pattern[..open], &pattern[close..]);
    name.strip_prefix(before).is_some_and(|rest| {
        (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
    })
}

/// The paths of a page that lead nowhere.
fn missing(page: &str, top: &[String], tree: &[String]) -> Vec<String> {
    named(page, top).into_iter().filter(|path| !exists(path, tree)).collect()
}

fn tree() -> Vec<String> {
    files(Path::new(ROOT), &[])
        .iter()
        .map(|path| relative(path))
        .filter(|path| !path.starts_with(".git/"))
        .collect()
}

fn top(tree: &[String]) -> Vec<String> {
    let mut names: Vec<_> = tree.iter().filter_map(|path| Some(path.split_once('/')?.0.to_owned())).collect();
    names.dedup();
    // A folder that a page names may be the one that is missing.
    names.extend(["src", "crates", "tests", "docs", "deploy", "dev", "crds", ".ci"].map(str::to_owned));
    names
}

fn list(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn paths_are_found_in_backticks_and_commands_are_not() {
    let page = "Edit `src/cli/run.rs` and `values.yaml`, see `crates/ohallo-core/src/`, `.ci/run` and `docs/*.md`. Run \
                `cargo test --test it docs::links`; `kube-rs/kube`, `/livez`, `--http-addr`, `spec.channelId`, \
                `https://example.com/a.md` and `ohallo_core::channel` are no paths, nor is src/gone.rs.";
    let found = named(page, &list(&["src", "crates", ".ci", "docs"]));
    assert_eq!(found, ["src/cli/run.rs", "values.yaml", "crates/ohallo-core/src/", ".ci/run", "docs/*.md"]);
}

#[test]
fn a_path_that_leads_nowhere_is_reported() {
    let tree =
        list(&["src/channel/plan.rs", "src/workspace/mod.rs", "deploy/helm/values.yaml", "docs/api.md"]);
    let top = list(&["src", "deploy", "docs"]);
    let good =
        "`src/channel/plan.rs` `src/channel/` `src/<kind>/mod.rs` `values.yaml` `docs/*.md` `deploy/helm`";
    assert!(missing(good, &top, &tree).is_empty(), "{:?}", missing(good, &top, &tree));
    let bad = "`src/channel/act.rs` `docs/apis.md` `none.yaml` `src/<kind>/act.rs` `deploy/kustomize`";
    let expected =
        ["src/channel/act.rs", "docs/apis.md", "none.yaml", "src/<kind>/act.rs", "deploy/kustomize"];
    assert_eq!(missing(bad, &top, &tree), expected);
}

#[test]
fn every_path_that_contributing_names_exists() {
    let page = read(&Path::new(ROOT).join("CONTRIBUTING.md"));
    let tree = tree();
    let top = top(&tree);
    assert!(named(&page, &top).len() > 10, "the recipes of CONTRIBUTING.md name their files");
    let missing = missing(&page, &top, &tree);
    assert!(missing.is_empty(), "CONTRIBUTING.md names files that do not exist: {missing:#?}");
}
