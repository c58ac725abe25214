//! Reads `--ca-file` again when it changes: certificate authorities are rotated, and a restart for each would be forgotten.

use std::path::Path;
use std::time::Duration;

use ohallo_client;

/// How often the file is read. A mounted Secret takes about a minute to change.
const POLL: Duration = Duration::from_secs(10);

/// Never ends. `known` is what the client trusts already.
pub async fn follow(ohallo: &ohallo_client::Client, path: &Path, mut known: Vec<u8>) {
    let mut complained = None;
    loop {
        tokio::time::sleep(POLL).await;
        let read = tokio::fs::read(path).await;
        let result = match &read {
            Ok(pem) if *pem == known => Ok(false),
            Ok(pem) => ohallo.trust(pem.clone()).map(|()| true).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match result {
            Ok(changed) => {
                complained = None;
                if changed {
                    known = read.unwrap_or_default();
                    tracing::info!(
                        "--ca-file has changed; its certificate authorities are trusted from now on"
                    );
                }
            }
            Err(error) if complained.as_ref() != Some(&error) => {
                tracing::warn!(
                    error,
                    "--ca-file has changed and can't be used; the certificate authorities from before are trusted"
                );
                complained = Some(error);
            }
            Err(_) => {}
        }
    }
}
