//! Words that a reader of controller-runtime or kube-rs has to translate stay out of what the project ships.

use std::path::Path;

use super::{ROOT, crates, files, read, relative};
use crate::support::program;

/// Each word or phrase, and the field's word for it.
const WORDS: &[(&str, &str)] = &[
    ("by itself", "automatically"),
    ("by themselves", "automatically"),
    ("anew", "again"),
    ("once more", "again"),
    ("so-manieth", "every Nth"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("mends", "fixes"),
    ("told of", "reported"),
    ("is told", "is reported"),
    ("are told", "are reported"),
    ("tells of", "reports"),
    ("a look", "a reconcile, a read, a poll"),
    ("looked at", "reconciled, read, polled"),
    ("looks at", "reconciles, reads, polls"),
    ("in vain", "without effect"),
    ("vouches", "confirms"),
    ("vouched", "confirmed"),
    ("stand-in", "simulator"),
    ("parked", "unresolved"),
    ("parted", "finalizer removed"),
    ("parting", "finalizer removal"),
    ("its turn", "rate limit or concurrency slot"),
    ("let go", "released, finalizer removed"),
    ("is gone", "is deleted"),
    ("are gone", "are deleted"),
    ("was made", "was created"),
    ("is made of", "is generated from, consists of"),
    ("thrice", "three times"),
    ("somebody", "a user"),
    ("newborn", "awaiting its first Ready"),
    ("needles", "search strings"),
    ("a pass", "a reconcile"),
    ("in earnest", "for real"),
    ("passes over", "ignores"),
    ("passed over", "ignored"),
];

/// Those pages list the words themselves.
const EXCEPT: [&str; 1] = ["docs/STYLE.md"];

/// Line and phrase of each word of the list in a text, also where a line ends within it.
fn found(text: &str) -> Vec<(usize, &'static str)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for part in line.split_whitespace() {
            let word = part.trim_matches(|letter: char| !letter.is_alphanumeric());
            // A comment's marks between two lines of it are no word.
            if !word.is_empty() {
                words.push((number + 1, word.to_lowercase()));
            }
            // No phrase extends over the end of a sentence.
            if !word.is_empty() && part.ends_with(['.', ':', ';', '!', '?']) {
                words.push((number + 1, String::new()));
            }
        }
    }
    let mut hits = Vec::new();
    for at in 0..words.len() {
        for (phrase, _) in WORDS {
            let parts: Vec<_> = phrase.split(' ').collect();
            let here = words[at..].iter().map(|word| word.1.as_str()).take(parts.len());
            if here.eq(parts.iter().copied()) {
                hits.push((words[at].0, *phrase));
            }
        }
    }
    hits
}

/// One line for each word of the list in a text.
fn report(name: &str, text: &str) -> Vec<String> {
    let better = |phrase: &str| WORDS.iter().find(|word| word.0 == phrase).map_or("", |word| word.1);
    let hits = found(text).into_iter();
    hits.map(|(line, phrase)| format!("{name}:{line}: {phrase:?} is {:?} here", better(phrase))).collect()
}

/// What the project ships: name and text.
fn shipped() -> Vec<(String, String)> {
    let root = Path::new(ROOT);
    let mut paths: Vec<_> = crates().iter().flat_map(|(_, folder)| files(folder, &[".rs"])).collect();
    paths.extend(files(&root.join("docs"), &[".md"]));
    paths.extend(files(&root.join("crds"), &[".yaml"]));
    paths.extend(files(&root.join("deploy"), &[".yaml", ".yml", ".tpl", ".txt", ".lua", ".json", ".md"]));
    paths.push(root.join("README.md"));
    paths.push(root.join("CONTRIBUTING.md"));
    let exists = paths.into_iter().filter(|path| path.is_file());
    let texts = exists.map(|path| (relative(&path), read(&path)));
    let mut all: Vec<_> = texts.filter(|(name, _)| !EXCEPT.contains(&name.as_str())).collect();
    for command in [&["--help"][..], &["run", "--help"], &["crd", "--help"]] {
        let help = program::bare().args(command).output().unwrap();
        assert!(help.status.success(), "{command:?}");
        all.push((format!("ohallo-operator {}", command.join(" ")), String::from_utf8(help.stdout).unwrap()));
    }
    all
}

#[test]
fn a_word_of_the_list_is_found_in_any_case_over_lines_and_in_comments() {
    let text = "It is written\n/// Anew. A LOOK\n/// costs one read; told\n//! of errors, \"mended\".\n";
    assert_eq!(found(text), [(2, "anew"), (2, "a look"), (3, "told of"), (4, "mended")]);
    assert_eq!(report("a.md", "In vain.\n"), ["a.md:1: \"in vain\" is \"without effect\" here"]);
}

#[test]
fn other_words_and_ends_of_sentences_are_no_hit() {
    let text =
        "A renewed lease. The plan is a. Look at `parked_at`. It was told. Of errors, a lookup remains.";
    assert_eq!(found(text), []);
}

#[test]
fn what_ships_uses_the_words_of_the_field() {
    let hits: Vec<_> = shipped().iter().flat_map(|(name, text)| report(name, text)).collect();
    assert!(hits.is_empty(), "{} words to replace: {hits:#?}", hits.len());
}

#[test]
fn tests_and_dev_crates_use_the_words_of_the_field() {
    let root = Path::new(ROOT);
    let mut paths = files(&root.join("tests"), &[".rs"]);
    paths.extend(files(&root.join("dev"), &[".rs", ".go", ".sh"]));
    paths.extend([".ci/run", ".ci/full", ".ci/image"].map(|path| root.join(path)));
    // This list; and the model, which issue 19 rewrites on its own.
    let texts = paths.iter().map(|path| (relative(path), path));
    let texts =
        texts.filter(|(name, _)| !name.starts_with("dev/model/") && !name.ends_with("structure/words.rs"));
    let hits: Vec<_> = texts.flat_map(|(name, path)| report(&name, &read(path))).collect();
    assert!(hits.is_empty(), "{} words to replace: {hits:#?}", hits.len());
}
