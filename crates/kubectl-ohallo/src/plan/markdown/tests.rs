use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser};
use serde_json::Value;

use super::*;
use crate::plan::change::{Depth, Effect, FieldChange};

/// Texts that would be something in Markdown, HTML or on GitHub.
const HOSTILE: [&str; 28] = [
    "</code></details>",
    "<script>alert(1)</script>",
    "<!-- kubectl-ohallo plan -->",
    "-->",
    "@octocat",
    "@ohallo/team",
    "#1",
    "GH-1",
    "owner/repo#1",
    "http://example.com",
    "www.example.com",
    "a@example.com",
    "mailto:a.b+c@example.com",
    "xmpp:a@example.com/b",
    "https://a@example.com/@b",
    "ftp://www.example.com",
    "[a](http://example.com)",
    "![a](http://example.com/a.png)",
    "`code` ```",
    "*b* _i_ ~~s~~",
    "| a | b |\n|---|---|",
    "\n# heading\n\n- [ ] task",
    "\u{202e}evil\u{2066}\u{200b}",
    "\u{1b}[31m\0\u{7f}",
    "&lt;b&gt; &#60;",
    ":tada: \\*",
    "$`x`$ $$y$$",
    "[^1]: note",
];

fn report(texts: &[String], notes: Vec<String>) -> Report {
    let text = |at: usize| texts.get(at % texts.len().max(1)).cloned().unwrap_or_default();
    let change = Change {
        namespace: text(0),
        channel_type: text(1),
        display_name: text(2),
        channel_id: Some(text(3)),
        reason: Some(text(4)),
        message: text(5),
        fields: vec![FieldChange {
            path: text(6),
            old: Some(Value::from(text(7))),
            old_known: true,
            new: serde_json::json!({ text(8): [text(9)] }),
        }],
        credentials: vec![text(10), text(11)],
        ..Change::of(Effect::Destroyed, "Channel", &text(12))
    };
    Report::new(Depth::Files, Some(text(13)), vec![change], 0, notes)
}

/// The HTML that a comment may have.
fn is_own(html: &str) -> bool {
    let folded = html.starts_with("<details") && html.trim_end().ends_with("</summary>");
    folded || ["<code>", "</code>", "<br>", "</details>", MARKER, SPLIT].contains(&html.trim_end())
}

/// Everything that is not a list of inert texts.
fn surprises(comment: &str) -> Vec<String> {
    let options = Options::all();
    let expected = |event: &Event| match event {
        Event::Html(html) | Event::InlineHtml(html) => is_own(html),
        Event::Text(_) | Event::SoftBreak => true,
        Event::Start(tag) => {
            use pulldown_cmark::Tag;
            matches!(
                tag,
                Tag::Paragraph
                    | Tag::Heading { .. }
                    | Tag::Strong
                    | Tag::List(None)
                    | Tag::Item
                    | Tag::HtmlBlock
                    | Tag::BlockQuote(None)
            )
        }
        Event::End(_) => true,
        _ => false,
    };
    let events = Parser::new_ext(comment, options);
    events.filter(|event| !expected(event)).map(|event| format!("{event:?}")).collect()
}

/// Links and other things that GitHub's own parser finds: it makes links of addresses that stand alone.
fn links(comment: &str) -> Vec<String> {
    use comrak::nodes::NodeValue;

    let mut options = comrak::Options::default();
    options.extension.autolink = true;
    options.extension.table = true;
    options.extension.strikethrough = true;
    options.extension.tasklist = true;
    options.extension.footnotes = true;
    options.extension.math_dollars = true;
    options.extension.math_code = true;
    options.extension.alerts = true;
    let arena = comrak::Arena::new();
    let root = comrak::parse_document(&arena, comment, &options);
    let values = root.descendants().map(|node| node.data.borrow().value.clone());
    let is_expected = |value: &NodeValue| match value {
        NodeValue::HtmlInline(html) => is_own(html),
        NodeValue::HtmlBlock(block) => block.literal.lines().all(is_own),
        NodeValue::Document
        | NodeValue::Paragraph
        | NodeValue::Heading(_)
        | NodeValue::Strong
        | NodeValue::List(_)
        | NodeValue::Item(_)
        | NodeValue::BlockQuote
        | NodeValue::Text(_)
        | NodeValue::SoftBreak => true,
        _ => false,
    };
    values.filter(|value| !is_expected(value)).map(|value| format!("{value:?}")).collect()
}

/// The texts inside `<code>`.
fn codes(comment: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = None;
    for event in Parser::new_ext(comment, Options::all()) {
        match event {
            Event::InlineHtml(html) if &*html == "<code>" => inside = Some(String::new()),
            Event::InlineHtml(html) if &*html == "</code>" => found.extend(inside.take()),
            Event::Text(text) => {
                if let Some(inside) = &mut inside {
                    inside.push_str(&text);
                }
            }
            _ => {}
        }
    }
    found
}

fn check(texts: &[String], notes: Vec<String>) -> Result<(), TestCaseError> {
    let comment = markdown(&report(texts, notes));
    prop_assert!(surprises(&comment).is_empty(), "{:?}\n{comment}", surprises(&comment));
    prop_assert!(links(&comment).is_empty(), "{:?}\n{comment}", links(&comment));
    let forbidden = |character: char| {
        character.is_control() && character != '\n' || ohallo_core::text::is_invisible(character)
    };
    prop_assert!(!comment.contains(forbidden) && !comment.contains(['@', '`']), "{comment}");
    prop_assert!(comment.starts_with(MARKER) && comment.matches(MARKER).count() == 1);
    // What is shown is the text itself.
    let shown = codes(&comment);
    for text in texts.iter().take(4) {
        let expected = sanitize(text, 4 * MAX_VALUE);
        let trimmed = expected.trim();
        prop_assert!(shown.iter().any(|shown| shown.contains(trimmed)), "{trimmed:?} is not in {shown:?}");
    }
    Ok(())
}

#[test]
fn a_hostile_text_is_shown_and_does_nothing() {
    for text in HOSTILE {
        check(&[text.to_owned()], vec![text.to_owned()]).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    }
    let all: Vec<_> = HOSTILE.iter().map(|text| (*text).to_owned()).collect();
    check(&all, all.clone()).unwrap_or_else(|error| panic!("{error}"));
}

fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        prop::sample::select(HOSTILE.to_vec()).prop_map(str::to_owned),
        "[ -~]{0,12}",
        any::<char>().prop_map(String::from),
        "[\\p{Cf}\\p{Cc}]{1,3}",
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_of_a_manifest_becomes_markdown_or_html(texts in prop::collection::vec(hostile(), 1..14)) {
        check(&texts, texts.clone())?;
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_comment_fits_whatever_is_in_it(count in 0usize..3000, text in ".{0,40}", notes in 0usize..300) {
        let change = |at: usize| {
            let effects = [Effect::Destroyed, Effect::Updated, Effect::Created];
            Change { display_name: text.clone(), message: text.repeat(at % 9), ..Change::of(effects[at % 3], "Channel", &format!("c-{at}")) }
        };
        let report = Report::new(Depth::Cluster, None, (0..count).map(change).collect(), 1, vec![text.clone(); notes]);
        let comment = markdown(&report);
        prop_assert!(comment.len() <= MAX_BYTES, "{}", comment.len());
        // What is not shown is counted.
        let shown = comment.matches("\n- <code>Channel ").count();
        let cut = comment.split("comment: ").nth(1).map(|rest| rest.split(".**").next().unwrap().to_owned());
        let cut: usize = cut.iter().flat_map(|cut| cut.split(", ")).map(|part| part.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        prop_assert_eq!(shown + cut, count);
    }
}

#[test]
fn what_destroys_comes_first_and_is_not_folded() {
    let changes = [Effect::Created, Effect::Destroyed].map(|effect| Change::of(effect, "Channel", "a"));
    let comment = markdown(&Report::new(Depth::Files, None, changes.to_vec(), 2, Vec::new()));
    let (destroyed, created) = (comment.find("<details open>").unwrap(), comment.find("<details>").unwrap());
    assert!(destroyed < created && comment.contains("this change destroys channels"), "{comment}");
    assert!(comment.contains("**1 destroyed, 1 created, 2 unchanged**"), "{comment}");
    let none = markdown(&Report::new(Depth::Files, None, Vec::new(), 2, Vec::new()));
    assert!(none.contains("oHallo plan: no changes") && !none.contains("<details"), "{none}");
}
