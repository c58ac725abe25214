//! Rereads `--ca-file` when it changes: certificate authorities rotate, and users would forget to restart the
//! operator.

use std::path::Path;
use std::time::Duration;

use ohallo_client;

/// How often the file is read. A mounted Secret takes about a minute to change.
const POLL: Duration = Duration::from_secs(10);

/// Polls the file and never ends. `known` is the content that the client already trusts.
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
                    tracing::info!("--ca-file changed; its certificate authorities are now trusted");
                }
            }
            Err(error) if complained.as_ref() != Some(&error) => {
                tracing::warn!(
                    error,
                    "--ca-file changed and can't be used; the previous certificate authorities remain trusted"
                );
                complained = Some(error);
            }
            Err(_) => {}
        }
    }
}
