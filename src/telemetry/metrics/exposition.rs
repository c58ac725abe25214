//! Converts OpenMetrics text to the older Prometheus text format.

/// Prometheus 0.0.4 names a counter and an info by their sample (`_total`, `_info`). It has no `info`, no
/// `unknown`, no `# UNIT` and no end mark. The samples are the same.
pub(super) fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(help) = line.strip_prefix("# HELP ") else {
            if !line.starts_with("# UNIT ") && line != "# EOF" && !line.starts_with("# TYPE ") {
                push(&mut out, &[line]);
            }
            continue;
        };
        let kind = lines.peek().and_then(|next| next.strip_prefix("# TYPE ")?.rsplit_once(' '));
        let (name, text) = help.split_once(' ').unwrap_or((help, ""));
        let (suffix, kind) = match kind {
            Some((_, "counter")) => ("_total", "counter"),
            Some((_, "info")) => ("_info", "gauge"),
            Some((_, "unknown")) | None => ("", "untyped"),
            Some((_, kind)) => ("", kind),
        };
        push(&mut out, &["# HELP ", name, suffix, " ", text]);
        push(&mut out, &["# TYPE ", name, suffix, " ", kind]);
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    out.extend(parts.iter().copied());
    out.push('\n');
}
