//! The stream to the broker: TCP, optionally with TLS.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use super::{RabbitError, RabbitOptions};
use crate::dispatch::stomp::{Client, ClientError, ClientOptions};

/// Opens connections.
pub(super) struct Connector {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    timeout: std::time::Duration,
}

impl Connector {
    pub(super) fn new(options: &RabbitOptions) -> Result<Self, RabbitError> {
        Ok(Self {
            host: options.stomp_host.clone(),
            port: options.stomp_port,
            tls: options.tls.then(|| tls(options)).transpose()?,
            timeout: options.timeout,
        })
    }

    pub(super) async fn open(&self, options: &ClientOptions) -> Result<Client, ClientError> {
        let closed = |error: String| ClientError::Closed(error);
        let opened = tokio::time::timeout(self.timeout, async {
            let stream =
                TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|e| closed(e.to_string()))?;
            // Small frames that somebody waits for.
            let _ = stream.set_nodelay(true);
            let Some(tls) = &self.tls else { return Client::login(stream, options).await };
            let name = ServerName::try_from(self.host.clone()).map_err(|e| closed(e.to_string()))?;
            let stream = tls.connect(name, stream).await.map_err(|e| closed(e.to_string()))?;
            Client::login(stream, options).await
        });
        opened.await.unwrap_or(Err(ClientError::NoReceipt))
    }
}

fn tls(options: &RabbitOptions) -> Result<TlsConnector, RabbitError> {
    let mut roots = RootCertStore::empty();
    // What the machine trusts; a certificate of it that cannot be read is no reason to trust none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &options.ca_file {
        let wrong = |problem: String| RabbitError::Authority { path: path.display().to_string(), problem };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| RabbitError::Authority { path: "TLS".to_owned(), problem: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
