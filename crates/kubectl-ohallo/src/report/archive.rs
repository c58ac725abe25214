//! A compressed archive of text files.

use std::fs::File;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use ohallo_client::clock;

use crate::failure::Failure;

/// The folder in the archive.
const FOLDER: &str = "ohallo-report";

pub struct Archive(File);

// === impl Archive ===

impl Archive {
    /// # Errors
    /// The file exists already, or can't be created.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        File::create_new(path).map(Self).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::usage(format!("{name} exists: remove it, or name another file with --file"))
            }
            _ => Failure::undecided(format!("{name} can't be written: {error}")),
        })
    }

    /// # Errors
    /// The file can't be written.
    pub fn write(self, files: &[(String, String)]) -> Result<(), Failure> {
        self.try_write(files)
            .map_err(|error| Failure::undecided(format!("the archive can't be written: {error}")))
    }

    fn try_write(self, files: &[(String, String)]) -> std::io::Result<()> {
        let mut archive = tar::Builder::new(GzEncoder::new(self.0, Compression::default()));
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(u64::try_from(clock::now().as_second()).unwrap_or_default());
            archive.append_data(&mut header, format!("{FOLDER}/{name}"), content.as_bytes())?;
        }
        archive.into_inner()?.finish()?.sync_all()
    }
}
