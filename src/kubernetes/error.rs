//! Converts an error of the API server into a failure or a short description.

use ohallo_core::api::conditions::Reason;
use ohallo_core::failure::Failure;

/// The longest text about a missing permission, in characters: enough for names of resources and namespaces.
const MAX_PERMISSION_CHARS: usize = 300;

/// An error of the API server, as [`describe`] shows it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ApiServerError(String);

/// The API server's error without anything that it quotes, except the name of a missing permission.
pub fn describe(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return "no answer".into() };
    let said = format!("{} {}", status.code, status.reason);
    match status
        .message
        .split_once("\" is forbidden: User \"")
        .and_then(|(_, rest)| rest.split_once("\" cannot "))
    {
        Some((_, what)) if status.code == 403 => {
            let what: String = what.chars().filter(|c| !c.is_control()).take(MAX_PERMISSION_CHARS).collect();
            format!("{said}: the service account cannot {what}")
        }
        _ => said,
    }
}

/// The cause of a failure.
pub fn source(error: &kube::Error) -> impl std::error::Error + use<> {
    ApiServerError(describe(error))
}

/// The failure of a reconcile that an error of the API server causes.
pub fn to_failure(error: &kube::Error) -> Failure {
    let why = match error {
        kube::Error::Api(status) => format!("the API server answered {} {}", status.code, status.reason),
        _ => "the API server did not answer".to_owned(),
    };
    Failure::transient(
        Reason::InternalError,
        format!("A write to the API server failed: {why}; the operator retries."),
    )
    .caused_by(source(error))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(message: &str) -> String {
        describe(&kube::Error::Api(Box::new(Status::failure(message, "Forbidden").with_code(403))))
    }

    #[test]
    fn a_missing_permission_is_named_and_nothing_else_is_quoted() {
        let rbac = "channels.ohallo.eu \"a\" is forbidden: User \"system:serviceaccount:x:y\" cannot patch resource \
                    \"channels\" in API group \"ohallo.eu\" in the namespace \"t\"";
        let named = "403 Forbidden: the service account cannot patch resource \"channels\" in API group \"ohallo.eu\" \
                     in the namespace \"t\"";
        assert_eq!(refused(rbac), named);
        assert_eq!(
            refused("admission webhook denied the request: a secret cannot be shown"),
            "403 Forbidden"
        );
    }
}
