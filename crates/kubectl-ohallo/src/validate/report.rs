//! The verdict about each object.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value;

use crate::failure::{NEGATIVE, SUCCESS, UNDECIDED};
use crate::judge::{Finding, Rule};
use crate::manifest::{FieldPath, Identity, Node, Position, SyntaxError};
use crate::validate::notes::{Note, Notes, Place};

/// The version of the JSON format. It rises with each change that a reader has to know of.
pub const VERSION: u32 = 1;

/// A report with the version of its format: what `--output json` prints.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "The report of kubectl ohallo validate")]
pub struct Versioned<'r> {
    /// The version of the format: 1. It rises with each change that a reader has to know of.
    pub version: u32,
    #[serde(flatten)]
    pub report: &'r Report,
}

/// The longest title, in characters: longer than any valid name.
const MAX_TITLE: usize = 600;

/// The JSON schema of [`Versioned`].
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().for_serialize().into_generator();
    generator.into_root_schema_for::<Versioned<'static>>().to_value()
}

/// Everything that `validate` found.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many there are of each verdict.
    pub counts: Counts,
    /// Each object of our group, and each document that can't be parsed.
    pub objects: Vec<Judged>,
    /// Files that can't be read.
    pub unreadable: Vec<Unreadable>,
    /// What is valid and may still surprise.
    pub notes: Vec<Note>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Objects that the API server would accept.
    pub valid: usize,
    /// Objects that it would refuse, and documents that can't be parsed.
    pub invalid: usize,
    /// Files that can't be read.
    pub unreadable: usize,
    /// Objects of other kinds, which are not judged.
    pub other: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Valid,
    Invalid,
}

/// One object of our group, or a document that can't be parsed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// The path as it was given, or `stdin`.
    pub file: String,
    /// The number of its document in the file, from 1.
    pub document: usize,
    /// Its place in a List, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    /// The line where it begins, from 1.
    pub line: usize,
    /// Whether the API server would accept it.
    pub verdict: Verdict,
    /// The kind; left out where it is unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The namespace; left out for a kind without namespaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `metadata.name`; left out where it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What is wrong with it.
    pub findings: Vec<Problem>,
}

/// One finding, with its place in the file.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The rule that it breaks.
    pub rule: Rule,
    /// The field, as `spec.credentials[0].name`; empty for the whole document.
    pub path: FieldPath,
    /// What is wrong, and what to do.
    pub message: String,
    #[serde(flatten)]
    pub at: Position,
}

/// A file that can't be read.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// The path as it was given, or `stdin`.
    pub file: String,
    /// Why it can't be read.
    pub message: String,
}

/// What the API server would answer about one object.
pub enum Answer {
    /// It is of another kind, and not judged.
    Foreign,
    Ours {
        findings: Vec<Finding>,
        namespaced: bool,
    },
}

/// Collects the answers, document after document.
#[derive(Default)]
pub struct Collector {
    notes: Notes,
    report: Report,
}

// === impl Collector ===

impl Collector {
    pub fn unreadable(&mut self, file: String, message: String) {
        self.report.counts.unreadable += 1;
        self.report.unreadable.push(Unreadable { file, message });
    }

    pub fn syntax_error(&mut self, file: &str, document: usize, error: &SyntaxError) {
        let (rule, path) = (Rule::Syntax, FieldPath::default());
        let findings = vec![Problem { rule, path, message: error.message.clone(), at: error.at }];
        self.add(Judged::new(file, document, error.at.line, findings));
    }

    pub fn rest_ignored(&mut self, file: &str, at: Position) {
        self.notes.rest_ignored(file, at);
    }

    pub fn object(
        &mut self,
        file: &str,
        document: usize,
        item: Option<usize>,
        node: &Node,
        identity: Identity,
        answer: Answer,
    ) {
        let (findings, namespaced) = match answer {
            Answer::Foreign => {
                self.report.counts.other += 1;
                let title = identity.to_string();
                return self.notes.foreign(&Place { file, node, identity, title });
            }
            Answer::Ours { findings, namespaced } => (findings, namespaced),
        };
        let findings = findings.into_iter().map(|finding| Problem::of(finding, node)).collect();
        let mut judged = Judged::new(file, document, node.start.line, findings);
        judged.item = item;
        judged.kind.clone_from(&identity.kind);
        judged.name.clone_from(&identity.name);
        if namespaced {
            judged.namespace.clone_from(&identity.namespace);
        }
        if judged.verdict == Verdict::Valid {
            let title = judged.title();
            self.notes.ours(&Place { file, node, identity, title });
        }
        self.add(judged);
    }

    fn add(&mut self, judged: Judged) {
        match judged.verdict {
            Verdict::Valid => self.report.counts.valid += 1,
            Verdict::Invalid => self.report.counts.invalid += 1,
        }
        self.report.objects.push(judged);
    }

    /// Appends what was collected of later files.
    pub fn append(&mut self, later: Self) {
        // The notes follow at the end.
        let Report { counts, objects, unreadable, notes: _ } = later.report;
        self.report.counts.add(counts);
        self.report.objects.extend(objects);
        self.report.unreadable.extend(unreadable);
        self.notes.append(later.notes);
    }

    pub fn finish(self) -> Report {
        Report { notes: self.notes.finish(), ..self.report }
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, more: Self) {
        let Self { valid, invalid, unreadable, other } = more;
        self.valid += valid;
        self.invalid += invalid;
        self.unreadable += unreadable;
        self.other += other;
    }
}

// === impl Report ===

impl Report {
    pub fn exit_code(&self) -> u8 {
        match self.counts {
            Counts { unreadable: 1.., .. } => UNDECIDED,
            Counts { invalid: 1.., .. } => NEGATIVE,
            _ => SUCCESS,
        }
    }
}

// === impl Problem ===

impl Problem {
    fn of(finding: Finding, node: &Node) -> Self {
        let at = finding.at.unwrap_or_else(|| node.position(&finding.path));
        Self { rule: finding.rule, path: finding.path, message: finding.message, at }
    }

    /// `spec.channelType: is required`.
    pub fn sentence(&self) -> String {
        let path = self.path.to_string();
        let separator = if path.is_empty() { "" } else { ": " };
        ohallo_core::text::escape(&format!("{path}{separator}{}", self.message))
    }
}

// === impl Judged ===

impl Judged {
    fn new(file: &str, document: usize, line: usize, findings: Vec<Problem>) -> Self {
        Self {
            file: file.to_owned(),
            document,
            item: None,
            line,
            verdict: if findings.is_empty() { Verdict::Valid } else { Verdict::Invalid },
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
            findings,
        }
    }

    /// `Channel default/support`.
    pub fn title(&self) -> String {
        let title = match (self.kind.as_str(), self.namespace.as_str(), self.name.as_str()) {
            ("", ..) => format!("document {}", self.document),
            (kind, _, "") => format!("{kind} without a name"),
            (kind, "", name) => format!("{kind} {name}"),
            (kind, namespace, name) => format!("{kind} {namespace}/{name}"),
        };
        ohallo_core::text::sanitize(&title, MAX_TITLE)
    }
}
