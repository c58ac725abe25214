//! A link between pages leads somewhere.

use std::path::{Path, PathBuf};

use crate::support::pages;

/// The targets of `[words](target)`, and of pictures; not what resembles one in code.
fn targets(text: &str) -> Vec<String> {
    let prose: String = text.split('`').step_by(2).collect();
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// As GitHub derives it from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_heading(page: &Path, wanted: &str) -> bool {
    let text = std::fs::read_to_string(page).unwrap();
    text.lines().any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == wanted)
}

#[test]
fn every_link_of_the_documents_leads_to_an_existing_file_and_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut followed = 0;
    for (path, text) in pages::all() {
        let page = root.join(&path);
        for target in targets(&text).iter().filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file: PathBuf =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(file.exists(), "{path} links to {target}, which is not there");
            assert!(heading.is_empty() || has_heading(&file, heading), "{path}: no heading {target}");
            followed += 1;
        }
    }
    assert!(followed > 10, "{followed}");
    assert_eq!(anchor(" Which Secrets it may read?"), "which-secrets-it-may-read");
}
