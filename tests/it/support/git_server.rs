//! A Git repository over HTTP, by Git's own program for it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::Response;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

pub struct Git {
    root: TempDir,
    pub url: String,
}

// === impl Git ===

impl Git {
    /// An empty one; it is served for as long as the test runs.
    pub async fn serve() -> Self {
        let root = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/repository/.git", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(cgi).with_state(root.path().to_owned());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let git = Self { root, url };
        std::fs::create_dir(git.work()).unwrap();
        git.run(&["init", "--quiet", "--initial-branch=main"]);
        git
    }

    /// Replaces its content by these objects, one file each; returns the id of the commit.
    pub fn commit(&self, objects: &[Value]) -> String {
        for entry in std::fs::read_dir(self.work()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "yaml") {
                std::fs::remove_file(path).unwrap();
            }
        }
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            std::fs::write(self.work().join(format!("{name}.yaml")), object.to_string()).unwrap();
        }
        self.run(&["add", "--all"]);
        let author = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
        self.run(&[&author[..], &["commit", "--quiet", "--message=channels"]].concat());
        self.run(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("repository")
    }

    fn run(&self, args: &[&str]) -> String {
        let output = Command::new("git").args(args).current_dir(self.work()).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

async fn cgi(State(root): State<PathBuf>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let header = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let variables = [
        ("REQUEST_METHOD", head.method.to_string()),
        ("PATH_INFO", head.uri.path().to_owned()),
        ("QUERY_STRING", head.uri.query().unwrap_or_default().to_owned()),
        ("CONTENT_TYPE", header("content-type")),
        ("CONTENT_LENGTH", body.len().to_string()),
        ("HTTP_CONTENT_ENCODING", header("content-encoding")),
        ("GIT_PROTOCOL", header("git-protocol")),
    ];
    tokio::task::spawn_blocking(move || answer(&root, &variables, &body)).await.unwrap()
}

fn answer(root: &Path, variables: &[(&str, String)], body: &[u8]) -> Response<Body> {
    let mut backend = Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.envs(variables.iter().map(|(name, value)| (name, value)));
    let mut backend = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    backend.stdin.take().unwrap().write_all(body).unwrap();
    let output = backend.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).unwrap()
}
