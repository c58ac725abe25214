//! Keeps processes and their folder from outliving this process, without a signal handler and without `unsafe`:
//! a small shell waits for the end of its stdin, a pipe that only we hold, then kills the group and removes the
//! folder. The group has a leader of its own so that it exists before its first real member and until the kill.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const PROCESS_REAPER: &str = include_str!("process_reaper.sh");
/// Outlives its stdin by a minute, so that the group's number can't be taken by others before the keeper uses it.
const LEADER: &str = "trap '' INT TERM HUP; cat; sleep 60";
const LOG_TAIL: usize = 2000;

#[derive(Debug)]
pub(crate) struct ProcessReaper {
    shell: Child,
    leader: Child,
    group: i32,
    dir: PathBuf,
}

/// A child that ends with the control plane it was started beside, however our own process ends.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    log_start: u64,
}

/// Another process took the port between our choice of it and its use.
#[derive(Debug, thiserror::Error)]
#[error("{0} could not have its port: address already in use")]
pub(crate) struct PortTaken(&'static str);

// === impl Keeper ===

impl ProcessReaper {
    pub(crate) fn start() -> Result<Self> {
        let leader = shell(LEADER).stdout(Stdio::null()).spawn().context("sh is needed")?;
        let group = i32::try_from(leader.id())?;
        let mut shell = shell(PROCESS_REAPER)
            .arg(group.to_string())
            .arg(std::env::temp_dir())
            .stdout(Stdio::piped())
            .spawn()
            .context("sh is needed")?;
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let dir = PathBuf::from(line.trim_end());
        ensure!(dir.is_absolute(), "no temporary folder could be created");
        Ok(Self { shell, leader, group, dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn spawn(
        &self,
        name: &'static str,
        program: &Path,
        args: &[String],
        log: PathBuf,
    ) -> Result<Process> {
        let file = OpenOptions::new().create(true).append(true).open(&log)?;
        let log_start = file.metadata()?.len();
        let child = Command::new(program)
            .args(args)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(self.group)
            .spawn()
            .with_context(|| format!("{name} did not start"))?;
        Ok(Process { name, child, log, log_start })
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    // Its own group: a Ctrl-C in the terminal, or a test runner that kills our group, must not reach it.
    command.arg("-c").arg(script).arg("testbed").process_group(0);
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    command
}

impl Drop for ProcessReaper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
        drop(self.leader.kill());
        drop(self.leader.wait());
    }
}

// === impl Process ===

impl Process {
    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits so long for it.
    ///
    /// # Errors
    /// It did not end in time: then it is killed. Or it ended with a failure.
    pub async fn terminate(mut self, within: Duration) -> Result<()> {
        let status = self.ended(within).await?;
        ensure!(
            status.success(),
            "{} ended with {status}; its log ends with:\n{}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// As [`Self::terminate`], whatever it ends with.
    pub(crate) async fn end(&mut self, within: Duration) -> Result<()> {
        self.ended(within).await.map(drop)
    }

    async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return Ok::<_, anyhow::Error>(status);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let status = tokio::time::timeout(within, ended).await;
        status.with_context(|| format!("{} did not end in time", self.name))?
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// It has ended; with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = self.log_text().unwrap_or_default();
        if log.contains("address already in use") {
            bail!(PortTaken(self.name));
        }
        bail!("{} ended with {status}; its log ends with:\n{}", self.name, tail(&log))
    }

    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Sends a signal by name (`STOP`, `CONT`).
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "testbed", name])
            .arg(OsStr::new(&self.child.id().to_string()))
            .status()?;
        ensure!(status.success(), "{} could not be sent SIG{name}", self.name);
        Ok(())
    }

    /// Whether all of its threads are stopped.
    pub(crate) fn stopped(&self) -> Result<bool> {
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(thread?.path().join("stat"))?;
            // The state follows the name, which is in brackets and may hold any.
            if stat.rsplit_once(") ").is_none_or(|(_, rest)| !rest.starts_with('T')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log_text().unwrap_or_default()).to_owned()
    }

    fn log_text(&self) -> Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.log_start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn tail(text: &str) -> &str {
    let start = text.ceil_char_boundary(text.len().saturating_sub(LOG_TAIL));
    text.get(start..).unwrap_or_default()
}
