//! The syntax of a label selector, so that the start fails on a wrong one instead of every list and watch.

/// Returns the selector unchanged if the API server accepts it.
pub(super) fn valid(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("a selector must not be empty; omit the flag to select everything".to_owned());
    }
    requirements(text)?.into_iter().try_for_each(requirement)?;
    Ok(text.trim().to_owned())
}

/// Splits at commas outside brackets.
fn requirements(text: &str) -> Result<Vec<&str>, String> {
    let mut inside = false;
    for c in text.chars() {
        match c {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => return Err("its brackets don't pair up".to_owned()),
            _ => {}
        }
    }
    if inside {
        return Err("its brackets don't pair up".to_owned());
    }
    Ok(text
        .split(|c| {
            match c {
                '(' => inside = true,
                ')' => inside = false,
                _ => {}
            }
            c == ',' && !inside
        })
        .map(str::trim)
        .collect())
}

fn requirement(text: &str) -> Result<(), String> {
    if let Some(list) = text.strip_suffix(')') {
        let (head, values) = list.split_once('(').unwrap_or((list, ""));
        let (key, operator) = head.trim().split_once(char::is_whitespace).unwrap_or((head, ""));
        if !matches!(operator.trim(), "in" | "notin") {
            return Err(format!("'{text}' must read like 'key in (a,b)' or 'key notin (a,b)'"));
        }
        label_key(key.trim())?;
        return values.split(',').try_for_each(|each| value(each.trim()));
    }
    if let Some((key, wanted)) = text.split_once("!=").or(text.split_once("==")).or(text.split_once('=')) {
        label_key(key.trim())?;
        return value(wanted.trim());
    }
    label_key(text.strip_prefix('!').unwrap_or(text).trim())
}

fn label_key(text: &str) -> Result<(), String> {
    let (prefix, name) = text.rsplit_once('/').unwrap_or(("example.com", text));
    let label = |part: &str| part.len() <= 63 && is_name(part, "-");
    let fits =
        name.len() <= 63 && is_name(name, "-_.") && prefix.len() <= 253 && prefix.split('.').all(label);
    let lower = !prefix.chars().any(|c| c.is_ascii_uppercase());
    if fits && lower { Ok(()) } else { Err(format!("'{text}' is not a label key")) }
}

fn value(text: &str) -> Result<(), String> {
    let fits = text.is_empty() || (text.len() <= 63 && is_name(text, "-_."));
    if fits { Ok(()) } else { Err(format!("'{text}' is not a label value")) }
}

/// Whether the text has ASCII letters and digits at its ends, and inside also `others`.
fn is_name(text: &str, others: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(word) && text.ends_with(word) && text.chars().all(|c| word(c) || others.contains(c))
}

#[cfg(test)]
mod tests {
    use crate::settings::selector::valid;

    #[test]
    fn a_selector_that_the_api_server_accepts_is_accepted() {
        for good in [
            "a",
            "!a",
            "a=b",
            "a==b",
            "a!=b",
            "a=",
            " a = b , c ",
            "tier=gold,env in (a,b)",
            "example.com/team notin (x, y),!z",
            "a in ()",
        ] {
            assert_eq!(valid(good), Ok(good.trim().to_owned()));
        }
    }

    #[test]
    fn a_selector_that_it_would_reject_is_rejected_with_a_sentence() {
        for (bad, sentence) in [
            ("", "must not be empty"),
            ("  ", "must not be empty"),
            ("a=b,", "is not a label key"),
            ("a=b c", "'b c' is not a label value"),
            ("=b", "'' is not a label key"),
            ("a in b)", "brackets"),
            ("a in (b", "brackets"),
            ("a in ((b))", "brackets"),
            ("a (b)", "must read like"),
            ("a within (b)", "must read like"),
            ("Example.com/a=b", "is not a label key"),
            ("x/y/z=b", "is not a label key"),
            ("-a=b", "is not a label key"),
            ("a=b=c", "is not a label value"),
            ("a=ü", "is not a label value"),
        ] {
            let refused = valid(bad).unwrap_err();
            assert!(refused.contains(sentence), "{bad}: {refused}");
        }
    }
}
