//! `cargo demo --load` as a person starts it: two operators, and a team that keeps them busy.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testbed::Profile;
use tokio::sync::mpsc;

/// Its first start may build the control plane.
const WAIT_TIMEOUT: Duration = Duration::from_secs(600);

/// Killed when dropped.
pub struct Demo {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    printed: Vec<String>,
}

// === impl Demo ===

impl Demo {
    pub async fn start() -> Self {
        let program = tokio::task::spawn_blocking(|| testbed::program("ohallo-demo", Profile::Dev).unwrap());
        let mut child = Command::new(program.await.unwrap())
            .arg("--load")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, printed: Vec::new() }
    }

    /// Waits until it prints this, and returns the line.
    pub async fn prints(&mut self, part: &str) -> String {
        let prints = async {
            while let Some(line) = self.lines.recv().await {
                self.printed.push(line.clone());
                if line.contains(part) {
                    return Some(line);
                }
            }
            None
        };
        let line = tokio::time::timeout(WAIT_TIMEOUT, prints).await.ok().flatten();
        line.unwrap_or_else(|| panic!("it never prints {part:?}:\n{}", self.printed.join("\n")))
    }

    /// Host and port of a replica that it has not named before.
    pub async fn replica(&mut self) -> String {
        let line = self.prints("/metrics").await;
        line.trim().trim_start_matches("http://").trim_end_matches("/metrics").to_owned()
    }

    /// As by Ctrl-C.
    pub async fn interrupt(&mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
        self.prints("The demo has ended").await;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
