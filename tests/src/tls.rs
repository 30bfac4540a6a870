//! Real TLS on both sides of the gateway.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};

/// An authority that clients trust and that vouches for any name.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: rcgen::Certificate,
    /// Its key.
    pub key: KeyPair,
}

/// The client's side of a TLS connection.
pub type Client = StreamOwned<ClientConnection, TcpStream>;

impl Authority {
    /// A new one, with a key of its own.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its certificate.
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// Certifies some names; `subject` is what the certificate calls its holder.
    ///
    /// # Errors
    /// When a name cannot be certified.
    pub fn certify(&self, names: &[&str], subject: &str) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names)?;
        parameters
            .distinguished_name
            .push(DnType::CommonName, subject);
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate, key })
    }

    /// The configuration of the server of one name.
    ///
    /// # Errors
    /// When the name cannot be certified.
    pub fn server(&self, name: &str) -> Result<Arc<ServerConfig>> {
        let Identity { certificate, key } = self.certify(&[name], name)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The configuration of a client that trusts this authority and nobody else.
    ///
    /// # Errors
    /// When the authority's certificate is not one.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl Identity {
    /// Writes both to one file of a directory, in the place of what was there: who looks finds a
    /// certificate with its own key at any time.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<PathBuf> {
        let file = directory.join(format!("{name}.pem"));
        let next = directory.join(format!("{name}.next"));
        fs::write(&next, self.certificate.pem() + &self.key.serialize_pem())?;
        fs::rename(next, &file)?;
        Ok(file)
    }

    /// The chain as TLS sends it, and the key.
    pub fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        (vec![self.certificate.der().clone()], key)
    }
}

/// Begins a TLS connection to `name` over a TCP connection; the handshake happens at first use.
///
/// # Errors
/// When the name is none.
pub fn client(config: &Arc<ClientConfig>, name: &str, stream: TcpStream) -> Result<Client> {
    let name = ServerName::try_from(name.to_owned())?;
    Ok(StreamOwned::new(
        ClientConnection::new(config.clone(), name)?,
        stream,
    ))
}

/// Asks for `/` and answers what the server says.
///
/// # Errors
/// When the handshake, the request or the end fails.
pub fn get(config: &Arc<ClientConfig>, name: &str, stream: TcpStream) -> Result<String> {
    let mut client = client(config, name, stream)?;
    write!(
        client,
        "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    )
    .with_context(|| format!("asking {name}"))?;
    let mut answer = String::new();
    client
        .read_to_string(&mut answer)
        .with_context(|| format!("the answer of {name}"))?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .context("no end of the head")?;
    Ok(body.to_owned())
}

/// Serves one HTTPS request after another with the text, until the client ends; answers the
/// client's address as the server sees it.
pub fn site(
    config: Arc<ServerConfig>,
    text: &str,
) -> impl Fn(TcpStream, SocketAddr) -> Result<SocketAddr> + Clone + use<> {
    let text = text.to_owned();
    move |stream, from| {
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone())?, stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            tls.read_exact(&mut byte).context("the head of a request")?;
            head.push(byte[0]);
        }
        let length = text.len();
        write!(
            tls,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        tls.write_all(text.as_bytes())?;
        tls.conn.send_close_notify();
        tls.conn.complete_io(&mut tls.sock)?;
        // Let the client end first, so that nothing of the answer is lost to a reset.
        let mut rest = Vec::new();
        let _ = tls.sock.shutdown(std::net::Shutdown::Write);
        tls.sock
            .read_to_end(&mut rest)
            .context("the client's end")?;
        Ok(from)
    }
}

/// The ClientHello that rustls sends for a name: one whole TLS record.
///
/// # Errors
/// When the name is none.
pub fn hello(name: &str) -> Result<Vec<u8>> {
    hello_with(name, Vec::new())
}

/// [`hello`] with these ALPN protocols; enough of them make it longer than any one packet.
///
/// # Errors
/// When the name is none.
pub fn hello_with(name: &str, alpn: Vec<Vec<u8>>) -> Result<Vec<u8>> {
    let mut config = ClientConfig::clone(&*Authority::new()?.client()?);
    config.alpn_protocols = alpn;
    let name = ServerName::try_from(name.to_owned())?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// The same handshake message in records of `size` bytes (RFC 8446, 5.1 allows any split).
pub fn in_records_of(size: usize, hello: &[u8]) -> Vec<u8> {
    let (head, message) = hello.split_at(5.min(hello.len()));
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&head[..3], &length, piece].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

/// The TLS alert that refuses a name: fatal, `unrecognized_name` (RFC 6066, 3).
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::server::Server;

    #[test]
    fn client_and_site_agree_without_a_gateway() {
        let authority = Authority::new().unwrap();
        let site = site(authority.server("blue.example").unwrap(), "I am blue");
        let server = Server::start(TcpListener::bind("127.0.0.1:0").unwrap(), site).unwrap();
        let dial = || TcpStream::connect(server.address().unwrap()).unwrap();
        let client = authority.client().unwrap();
        assert_eq!(get(&client, "blue.example", dial()).unwrap(), "I am blue");
        server.next().unwrap();
        assert!(
            get(&client, "green.example", dial()).is_err(),
            "another's certificate"
        );
    }

    #[test]
    fn a_hello_in_records_is_the_same_message() {
        let whole = hello("blue.example").unwrap();
        assert_eq!(in_records_of(65_535, &whole)[5..], whole[5..]);
        let split = in_records_of(1, &whole);
        assert_eq!(split.len(), (whole.len() - 5) * 6);
        assert!(
            split
                .chunks(6)
                .map(|record| record[5])
                .eq(whole[5..].iter().copied())
        );
    }
}
