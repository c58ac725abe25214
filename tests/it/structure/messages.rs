//! Every text that the operator can write into a condition, an event, a log line or an error, in one file, and every text
//! of the command line in another, so that a change is reviewed as text: `OHALLO_TEST_WRITE=1 cargo test --test it
//! every_message` writes them.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

use super::{ROOT, crates, files, read, relative};

const GOLDEN: &str = "tests/it/structure/messages.txt";
const GOLDEN_OF_THE_COMMAND_LINE: &str = "tests/it/structure/messages_cli.txt";

const COMMAND_LINE: &str = "kubectl_ohallo";

const HEAD: &str = "# Every text that the operator can write: conditions, events, log lines, errors and metric help, by the file that has it.\n\
                    # Generated: OHALLO_TEST_WRITE=1 cargo test --test it every_message\n";

const HEAD_OF_THE_COMMAND_LINE: &str = "# Every text that kubectl-ohallo can print, but for the help of its flags, by the file that has it.\n\
                    # Generated: OHALLO_TEST_WRITE=1 cargo test --test it every_message\n";

/// Those build test data.
const FOR_TESTS: [&str; 4] = ["/fixtures", "/fuzz", "/tests", "/properties"];

/// The string literals in code that ships, in their order: without attributes, comments and `#[cfg(test)]`.
fn literals(source: &str) -> Vec<String> {
    let file = syn::parse_file(source).unwrap();
    let mut found = Vec::new();
    for item in file.items {
        let tokens = item.to_token_stream();
        if !tokens.to_string().starts_with("# [cfg (test)]") {
            collect(tokens, &mut found);
        }
    }
    found
}

fn collect(tokens: TokenStream, found: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                let is_attribute = |next: &TokenTree| matches!(next, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket);
                // The error texts of thiserror are attributes, and the only ones that a user reads.
                if let Some(TokenTree::Group(group)) = tokens.next_if(is_attribute)
                    && group.stream().to_string().starts_with("error")
                {
                    collect(group.stream(), found);
                }
            }
            TokenTree::Group(group) => collect(group.stream(), found),
            TokenTree::Literal(literal) => {
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    found.push(text.value());
                }
            }
            _ => {}
        }
    }
}

/// Whether it is a sentence or a part of one, and no name, path or pattern.
fn is_message(text: &str) -> bool {
    text.split_whitespace().filter(|word| word.chars().any(char::is_lowercase)).count() >= 2
}

fn listing(head: &str, has: impl Fn(&str) -> bool) -> String {
    let mut out = head.to_owned();
    for (_, folder) in crates().into_iter().filter(|(name, _)| has(name)) {
        for path in files(&folder, &[".rs"]) {
            let name = relative(&path);
            if FOR_TESTS.iter().any(|part| name.contains(part)) {
                continue;
            }
            let texts: BTreeSet<_> =
                literals(&read(&path)).into_iter().filter(|text| is_message(text)).collect();
            if !texts.is_empty() {
                out += &format!("\n## {name}\n");
            }
            for text in texts {
                out += &format!(
                    "- {}\n",
                    text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
                );
            }
        }
    }
    out
}

fn compare(golden: &str, listing: &str) {
    let path = Path::new(ROOT).join(golden);
    if std::env::var_os("OHALLO_TEST_WRITE").is_some() {
        std::fs::write(&path, listing).unwrap();
    }
    assert!(read(&path) == listing, "{golden} is not what the code has; {HEAD}");
}

#[test]
fn every_message_is_in_the_file_of_messages() {
    let operator = listing(HEAD, |name| name != COMMAND_LINE);
    assert!(operator.lines().count() > 200, "{operator}");
    compare(GOLDEN, &operator);
    compare(GOLDEN_OF_THE_COMMAND_LINE, &listing(HEAD_OF_THE_COMMAND_LINE, |name| name == COMMAND_LINE));
}

#[test]
fn texts_are_found_in_calls_and_errors_and_not_in_docs_and_tests() {
    let source = r#"
        /// Not this text here.
        #[error("an error that is shown")]
        struct E;
        fn f() { call(format!("a \"quoted\" message {x}"), "Name"); }
        #[cfg(test)]
        mod tests { const X: &str = "not in a test"; }
    "#;
    let found: Vec<_> = literals(source).into_iter().filter(|text| is_message(text)).collect();
    assert_eq!(found, ["an error that is shown", "a \"quoted\" message {x}"]);
}
