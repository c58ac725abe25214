//! Starts the control plane, returns clients, and breaks it on request.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Result;
use kube::{Client, Config};
use tokio::time::sleep;

use crate::audit::{self, AuditEvent};
use crate::binaries::Binaries;
use crate::layout::{AUDIT_POLICY, Layout, Ports};
use crate::process_reaper::{PortTaken, Process, ProcessReaper};
use crate::ready::{POLL, client, etcd_listens, ready, within};
use crate::user::{Component, Tokens, User};

const STARTS: u32 = 3;

/// How to start a control plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// Write an audit log (≈ 1 kB a request, mostly in memory); on by default.
    pub audit: bool,
    /// Whole flags such as `--v=4` for kube-apiserver, after our own; none by default.
    pub apiserver_args: Vec<String>,
    /// The address of this machine that a node and its pods use; none by default. With one, the API server listens on
    /// all addresses and every controller runs.
    pub node_address: Option<Ipv4Addr>,
    /// Start kube-controller-manager; on by default. Without it, namespaces are never deleted, and nothing follows owner
    /// references.
    pub controllers: bool,
}

/// A running control plane; dropping it, or ending the process in any way, ends it and removes its folder.
#[derive(Debug)]
pub struct ControlPlane {
    pub(crate) binaries: Binaries,
    options: Options,
    pub(crate) layout: Layout,
    tokens: Tokens,
    config: Config,
    controller_manager: Option<Process>,
    apiserver: Process,
    pub(crate) etcd: Process,
    // Last: its end waits for the folder's removal.
    pub(crate) process_reaper: ProcessReaper,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { audit: true, apiserver_args: Vec::new(), node_address: None, controllers: true }
    }
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Returns when the API server is ready and the namespace `default` exists. Builds the programs first if need
    /// be, with progress on stderr.
    ///
    /// # Errors
    /// The programs are missing and can't be built, or one of them ends early: then with the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let binaries = tokio::task::spawn_blocking(move || Binaries::find(options.controllers)).await??;
        let mut starts = 1;
        loop {
            match Self::launch(&binaries, &options).await {
                Err(error) if error.is::<PortTaken>() && starts < STARTS => starts += 1,
                other => return other,
            }
        }
    }

    async fn launch(binaries: &Binaries, options: &Options) -> Result<Self> {
        let process_reaper = ProcessReaper::start()?;
        let layout = Layout::new(process_reaper.dir(), free_ports()?, options.node_address);
        let tokens = Tokens { secret: RandomState::new().hash_one("testbed") };
        write_files(&layout, &tokens)?;
        let mut etcd =
            process_reaper.spawn("etcd", &binaries.etcd, &layout.etcd_args(), layout.log("etcd"))?;
        within("etcd", etcd_listens(&mut etcd, layout.etcd_port())).await?;
        let mut apiserver = spawn_apiserver(&process_reaper, binaries, &layout, options)?;
        let config = ready(&mut apiserver, &layout).await?;
        let start = |program: &PathBuf| {
            let (args, log) = (layout.controller_manager_args(), layout.log("kube-controller-manager"));
            process_reaper.spawn("kube-controller-manager", program, &args, log)
        };
        let controller_manager = binaries.controller_manager.as_ref().map(start).transpose()?;
        let (binaries, options) = (binaries.clone(), options.clone());
        Ok(Self {
            binaries,
            options,
            layout,
            tokens,
            config,
            controller_manager,
            apiserver,
            etcd,
            process_reaper,
        })
    }

    /// Ends the control plane and waits until its processes have ended and its folder is deleted.
    pub fn stop(self) {
        drop(self);
    }

    /// Ends its programs at once, where it can't be dropped; its folder goes with this process.
    ///
    /// # Errors
    /// They do not run any more.
    pub fn kill(&self) -> Result<()> {
        self.controller_manager
            .iter()
            .chain([&self.apiserver, &self.etcd])
            .try_for_each(|part| part.signal("KILL"))
    }

    /// etcd's address for clients, plain HTTP; its JSON gateway is under `/v3/`.
    #[must_use]
    pub fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.layout.etcd_port())
    }

    /// `https://127.0.0.1:<port>`, or with the node's address; stays the same over a restart.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.layout.url
    }

    /// The certificates that make the API server trusted, as PEM.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.layout.ca
    }

    /// A kubeconfig file in the control plane's folder, deleted with it.
    #[must_use]
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.layout.file(&user.file_name())
    }

    pub(crate) fn write_proxy_kubeconfig(&self, user: User, port: u16) -> Result<PathBuf> {
        let path = self.layout.file(&format!("proxy-{port}.kubeconfig"));
        fs::write(&path, self.tokens.kubeconfig(user, &format!("http://127.0.0.1:{port}"), &self.layout.ca))?;
        Ok(path)
    }

    /// kube's defaults for this user, hidden retries (`default_retry`) included: the caller changes what it must.
    #[must_use]
    pub fn client_config(&self, user: User) -> Config {
        let mut config = self.config.clone();
        config.auth_info.token = Some(self.tokens.of(user).into());
        config
    }

    /// A new client, which lives only as long as the Tokio runtime it was created in: each `#[tokio::test]` needs
    /// its own. Installs rustls' `ring` provider if the process has none yet.
    ///
    /// # Errors
    /// Not in a Tokio runtime's reach, or the certificate is unusable.
    pub fn client(&self, user: User) -> Result<Client> {
        client(self.client_config(user))
    }

    /// The whole audit log; empty without [`Options::audit`]. A line may come a moment after its response.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn audit_events(&self) -> Result<Vec<AuditEvent>> {
        self.audit_since(&mut 0)
    }

    /// An `offset` for [`Self::audit_since`] that skips the past.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn audit_end(&self) -> Result<u64> {
        audit::end(&self.layout.audit_log)
    }

    /// What the audit log has got since the last call with this `offset` (in bytes; begin with 0, or with
    /// [`Self::audit_end`]).
    ///
    /// # Errors
    /// The log can't be read.
    pub fn audit_since(&self, offset: &mut u64) -> Result<Vec<AuditEvent>> {
        audit::read(&self.layout.audit_log, offset)
    }

    /// Where the programs' own logs are: `<program>.log`.
    #[must_use]
    pub fn logs_dir(&self) -> &Path {
        &self.layout.logs
    }

    /// Starts a program that ends with this control plane. Both its outputs go to `<name>.log` in
    /// [`Self::logs_dir`].
    ///
    /// # Errors
    /// It can't be started.
    pub fn spawn(&self, name: &'static str, program: &Path, args: &[String]) -> Result<Process> {
        self.process_reaper.spawn(name, program, args, self.layout.log(name))
    }

    /// Freezes the API server: connections stay open, or open, and no answer comes.
    ///
    /// # Errors
    /// It is not running.
    pub async fn pause_apiserver(&self) -> Result<()> {
        self.apiserver.signal("STOP")?;
        // Until its last thread has stopped it may answer.
        within("kube-apiserver", async {
            while !self.apiserver.stopped()? {
                sleep(POLL).await;
            }
            Ok(())
        })
        .await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// It is not running.
    pub async fn resume_apiserver(&self) -> Result<()> {
        self.apiserver.signal("CONT")
    }

    /// Kills the API server at once: connections are reset, later ones refused. The data stay.
    pub async fn kill_apiserver(&mut self) {
        self.apiserver.kill();
    }

    /// Starts the API server again after a kill, with the same port, certificate and data; returns when it is ready.
    ///
    /// # Errors
    /// It ends early: then with the end of its log.
    pub async fn start_apiserver(&mut self) -> Result<()> {
        within("kube-apiserver", async {
            loop {
                self.apiserver =
                    spawn_apiserver(&self.process_reaper, &self.binaries, &self.layout, &self.options)?;
                match ready(&mut self.apiserver, &self.layout).await {
                    // A client that tries to come back may hold the port for a moment, as its own end.
                    Err(error) if error.is::<PortTaken>() => sleep(POLL).await,
                    other => return other.map(drop),
                }
            }
        })
        .await
    }

    /// Kill and start.
    ///
    /// # Errors
    /// As [`Self::start_apiserver`].
    pub async fn restart_apiserver(&mut self) -> Result<()> {
        self.kill_apiserver().await;
        self.start_apiserver().await
    }

    /// From now on nothing finishes a namespace's deletion, or deletes what an owner reference points away from.
    pub async fn kill_controller_manager(&mut self) {
        self.controller_manager.iter_mut().for_each(Process::kill);
    }
}

fn write_files(layout: &Layout, tokens: &Tokens) -> Result<()> {
    fs::create_dir_all(&layout.logs)?;
    fs::write(layout.tokens(), tokens.csv())?;
    fs::write(layout.audit_policy(), AUDIT_POLICY)?;
    for user in User::all() {
        fs::write(layout.file(&user.file_name()), tokens.kubeconfig(user, &layout.url, &layout.ca))?;
    }
    for component in Component::ALL {
        let kubeconfig = tokens.component_kubeconfig(component, &layout.url, &layout.ca);
        fs::write(layout.component_kubeconfig(component), kubeconfig)?;
    }
    Ok(())
}

fn free_ports() -> Result<Ports> {
    // All bound at once, so that they differ.
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let (etcd, etcd_peer, apiserver) = (bind()?, bind()?, bind()?);
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    Ok(Ports { etcd: port(&etcd)?, etcd_peer: port(&etcd_peer)?, apiserver: port(&apiserver)? })
}

fn spawn_apiserver(
    process_reaper: &ProcessReaper,
    binaries: &Binaries,
    layout: &Layout,
    options: &Options,
) -> Result<Process> {
    let args = layout.apiserver_args(options.audit, &options.apiserver_args);
    process_reaper.spawn("kube-apiserver", &binaries.apiserver, &args, layout.log("kube-apiserver"))
}
