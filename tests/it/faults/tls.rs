// I/O
//! TLS before the stand-in, with certificates of every kind.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Good,
    Expired,
    OtherHost,
    UnknownAuthority,
}

/// Terminates TLS and passes the bytes on.
pub struct Front {
    port: u16,
    authority: Authority,
    file: NamedTempFile,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

// === impl Front ===

impl Front {
    pub async fn start(to: &str, certificate: Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = Authority::new();
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &authority.pem).unwrap();
        let config = Arc::new(Mutex::new(Arc::new(authority.server(certificate))));
        let (configs, to) = (Arc::clone(&config), to.trim_start_matches("http://").to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&configs.lock().unwrap()));
                let to = to.clone();
                tokio::spawn(async move {
                    let (mut inner, mut outer) =
                        (acceptor.accept(stream).await.ok()?, TcpStream::connect(to).await.ok()?);
                    tokio::io::copy_bidirectional(&mut inner, &mut outer).await.ok()
                });
            }
        });
        Self { port, authority, file, config }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The authority that is to be trusted, PEM.
    pub fn authority(&self) -> &Path {
        self.file.path()
    }

    /// From the next connection on.
    pub fn present(&self, certificate: Certificate) {
        *self.config.lock().unwrap() = Arc::new(self.authority.server(certificate));
    }
}

// === impl Authority ===

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn server(&self, certificate: Certificate) -> ServerConfig {
        let other = Self::new();
        let issuer = if certificate == Certificate::UnknownAuthority { &other.issuer } else { &self.issuer };
        let host = if certificate == Certificate::OtherHost { "ohallo.example" } else { "127.0.0.1" };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if certificate == Certificate::Expired { 2021 } else { 2120 }, 1, 1);
        let signed = params.signed_by(&key, issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![signed.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap()
    }
}
