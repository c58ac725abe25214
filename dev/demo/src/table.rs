//! The Channels as `kubectl get channels` shows them: the API server itself renders the table.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use kube::Client;
use serde_json::Value;

const PATH: &str = "/apis/ohallo.eu/v1alpha1/namespaces/default/channels";
const AS_TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const GAP: usize = 3;

/// A header and a row for each Channel.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Redraws a table on a terminal; prints what has changed elsewhere.
pub struct Screen {
    terminal: bool,
    drawn: usize,
    printed: BTreeMap<String, String>,
}

/// Asks the API server.
pub async fn channels(client: &Client) -> Result<Table> {
    let request = http::Request::get(PATH).header("accept", AS_TABLE).body(Vec::new())?;
    Ok(Table::from(&client.request::<Value>(request).await?))
}

// === impl Table ===

impl Table {
    fn from(answer: &Value) -> Self {
        let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned();
        let columns = list(answer, "columnDefinitions").unwrap_or_default();
        let narrow: Vec<bool> = columns
            .iter()
            .map(|column| column.get("priority").and_then(Value::as_i64).unwrap_or_default() == 0)
            .collect();
        let pick = |cells: Vec<String>| -> Vec<String> {
            cells.into_iter().zip(&narrow).filter_map(|(cell, narrow)| narrow.then_some(cell)).collect()
        };
        let name = |column: &Value| column.get("name").map(text).unwrap_or_default().to_uppercase();
        let cells = |row: &Value| list(row, "cells").unwrap_or_default().iter().map(text).collect();
        Self {
            header: pick(columns.iter().map(name).collect()),
            rows: list(answer, "rows").unwrap_or_default().iter().map(|row| pick(cells(row))).collect(),
        }
    }

    /// Whether there are Channels, and each is Ready.
    pub fn all_ready(&self) -> bool {
        let ready = self.header.iter().position(|name| name == "READY");
        let is_ready =
            |row: &Vec<String>| ready.and_then(|column| row.get(column)).is_some_and(|cell| cell == "True");
        !self.rows.is_empty() && self.rows.iter().all(is_ready)
    }

    /// A line for the header and for each row.
    fn lines(&self) -> Vec<String> {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| {
            all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |row: &Vec<String>| -> String {
            row.iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}", width = width + GAP))
                .collect()
        };
        all().map(|row| line(row).trim_end().to_owned()).collect()
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

// === impl Screen ===

impl Screen {
    pub fn new(terminal: bool) -> Self {
        Self { terminal, drawn: 0, printed: BTreeMap::new() }
    }

    pub fn show(&mut self, out: &mut impl Write, table: &Table) -> Result<()> {
        if self.terminal { self.redraw(out, table) } else { self.print_changes(out, table) }
    }

    /// Goes up to where the last table began. Lines are cut rather than wrapped, or "up" would be too little.
    fn redraw(&mut self, out: &mut impl Write, table: &Table) -> Result<()> {
        let lines = table.lines();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        write!(out, "\x1b[?7l")?;
        for line in &lines {
            writeln!(out, "\r\x1b[2K{line}")?;
        }
        write!(out, "\x1b[?7h")?;
        self.drawn = lines.len();
        Ok(out.flush()?)
    }

    fn print_changes(&mut self, out: &mut impl Write, table: &Table) -> Result<()> {
        if self.printed.is_empty() && !table.rows.is_empty() {
            writeln!(out, "{}", table.lines().first().map(String::as_str).unwrap_or_default())?;
        }
        for (row, line) in table.rows.iter().zip(table.lines().into_iter().skip(1)) {
            // Without the age, which changes while nothing does.
            let (Some(name), Some((_, news))) = (row.first(), row.split_last()) else { continue };
            let news = news.join(" ");
            if self.printed.get(name) != Some(&news) {
                writeln!(out, "{line}")?;
                self.printed.insert(name.clone(), news);
            }
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(ready: &str) -> Table {
        Table::from(&json!({
            "columnDefinitions": [
                {"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0},
                {"name": "Message", "priority": 1}, {"name": "Age", "priority": 0},
            ],
            "rows": [{"cells": ["voice", ready, "long", "3s"]}, {"cells": ["chat", "True", null, "4s"]}],
        }))
    }

    #[test]
    fn shows_the_narrow_columns_and_knows_when_all_are_ready() {
        assert_eq!(
            table("False").lines(),
            ["NAME    READY   AGE", "voice   False   3s", "chat    True    4s"]
        );
        assert!(!table("False").all_ready());
        assert!(table("True").all_ready());
        assert!(!Table::from(&json!({})).all_ready());
    }

    #[test]
    fn without_a_terminal_prints_only_what_changed() {
        let mut screen = Screen::new(false);
        let mut out = Vec::new();
        for ready in ["", "False", "False", "True"] {
            screen.show(&mut out, &table(ready)).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("voice").count(), 3, "{text}");
        assert_eq!(text.matches("chat").count(), 1, "{text}");
    }
}
