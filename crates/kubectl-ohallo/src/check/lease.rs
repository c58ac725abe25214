//! The Lease of an operator: who holds it, and whether it is renewed. Clocks are not compared: a change is what shows it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;

use crate::check::Finding;
use crate::cluster::{Cluster, failed, read};
use crate::failure::Failure;
use crate::installed::Operator;

/// The time between two reads.
const POLL: Duration = Duration::from_millis(500);
/// How long a renewal is waited for: by default a leader renews its Lease every 5 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// # Errors
/// The API server does not answer.
pub async fn of(cluster: &Cluster, operator: &Operator, name: &str) -> Result<Finding, Failure> {
    let namespace = &operator.served.operator_namespace;
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), namespace);
    let check = format!("Lease {namespace}/{name}");
    let mut first: Option<Lease> = None;
    for _ in 0..=PATIENCE.as_millis() / POLL.as_millis() {
        let lease = match read(async || api.get_opt(name).await).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return Ok(missing(check, operator)),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Ok(Finding::unknown(
                    check,
                    format!("you may not get leases in namespace {namespace}"),
                ));
            }
            Err(error) => return Err(failed("the Lease can't be read", &error)),
        };
        let renewed = first
            .as_ref()
            .is_some_and(|first| first.metadata.resource_version != lease.metadata.resource_version);
        if renewed && let Some(holder) = holder(&lease) {
            return Ok(Finding::ok(check, format!("{holder} holds it and renews it")));
        }
        first.get_or_insert(lease);
        tokio::time::sleep(POLL).await;
    }
    let holder = first.as_ref().and_then(holder);
    Ok(stale(check, operator, holder.as_deref()))
}

fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref()?.holder_identity.clone().filter(|holder| !holder.is_empty())
}

fn logs(operator: &Operator) -> String {
    format!("kubectl -n {} logs deployment/{} --tail=50", operator.namespace, operator.name)
}

fn missing(check: String, operator: &Operator) -> Finding {
    Finding::problem(check, "there is none, so no replica leads", logs(operator))
}

fn stale(check: String, operator: &Operator, holder: Option<&str>) -> Finding {
    let seconds = PATIENCE.as_secs();
    let message = match holder {
        Some(holder) => format!("{holder} holds it and did not renew it within {seconds} s"),
        None => "nobody holds it, so no replica leads".to_owned(),
    };
    Finding::problem(check, message, logs(operator))
}
