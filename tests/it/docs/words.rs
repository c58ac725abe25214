//! Folk words stay out of what users read. docs/STYLE.md has the words to write instead.

use std::path::Path;

use crate::support::pages;

const WORDS: [&str; 22] = [
    "a look",
    "a pass",
    "anew",
    "by itself",
    "goes on by",
    "in earnest",
    "in vain",
    "is told",
    "looked at",
    "looks at",
    "made anew",
    "mend",
    "mended",
    "once more",
    "parked",
    "parted",
    "parting",
    "passes over",
    "so-manieth",
    "stand-in",
    "told of",
    "vouches",
];

/// The guide names the words; what is generated from Rust has its texts there.
const LEFT_OUT: [&str; 4] =
    ["docs/STYLE.md", "docs/api.md", "docs/contributing/faults.md", "docs/contributing/model.md"];

/// Files beside the pages: what a user reads of the chart, the manifests and the alerts.
const FILES: [&str; 6] = [
    "deploy/helm/ohallo-operator/values.yaml",
    "deploy/helm/ohallo-operator/templates/NOTES.txt",
    "deploy/helm/ohallo-operator/templates/admission.yaml",
    "deploy/helm/ohallo-operator/files/alerts.yaml",
    "deploy/helm/ohallo-operator/files/dashboard.json",
    "deploy/monitoring/prometheus.yaml",
];

fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| (path.to_owned(), std::fs::read_to_string(root.join(path)).unwrap());
    let samples = std::fs::read_dir(root.join("deploy/samples")).unwrap();
    let samples =
        samples.map(|file| format!("deploy/samples/{}", file.unwrap().file_name().to_str().unwrap()));
    let pages = pages::all().into_iter().filter(|(path, _)| !LEFT_OUT.contains(&path.as_str()));
    let files: Vec<_> = FILES.iter().map(|path| read(path)).chain(samples.map(|path| read(&path))).collect();
    pages.chain(files).collect()
}

/// The words of the list that the text has as whole words, whatever their case and line breaks.
fn found(text: &str) -> Vec<&'static str> {
    let words: Vec<_> = text
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '-')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let text = format!(" {} ", words.join(" "));
    WORDS.into_iter().filter(|word| text.contains(&format!(" {word} "))).collect()
}

#[test]
fn no_page_chart_alert_or_sample_has_a_word_of_the_list() {
    let texts = texts();
    assert!(texts.len() > 45, "{}", texts.len());
    for (path, text) in texts {
        assert_eq!(found(&text), Vec::<&str>::new(), "{path}: see docs/STYLE.md");
    }
}

#[test]
fn words_are_found_whole_in_any_case_and_over_line_ends() {
    assert_eq!(found("It goes on By\n  itself, and is mended."), ["by itself", "goes on by", "mended"]);
    assert!(found("an amendment, parking, looked after at once").is_empty());
}
