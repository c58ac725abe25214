//! `cargo demo`: a control plane, an oHallo simulator and the operator on this machine, with the samples applied.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use kube::Client;
use load::Load;
use ohallo_sim::{Behaviour, Config, Key, Provisioning, Sim, Until};
use replica::{Place, Replica, Template};
use testbed::{Binaries, ControlPlane, Options, Profile, Proxy, User, kubectl};
use tokio::signal::unix::{SignalKind, signal};
use user_actions::UserActions;

mod load;
mod replica;
mod table;
mod user_actions;

/// From deploy/samples.
const WORKSPACE: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
const KEY: &str = "sf_test_v1_demo0000000000000000000000000";

const READY_WITHIN: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Under load the leader is replaced after so many rounds, of a second or more each.
const HANDOVER_EVERY: u64 = 30;

/// Runs the operator on this machine: a real control plane, an oHallo simulator, one Channel of each type.
#[derive(Parser)]
#[command(name = "cargo demo", version)]
struct Flags {
    /// Exit when every Channel is Ready, instead of staying until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Then keep two replicas busy and let everything go wrong that a dashboard shows, until Ctrl-C
    #[arg(long, conflicts_with = "once")]
    load: bool,
}

struct Demo {
    client: Client,
    replicas: Vec<Replica>,
    template: Template,
    /// Runs between the operator and the API server, under load.
    proxy: Option<Proxy>,
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
        interrupted = interrupted() => interrupted.map(|()| "\nThe demo has ended; its processes and files are removed."),
    };
    match ended.and_then(print) {
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
    let mut demo = Demo::start(flags.load).await?;
    tokio::time::timeout(READY_WITHIN, demo.watch())
        .await
        .with_context(|| format!("not every Channel was Ready within {} s", READY_WITHIN.as_secs()))
        .and_then(|watched| watched)
        .inspect_err(|_| demo.explain())?;
    if flags.once {
        return demo.end().await;
    }
    if flags.load {
        return demo.load().await.inspect_err(|_| demo.explain());
    }
    demo.invite()?;
    loop {
        demo.check()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

// === impl Demo ===

impl Demo {
    async fn start(load: bool) -> Result<Self> {
        which_kubectl()?;
        let program = tokio::task::spawn_blocking(|| {
            Binaries::find(false)?;
            testbed::operator(Profile::Dev)
        });
        let program = program.await??;
        eprintln!("starting etcd and kube-apiserver…");
        let plane =
            ControlPlane::start(Options { audit: false, controllers: false, ..Options::default() }).await?;
        let sim = simulator().await?;
        let admin = plane.kubeconfig(User::Admin);
        install(&admin)?;
        let proxy = if load { Some(Proxy::start(&plane, User::Operator).await?) } else { None };
        let kubeconfig = plane.kubeconfig(User::Operator);
        let kubeconfig = proxy.as_ref().map_or(kubeconfig, |proxy| proxy.kubeconfig().into());
        let mut flags = vec![format!("--api-url={}", sim.url())];
        if load {
            flags.extend(["--leader-elect", "--lease-retry-seconds=1"].map(String::from));
            flags.extend(load::FLAGS.map(String::from));
        }
        let template = Template { program, kubeconfig, flags };
        let mut replicas = vec![template.start(&plane, Place::new("ohallo-operator")?)?];
        if load {
            led(&replicas).await?;
            replicas.push(template.start(&plane, Place::new("ohallo-operator-2")?)?);
        }
        for replica in &replicas {
            eprintln!("the operator logs to {}", replica.log(&plane).display());
        }
        kubectl(&admin, &["apply", "-k", &folder("deploy/samples")])?;
        let client = plane.client(User::Admin)?;
        Ok(Self { client, replicas, template, proxy, sim, plane })
    }

    /// Shows the Channels until all are Ready.
    async fn watch(&mut self) -> Result<()> {
        let mut screen = table::Screen::new(std::io::stdout().is_terminal());
        loop {
            self.check()?;
            let table = table::channels(&self.client).await?;
            screen.show(&mut std::io::stdout().lock(), &table)?;
            if table.all_ready() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether all of it runs.
    fn check(&mut self) -> Result<()> {
        self.replicas.iter_mut().try_for_each(Replica::check)
    }

    /// A busy day that does not end. Every now and then the leader is replaced, as in a rolling update.
    async fn load(&mut self) -> Result<()> {
        let proxy = self.proxy.as_ref().context("there is no proxy")?;
        print("\nEvery Channel is Ready; the team is at work until Ctrl-C. Metrics:")?;
        self.replicas.iter().try_for_each(|replica| print(&format!("  {}", replica.metrics())))?;
        let mut load = Load::new(UserActions::new(self.client.clone()), &self.sim, proxy);
        load.team(WORKSPACE).await?;
        load.mishaps().await?;
        print("The team has its Channels, and some of them their troubles.")?;
        for round in 1.. {
            self.replicas.iter_mut().try_for_each(Replica::check)?;
            load.round(round).await?;
            if round.is_multiple_of(HANDOVER_EVERY) {
                let leader = self.replicas.remove(0);
                let place = leader.end().await?;
                led(&self.replicas).await?;
                self.replicas.push(self.template.start(&self.plane, place)?);
                print("The leader was replaced by the other replica.")?;
            }
        }
        Ok(())
    }

    /// The log's folder goes with the demo, so what it ends with is shown while it is there.
    fn explain(&self) {
        for replica in &self.replicas {
            let log = std::fs::read_to_string(replica.log(&self.plane)).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(5).collect();
            eprintln!("the operator's log ends with:");
            lines.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }

    fn invite(&self) -> Result<()> {
        let kubeconfig = self.plane.kubeconfig(User::Admin);
        print(&format!(
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
            self.replicas
                .iter()
                .map(|replica| replica.log(&self.plane).display().to_string())
                .collect::<String>(),
        ))
    }

    async fn end(self) -> Result<()> {
        for replica in self.replicas {
            replica.end().await?;
        }
        Ok(tokio::task::spawn_blocking(|| self.plane.stop()).await?)
    }
}

fn which_kubectl() -> Result<()> {
    kubectl(Path::new("/dev/null"), &["version", "--client"]).map(drop)
}

/// Each step of the provisioning is seen once: it ends just before the operator reads again.
async fn simulator() -> Result<Sim> {
    let provisioning = Provisioning::millis(900).step("pending_dns", Until::Millis(900));
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

/// Waits until the first of them leads.
async fn led(replicas: &[Replica]) -> Result<()> {
    let first = replicas.first().context("there is no replica")?;
    first.prints("this replica: leader").await
}

fn folder(name: &str) -> String {
    format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"))
}

fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) => bail!("stdout can't be written: {error}"),
        Ok(()) => Ok(()),
    }
}
