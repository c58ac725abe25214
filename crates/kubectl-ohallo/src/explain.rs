//! What each reason means, and what to do. `docs/troubleshooting.md` has the long form.

use ohallo_core::api::conditions::Reason;

/// A reason in words. In commands, NAME stands for the object's name and ID for the id of a channel in oHallo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub meaning: &'static str,
    pub remedy: &'static str,
    /// The commands of the remedy: one of them is enough.
    pub commands: &'static [&'static str],
}

const NOTHING: &str = "Nothing to do.";
const WAIT: &str = "Wait: the operator continues automatically.";
const DESCRIBE_WORKSPACE: &[&str] = &["kubectl ohallo why workspace/WORKSPACE"];
const RECONCILE: &[&str] = &["kubectl ohallo reconcile NAME --wait"];

#[expect(clippy::too_many_lines, reason = "a table with one row for each reason")]
pub fn explain(reason: Reason) -> Explanation {
    let (meaning, remedy, commands): (_, _, &[&str]) = match reason {
        Reason::Available => {
            ("The channel is active in oHallo, and everything declared is applied.", NOTHING, &[])
        }
        Reason::Disabled => (
            "The channel is disabled in oHallo, as spec.enabled declares, and takes no messages.",
            NOTHING,
            &[],
        ),
        Reason::Observed => (
            "The operator reads the channel and writes nothing, as spec.managementPolicy declares.",
            "status.plannedChanges lists what Manage would change.",
            &[],
        ),
        Reason::Provisioning => ("oHallo provisions the channel.", WAIT, &[]),
        Reason::WaitingForDns => (
            "oHallo waits for DNS records.",
            "Add the DNS records that oHallo's dashboard shows; the operator continues automatically.",
            &[],
        ),
        Reason::UnknownState => (
            "oHallo reports a state that this version of the operator does not know.",
            "Check for a newer version of the operator.",
            &["kubectl ohallo version"],
        ),
        Reason::ProvisioningFailed => (
            "oHallo could not provision the channel.",
            "Correct the cause in oHallo, and request a retry. While Reconciling is True, the operator retries automatically.",
            &["kubectl ohallo retry NAME --wait"],
        ),
        Reason::SecretNotFound => {
            ("The Secret that the manifest names does not exist in the namespace.", "Create the Secret.", &[])
        }
        Reason::SecretKeyMissing => (
            "The Secret lacks the entry that the message names; an entry with an API key may be no key.",
            "Add the entry to the Secret.",
            &[],
        ),
        Reason::WorkspaceNotFound => (
            "There is no such Workspace, or oHallo shows no such workspace to the API key.",
            "Create the Workspace, or compare spec.workspaceId with the address in oHallo's dashboard.",
            &["kubectl ohallo status"],
        ),
        Reason::WorkspaceNotReady => {
            ("The Workspace of the Channel is not Ready.", "Correct the Workspace first.", DESCRIBE_WORKSPACE)
        }
        Reason::SecretInvalid => (
            "A value of the Secret is empty, not UTF-8 or larger than 64 KiB, or the Secret has more than 64 entries.",
            "Store the plain value in the Secret, and name only the entries that are needed.",
            &[],
        ),
        Reason::WorkspaceNotAllowed => (
            "The ClusterWorkspace does not allow this namespace, or the operator serves no ClusterWorkspaces.",
            "Ask its owner to add the namespace to spec.allowedNamespaces.",
            &["kubectl ohallo why clusterworkspace/WORKSPACE"],
        ),
        Reason::PermissionDenied => (
            "oHallo answered 403: the API key lacks a permission.",
            "Grant the permission in oHallo's dashboard, or give the Workspace another API key.",
            &["kubectl ohallo reconcile NAME --wait"],
        ),
        Reason::AuthenticationFailed => (
            "oHallo answered 401: the API key is unknown or revoked.",
            "Store a valid API key in the Secret of the Workspace; the operator tests it within seconds.",
            &[],
        ),
        Reason::ValidationFailed => (
            "oHallo or the operator rejected the values of the manifest.",
            "Correct the value that the message names, and apply the manifest again.",
            &[],
        ),
        Reason::Rejected => (
            "oHallo rejected the request with a status code that has no reason of its own.",
            "Correct the cause that the message quotes, in the manifest or in the oHallo account.",
            RECONCILE,
        ),
        Reason::CreateUnsupported => (
            "oHallo's API creates no channels in this workspace.",
            "Create the channel in oHallo's dashboard, and adopt it by its id.",
            &["kubectl ohallo adopt NAME ID --wait"],
        ),
        Reason::CreateOutcomeUnknown => (
            "The operator sent a create, and its answer was lost: the channel may exist.",
            "Look for the channel in oHallo's dashboard. If it exists, adopt it; if it does not, create it again.",
            &["kubectl ohallo adopt NAME ID --wait", "kubectl ohallo create-again NAME --wait"],
        ),
        Reason::ChannelNotFound => (
            "The channel no longer exists in oHallo; the operator does not create a second one.",
            "Check oHallo's dashboard. To create the channel again, delete this object and apply the manifest again.",
            RECONCILE,
        ),
        Reason::IdentityMismatch => (
            "The id belongs to a channel of another type, or the Workspace names another oHallo workspace.",
            "Correct spec.channelId, spec.channelType or the Workspace.",
            &[],
        ),
        Reason::OwnershipConflict => (
            "Another Channel holds this id.",
            "Delete one of the two Channels, or set another spec.channelId.",
            &["kubectl ohallo status --all-namespaces"],
        ),
        Reason::NotConverging => (
            "oHallo changed the same field back three times.",
            "Declare the value that oHallo stores, stop the other writer, or set spec.driftPolicy to Report.",
            &[],
        ),
        Reason::StatusNotStored => (
            "The API server did not keep what the operator wrote.",
            "Exempt the operator from the admission policy that removes it, or apply the operator's CustomResourceDefinitions. Do not restart the operator before.",
            &[],
        ),
        Reason::NotCreated => (
            "spec.managementPolicy is Observe, and there is no channel to read.",
            "Set spec.channelId, or set spec.managementPolicy to Manage.",
            &["kubectl ohallo adopt NAME ID --wait"],
        ),
        Reason::Progressing => ("The operator works on the object.", WAIT, &[]),
        Reason::ApiUnavailable => (
            "oHallo can't be reached, or answers with 5xx.",
            "Wait: the operator retries with backoff. Check oHallo's status page and the network.",
            RECONCILE,
        ),
        Reason::RateLimited => ("oHallo limits the rate of this API key.", WAIT, &[]),
        Reason::UnexpectedResponse => (
            "oHallo answered with something that is not its API: a redirect, or no JSON.",
            "Check --api-url of the operator and the proxy between it and oHallo.",
            RECONCILE,
        ),
        Reason::InternalError => (
            "The operator failed while it reconciled this object.",
            "Report the error in the operator's log. The operator retries with backoff.",
            RECONCILE,
        ),
        Reason::Applied => ("oHallo accepted the credentials.", NOTHING, &[]),
        Reason::PushFailed => (
            "oHallo did not accept the credentials.",
            "Correct the cause that the message names, in the Secret or in oHallo.",
            RECONCILE,
        ),
        Reason::TestPassed => ("The last connectivity test passed.", NOTHING, &[]),
        Reason::TestFailed => (
            "The last connectivity test failed.",
            "Correct the credentials or the config, and test again.",
            &["kubectl ohallo test NAME --wait"],
        ),
        Reason::TestOutcomeUnknown => (
            "The connectivity test was sent, and its answer was lost.",
            "Test the connection again.",
            &["kubectl ohallo test NAME --wait"],
        ),
        Reason::DriftDetected => (
            "oHallo has other values than the manifest; status.drift lists them.",
            "Change the manifest, change oHallo, or set spec.driftPolicy to Correct.",
            &[],
        ),
        Reason::Suspended => (
            "spec.suspend is true: the operator makes no calls for this object.",
            "Resume the object.",
            &["kubectl ohallo resume NAME --wait"],
        ),
        Reason::WorkspaceSuspended => (
            "The Workspace is suspended: the operator makes no calls with its API key.",
            "Resume the Workspace.",
            &["kubectl ohallo resume workspace/WORKSPACE --wait"],
        ),
        Reason::KeyUnavailable => (
            "The channel can't be deleted, because the operator has no working API key for it.",
            "Restore the Workspace and its API key, or release the Channel and delete the channel in oHallo's dashboard.",
            &["kubectl ohallo release NAME --wait"],
        ),
        Reason::AbsenceNotProven => (
            "oHallo shows no such channel, and it is not proven that the channel does not exist.",
            "Give the Workspace the API key that last read the channel, or release the Channel.",
            &["kubectl ohallo release NAME --wait"],
        ),
        Reason::ClaimedByAnother => (
            "Another Channel claims this channel, so it is not deleted.",
            "Change or delete the other Channel, delete despite the claims of other namespaces, or release this one.",
            &[
                "kubectl ohallo confirm-deletion NAME --despite-claims --wait",
                "kubectl ohallo release NAME --wait",
            ],
        ),
        Reason::Verified => ("The API key works, and can read the workspace.", NOTHING, &[]),
        Reason::Unverified => (
            "The API key works, and may not read workspaces.",
            "Give the API key the permission to read its workspace.",
            &[],
        ),
    };
    Explanation { meaning, remedy, commands }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use strum::VariantArray;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_reason_has_a_meaning_and_a_remedy_and_each_command_is_one_of_this_program() {
        for known in Reason::VARIANTS {
            let Explanation { meaning, remedy, commands } = explain(*known);
            for sentence in [meaning, remedy] {
                assert!(sentence.ends_with('.') && sentence.split(' ').count() > 2, "{known:?}: {sentence}");
            }
            for command in commands {
                let words = command.strip_prefix("kubectl ").unwrap().split(' ');
                let words: Vec<_> = words.map(str::to_lowercase).collect();
                assert!(Cli::try_parse_from(&words).is_ok(), "{known:?}: {command}");
            }
            assert_eq!(known.as_str().parse(), Ok(*known));
        }
        assert!("OfAFutureVersion".parse::<Reason>().is_err());
    }
}
