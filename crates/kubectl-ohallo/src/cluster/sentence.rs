//! One sentence about each error of kube. It quotes no command line, no output of a credential plugin, no token and no URL:
//! kube's own texts do.

use std::error::Error;

use kube::client::AuthError;
use kube::config::{KubeconfigError, LoadDataError};

/// What is wrong with a kubeconfig, and what to do.
pub fn of_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => {
            "it has no current context: set one, or give --context".to_owned()
        }
        KubeconfigError::KindMismatch | KubeconfigError::ApiVersionMismatch => {
            "the files of $KUBECONFIG have different kinds or versions: give one of them by --kubeconfig"
                .to_owned()
        }
        KubeconfigError::LoadContext(name) => {
            format!("it has no context {name}: give a context of kubectl config get-contexts")
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("it has no cluster {name}, which its context names: add the cluster")
        }
        KubeconfigError::FindPath => "there is none: set $KUBECONFIG, or give --kubeconfig".to_owned(),
        KubeconfigError::ReadConfig(error, path) => format!("{}: {}", path.display(), error.kind()),
        KubeconfigError::Parse(_) => "it is not the YAML of a kubeconfig: write it again".to_owned(),
        KubeconfigError::MissingClusterUrl => "the cluster has no server: add its URL".to_owned(),
        KubeconfigError::ParseClusterUrl(_) => "the server of the cluster is no URL: correct it".to_owned(),
        KubeconfigError::ParseProxyUrl(_) => "the proxy-url of the cluster is no URL: correct it".to_owned(),
        KubeconfigError::LoadCertificateAuthority(error) => of_data("certificate-authority", error),
        KubeconfigError::LoadClientCertificate(error) => of_data("client-certificate", error),
        KubeconfigError::LoadClientKey(error) => of_data("client-key", error),
        KubeconfigError::ParseCertificates(_) => {
            "the certificate authorities of the cluster are not PEM: write them again".to_owned()
        }
    }
}

fn of_data(field: &str, error: &LoadDataError) -> String {
    match error {
        LoadDataError::DecodeBase64(_) => format!("{field}-data is not base64: write it again"),
        LoadDataError::ReadFile(error, path) => {
            format!("{field} can't be read from {}: {}", path.display(), error.kind())
        }
        LoadDataError::NoBase64DataOrFile => format!("{field} is missing: add it"),
    }
}

/// Why a request failed, or could not be sent.
pub fn of_request(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "the API server does not accept the credentials of the kubeconfig: log in again".to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Auth(error) => of_credentials(error),
        kube::Error::Service(error) => of_connection(error.as_ref()),
        kube::Error::HyperError(error) => of_connection(error),
        kube::Error::ReadEvents(error) => of_connection(error),
        kube::Error::RustlsTls(_) => {
            "the certificates or the key of the kubeconfig can't be used: renew them".to_owned()
        }
        kube::Error::InferKubeconfig(error) => of_kubeconfig(error),
        kube::Error::SerdeError(_)
        | kube::Error::FromUtf8(_)
        | kube::Error::LinesCodecMaxLineLengthExceeded
        | kube::Error::Discovery(_) => {
            "the answer is not one of Kubernetes: check the server of the kubeconfig and the proxy".to_owned()
        }
        kube::Error::HttpError(_) | kube::Error::BuildRequest(_) => {
            "the request has a name that HTTP can't carry: check the user and the groups to impersonate"
                .to_owned()
        }
        // The URL of a proxy may have a password.
        _ => "the connection can't be set up: check the kubeconfig".to_owned(),
    }
}

/// The innermost cause that is known to hold no text of a user.
fn of_connection(error: &(dyn Error + 'static)) -> String {
    let mut known = None;
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<AuthError>() {
            return of_credentials(error);
        }
        let is_io = cause.downcast_ref::<std::io::Error>();
        if cause.is::<rustls::Error>() || cause.is::<hyper::Error>() || is_io.is_some() {
            known = Some(cause.to_string());
        }
        // A cause inside an error of the system is no source of it.
        next = match is_io.and_then(|error| error.get_ref()) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    let why = known.unwrap_or_else(|| "the proxy or the network refuses the connection".to_owned());
    format!("the API server can't be reached: {why}")
}

/// Why there are no credentials.
fn of_credentials(error: &AuthError) -> String {
    match error {
        AuthError::InvalidBasicAuth(_) | AuthError::InvalidBearerToken(_) => UNUSABLE_TOKEN.to_owned(),
        AuthError::AuthExecStart(error) => {
            format!("the credential plugin of the kubeconfig can't be started ({}): install it", error.kind())
        }
        AuthError::AuthExecRun { out, .. } => {
            let how = out.status.code().map_or("by a signal".to_owned(), |code| format!("with code {code}"));
            format!("the credential plugin of the kubeconfig ended {how}: log in again, or run it to see why")
        }
        AuthError::ExecPluginFailed
        | AuthError::MalformedTokenExpirationDate(_)
        | AuthError::AuthExecParse(_)
        | AuthError::AuthExecSerialize(_)
        | AuthError::UnrefreshableTokenResponse => {
            "the credential plugin of the kubeconfig printed no valid ExecCredential: update it".to_owned()
        }
        AuthError::AuthExec(_) | AuthError::ParseTokenKey(_) => {
            "the auth-provider of the kubeconfig is not supported or has no token: use a credential plugin"
                .to_owned()
        }
        AuthError::ReadTokenFile(error, path) => {
            format!("the token file {} can't be read: {}", path.display(), error.kind())
        }
        AuthError::MissingCommand => "the exec of the kubeconfig has no command: add it".to_owned(),
        AuthError::ExecMissingClusterInfo => {
            "the exec of the kubeconfig asks for a cluster that is not there: remove provideClusterInfo"
                .to_owned()
        }
        AuthError::NoValidNativeRootCA(_) => {
            "the system has no certificate authorities: install them, or name them in the kubeconfig"
                .to_owned()
        }
    }
}

/// A value that HTTP can't carry.
pub const UNUSABLE_TOKEN: &str =
    "the token of the kubeconfig has a line break or a control character: log in again";
