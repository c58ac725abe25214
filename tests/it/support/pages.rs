//! The pages at the root and in docs/: their commands, queries and YAML.

use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What a code block of a command begins with.
const PROGRAMS: [&str; 2] = ["kubectl ", "helm "];

/// A page's path and text.
pub type Page = (String, String);

pub fn all() -> Vec<Page> {
    let root = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    let mut paths: Vec<_> = root.into_iter().map(|page| Path::new(ROOT).join(page)).collect();
    let mut folders = vec![Path::new(ROOT).join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|end| end.to_str()) {
                Some("md") => paths.push(path),
                _ if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    paths.sort();
    let relative = |path: &Path| path.strip_prefix(ROOT).unwrap().display().to_string();
    paths.iter().map(|path| (relative(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The commands of a page, in its order: those of its code blocks, and those in its sentences that are whole.
pub fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let mut found = Vec::new();
    let mut fenced = false;
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if let Some(code) = line.strip_prefix("    ").or(fenced.then_some(line)) {
            found.extend(command(code));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).filter(whole).filter_map(command));
        }
    }
    found
}

/// Without the remark behind it, and with single spaces.
fn command(code: &str) -> Option<String> {
    let code = code.split("  # ").next().unwrap_or_default();
    let words: Vec<_> = code.split_whitespace().collect();
    let code = words.join(" ");
    PROGRAMS.iter().any(|program| code.starts_with(program)).then_some(code)
}

/// `kubectl apply` in a sentence is a word of it; with what to apply it is a command.
fn whole(code: &&str) -> bool {
    code.split_whitespace().count() > 2
}

/// The ```` ```yaml ```` blocks of a page.
pub fn yaml(text: &str) -> Vec<String> {
    fenced(text, "yaml")
}

/// The ```` ```promql ```` blocks of a page.
pub fn promql(text: &str) -> Vec<String> {
    fenced(text, "promql")
}

/// The fenced blocks of a language, without their indentation.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in text.lines() {
        let (indent, code) = (line.len() - line.trim_start().len(), line.trim_start());
        open = match open {
            None => (code == fence).then(|| (indent, String::new())),
            Some((_, block)) if code == "```" => {
                blocks.push(block);
                None
            }
            Some((indent, block)) => Some((indent, block + line.get(indent..).unwrap_or_default() + "\n")),
        };
    }
    blocks
}

#[test]
fn commands_are_found_in_blocks_and_sentences_and_not_in_words() {
    let text = "Say `kubectl apply`, or `kubectl apply -k x` and `--flag`.\n\n    helm upgrade a \\\n      --set b\n    \
                kubectl get x  # all\n    cargo test\n\n```\nkubectl get y\n$ kubectl get z\n```\n";
    assert_eq!(
        commands(text),
        ["kubectl apply -k x", "helm upgrade a --set b", "kubectl get x", "kubectl get y"]
    );
    assert_eq!(yaml("a\n  ```yaml\n  b:\n    c: 1\n  ```\n```\nd\n```\n"), ["b:\n  c: 1\n"]);
}
