//! TLS before the simulator, with certificates of every kind.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Good,
    Expired,
    OtherHost,
    UnknownAuthority,
}

/// Terminates TLS and forwards the bytes.
pub struct Front {
    address: SocketAddr,
    authority: Mutex<Authority>,
    file: NamedTempFile,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    /// Ends the connections that there are.
    cut: Arc<Notify>,
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

// === impl Front ===

impl Front {
    pub async fn start(to: &str, certificate: Certificate) -> Self {
        Self::start_at("127.0.0.1".parse().unwrap(), to, certificate).await
    }

    /// The same on this address of the machine.
    pub async fn start_at(host: IpAddr, to: &str, certificate: Certificate) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Authority::new();
        let cut = Arc::new(Notify::new());
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &authority.pem).unwrap();
        let config = Arc::new(Mutex::new(Arc::new(authority.server(host, certificate))));
        let cutting = Arc::clone(&cut);
        let (configs, to) = (Arc::clone(&config), to.trim_start_matches("http://").to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&configs.lock().unwrap()));
                let (to, cutting) = (to.clone(), Arc::clone(&cutting));
                tokio::spawn(async move {
                    let (mut inner, mut outer) =
                        (acceptor.accept(stream).await.ok()?, TcpStream::connect(to).await.ok()?);
                    tokio::select! {
                        done = tokio::io::copy_bidirectional(&mut inner, &mut outer) => done.ok(),
                        () = cutting.notified() => None,
                    }
                });
            }
        });
        Self { address, authority: Mutex::new(authority), file, config, cut }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Replaces the authority, in its file and under the certificate, and ends the connections that there are.
    pub fn rotate(&self) {
        let authority = Authority::new();
        std::fs::write(self.file.path(), &authority.pem).unwrap();
        *self.authority.lock().unwrap() = authority;
        self.present(Certificate::Good);
        self.cut.notify_waiters();
    }

    /// The authority that is to be trusted, PEM.
    pub fn authority(&self) -> &Path {
        self.file.path()
    }

    /// From the next connection on.
    pub fn present(&self, certificate: Certificate) {
        let config = self.authority.lock().unwrap().server(self.address.ip(), certificate);
        *self.config.lock().unwrap() = Arc::new(config);
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

    fn server(&self, host: IpAddr, certificate: Certificate) -> ServerConfig {
        let other = Self::new();
        let issuer = if certificate == Certificate::UnknownAuthority { &other.issuer } else { &self.issuer };
        let other_host = certificate == Certificate::OtherHost;
        let host = if other_host { "ohallo.example".to_owned() } else { host.to_string() };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host]).unwrap();
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
