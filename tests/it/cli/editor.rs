//! An editor's language server with the JSON schemas.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/schemas/ohallo.eu/channel_v1alpha1.json");
const FILE: &str = "file:///channel.yaml";

struct Editor {
    server: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    requests: u64,
}

// === impl Editor ===

impl Editor {
    fn start() -> Self {
        let script = testbed::yaml_language_server().unwrap();
        let mut server = Command::new("node");
        server.arg(script).arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = server.spawn().expect("node is missing: install Node.js");
        let (to, from) = (server.stdin.take().unwrap(), BufReader::new(server.stdout.take().unwrap()));
        let mut editor = Self { server, to, from, requests: 0 };
        editor.request("initialize", json!({"processId": null, "rootUri": null, "capabilities": {}}));
        editor.notify("initialized", json!({}));
        editor
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        write!(self.to, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        self.to.flush().unwrap();
    }

    fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// The next message. What the server asks is answered with nothing.
    fn next(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.from.read_line(&mut line).unwrap() > 0, "the server has ended");
            match line.trim().strip_prefix("Content-Length: ") {
                Some(number) => length = number.parse().unwrap(),
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        self.from.read_exact(&mut body).unwrap();
        let message: Value = serde_json::from_slice(&body).unwrap();
        if !message["id"].is_null() && message["method"].is_string() {
            self.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": null}));
        }
        message
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let message = self.next();
            if message["id"] == id && message["method"].is_null() {
                return message["result"].clone();
            }
        }
    }

    /// Opens a manifest and waits for the problems that the server marks in it.
    fn open(&mut self, text: &str) -> Vec<Value> {
        let document = json!({"uri": FILE, "languageId": "yaml", "version": 1, "text": text});
        self.notify("textDocument/didOpen", json!({"textDocument": document}));
        loop {
            let message = self.next();
            let problems = message["params"]["diagnostics"].as_array().cloned().unwrap_or_default();
            if message["method"] == "textDocument/publishDiagnostics" && !problems.is_empty() {
                return problems;
            }
        }
    }

    fn at(&mut self, method: &str, line: u64, character: u64) -> Value {
        let position = json!({"line": line, "character": character});
        self.request(method, json!({"textDocument": {"uri": FILE}, "position": position}))
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
#[ignore = "installs a language server with npm, once; .ci/full editor"]
fn an_editor_completes_fields_shows_their_descriptions_and_marks_wrong_values() {
    let mut editor = Editor::start();
    let text = format!(
        "# yaml-language-server: $schema={SCHEMA}\napiVersion: ohallo.eu/v1alpha1\nkind: Channel\nmetadata: {{name: a}}\nspec:\n  channelType: sms\n  displayName: A\n  \n"
    );
    let problems = editor.open(&text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!(problems[0]["range"]["start"], json!({"line": 5, "character": 15}));
    let items = editor.at("textDocument/completion", 7, 2);
    let labels: Vec<_> =
        items["items"].as_array().unwrap().iter().filter_map(|item| item["label"].as_str()).collect();
    for field in ["channelId", "config", "credentials", "deletionPolicy", "workspaceRef"] {
        assert!(labels.contains(&field), "{field} is not in {labels:?}");
    }
    let hover = editor.at("textDocument/hover", 5, 4);
    assert!(
        hover["contents"]["value"].as_str().unwrap().contains("email, chat, whatsapp or voice"),
        "{hover}"
    );
}
