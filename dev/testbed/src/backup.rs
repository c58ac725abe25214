//! Taking etcd's data aside and putting them back: a cluster restored from a backup, whose versions count from an
//! older number again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::control_plane::ControlPlane;
use crate::ready::{etcd_listens, within};

/// How long etcd may take to write its data out.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// etcd's data as they were, in the control plane's folder.
#[derive(Debug)]
pub struct Backup(PathBuf);

impl ControlPlane {
    /// Stops the API server and etcd, copies the data, and starts both again.
    ///
    /// # Errors
    /// A program does not end or start, or the folder can't be written.
    pub async fn back_up(&mut self) -> Result<Backup> {
        let to = self.layout.file("backup");
        self.stop_storage().await?;
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        copy(&self.layout.file("etcd"), &to)?;
        self.start_storage().await?;
        Ok(Backup(to))
    }

    /// Stops the API server and etcd, puts the data back, and starts both again: what was written since is forgotten.
    ///
    /// # Errors
    /// As [`Self::back_up`].
    pub async fn restore(&mut self, backup: &Backup) -> Result<()> {
        self.stop_storage().await?;
        let data = self.layout.file("etcd");
        fs::remove_dir_all(&data)?;
        copy(&backup.0, &data)?;
        self.start_storage().await
    }

    async fn stop_storage(&mut self) -> Result<()> {
        self.kill_apiserver().await;
        self.etcd.end(ENDS_WITHIN).await
    }

    async fn start_storage(&mut self) -> Result<()> {
        let (args, log) = (self.layout.etcd_args(), self.layout.log("etcd"));
        self.etcd = self.process_reaper.spawn("etcd", &self.binaries.etcd, &args, log)?;
        within("etcd", etcd_listens(&mut self.etcd, self.layout.etcd_port())).await?;
        self.start_apiserver().await
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{} can't be read", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
