// I/O
//! `cargo demo`: a control plane, a stand-in oHallo and the operator on this machine, with the samples applied.

use std::io::{IsTerminal, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use kube::Client;
use ohallo_sim::{Behaviour, Config, Key, Provisioning, Sim, Until};
use testbed::{Binaries, ControlPlane, Options, Process, Profile, User, kubectl};
use tokio::signal::unix::{SignalKind, signal};

mod table;

/// What deploy/samples says.
const WORKSPACE: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
const KEY: &str = "sf_test_v1_demo0000000000000000000000000";

const READY_WITHIN: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// What the operator itself allows for its end, and a little more.
const STOP_WITHIN: Duration = Duration::from_secs(35);

/// Runs the operator on this machine: a real control plane, a stand-in oHallo, one Channel of each type.
#[derive(Parser)]
#[command(name = "cargo demo", version)]
struct Flags {
    /// Exit when every Channel is Ready, instead of staying until Ctrl-C
    #[arg(long)]
    once: bool,
}

struct Demo {
    client: Client,
    operator: Process,
    sim: Sim,
    // Last: whatever still runs ends with it.
    plane: ControlPlane,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    // Dropping the demo wherever it is leaves nothing behind: its processes hang on the control plane's keeper.
    let ended = tokio::select! {
        ended = run(&flags) => ended.map(|()| "Every Channel is Ready."),
        interrupted = interrupted() => interrupted.map(|()| "\nThe demo has ended; its processes and files are gone."),
    };
    match ended.and_then(say) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        ctrl_c = tokio::signal::ctrl_c() => ctrl_c?,
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

async fn run(flags: &Flags) -> Result<()> {
    let mut demo = Demo::start().await?;
    tokio::time::timeout(READY_WITHIN, demo.watch())
        .await
        .with_context(|| format!("not every Channel was Ready within {} s", READY_WITHIN.as_secs()))
        .and_then(|watched| watched)
        .inspect_err(|_| demo.explain())?;
    if flags.once {
        return demo.end().await;
    }
    demo.invite()?;
    loop {
        demo.operator.check()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

// === impl Demo ===

impl Demo {
    async fn start() -> Result<Self> {
        which_kubectl()?;
        let program = tokio::task::spawn_blocking(|| {
            Binaries::find()?;
            testbed::operator(Profile::Dev)
        });
        let program = program.await??;
        eprintln!("starting etcd, kube-apiserver and kube-controller-manager…");
        let plane = ControlPlane::start(Options { audit: false, ..Options::default() }).await?;
        let sim = stand_in().await?;
        let admin = plane.kubeconfig(User::Admin);
        install(&admin)?;
        let http = free_port()?;
        let operator = plane.spawn("ohallo-operator", &program, &arguments(&plane, &sim, http))?;
        eprintln!("the operator logs to {}", log_of(&plane).display());
        kubectl(&admin, &["apply", "-k", &folder("deploy/samples")])?;
        let client = plane.client(User::Admin)?;
        Ok(Self { client, operator, sim, plane })
    }

    /// Shows the Channels until all are Ready.
    async fn watch(&mut self) -> Result<()> {
        let mut screen = table::Screen::new(std::io::stdout().is_terminal());
        loop {
            self.operator.check()?;
            let table = table::channels(&self.client).await?;
            screen.show(&mut std::io::stdout().lock(), &table)?;
            if table.all_ready() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The log's folder goes with the demo, so what it ends with is shown while it is there.
    fn explain(&self) {
        let log = std::fs::read_to_string(log_of(&self.plane)).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        eprintln!("the operator's log ends with:");
        lines.iter().rev().for_each(|line| eprintln!("  {line}"));
    }

    fn invite(&self) -> Result<()> {
        let kubeconfig = self.plane.kubeconfig(User::Admin);
        say(&format!(
            r#"
Every Channel is Ready. In another terminal:

  export KUBECONFIG={}

  edit     kubectl patch channel support-email --type merge -p '{{"spec":{{"displayName":"Help Desk"}}}}'
  delete   kubectl delete channel website-chat
  break    kubectl delete secret phone-provider; sleep 1; kubectl describe channel voice

See what oHallo has: curl -s {}/_admin/state
The operator's log:  {}
Ctrl-C ends it all and leaves nothing behind."#,
            kubeconfig.display(),
            self.sim.url(),
            log_of(&self.plane).display(),
        ))
    }

    async fn end(self) -> Result<()> {
        self.operator.terminate(STOP_WITHIN).await?;
        Ok(tokio::task::spawn_blocking(|| self.plane.stop()).await?)
    }
}

fn which_kubectl() -> Result<()> {
    kubectl(Path::new("/dev/null"), &["version", "--client"]).map(drop)
}

/// Provisioning takes long enough to be seen.
async fn stand_in() -> Result<Sim> {
    let provisioning = Provisioning::millis(2_500).step("pending_dns", Until::Millis(2_500));
    let behaviour = Behaviour { provisioning, ..Behaviour::default() };
    let sim = Sim::start(Config { admin: true, behaviour, ..Config::default() }).await?;
    sim.add_workspace("nordic-parts", WORKSPACE, "Nordic Parts");
    sim.add_key(Key::new(KEY, "nordic-parts"));
    Ok(sim)
}

fn install(admin: &Path) -> Result<()> {
    kubectl(admin, &["apply", "-k", &folder("deploy/kustomize/base")])?;
    let crds = ["channels", "workspaces", "clusterworkspaces"].map(|name| format!("crd/{name}.ohallo.eu"));
    let mut wait = vec!["wait", "--for=condition=Established", "--timeout=60s"];
    wait.extend(crds.iter().map(String::as_str));
    kubectl(admin, &wait).map(drop)
}

fn arguments(plane: &ControlPlane, sim: &Sim, http: u16) -> Vec<String> {
    vec![
        "run".to_owned(),
        format!("--kubeconfig={}", plane.kubeconfig(User::Operator).display()),
        format!("--api-url={}", sim.url()),
        format!("--http-addr=127.0.0.1:{http}"),
        "--log-format=human".to_owned(),
    ]
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn log_of(plane: &ControlPlane) -> PathBuf {
    plane.logs_dir().join("ohallo-operator.log")
}

fn folder(name: &str) -> String {
    format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"))
}

fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) => bail!("stdout can't be written: {error}"),
        Ok(()) => Ok(()),
    }
}
