//! The socket that the API is served on.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
};

use control_api::boot::ApiListen;
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};

/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: u32 = 1024;
/// Of the unix socket: connecting takes the right to write (unix(7)).
const SOCKET_MODE: u32 = 0o660;

/// A socket that is bound and listens.
#[derive(Debug)]
pub struct Listener(pub(crate) Kind);

#[derive(Debug)]
pub(crate) enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is taken, or the address is not this machine's, or it is not allowed.
    #[error("listening on {address}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Somebody answers there.
    #[error("{path} is in use by another process{holder}")]
    InUse {
        /// Where.
        path: PathBuf,
        /// Who, as far as that is known.
        holder: String,
    },
    /// There is a file, and it is no socket.
    #[error("{0} exists and is no socket")]
    NoSocket(PathBuf),
    /// The socket's file cannot be made.
    #[error("making the socket {path}")]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Listener {
    /// Listens; nothing when the API is off. Has to be called where requests will run.
    ///
    /// The file of a unix socket may be there from a process that was killed: then it is replaced.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn bind(listen: &ApiListen) -> Result<Option<Self>, BindError> {
        match listen {
            ApiListen::Off => Ok(None),
            ApiListen::Tcp(address) => {
                let bound = TcpListener::bind(address).await;
                let failed = |source| BindError::Tcp {
                    address: *address,
                    source,
                };
                bound
                    .map(|listener| Some(Self(Kind::Tcp(listener))))
                    .map_err(failed)
            }
            ApiListen::Unix(path) => bind_unix(path).map(Some),
        }
    }

    /// Where it listens, where that is an address.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix(..) => None,
        }
    }

    /// Where it listens; of a TCP port that the kernel chose, which.
    pub fn address(&self) -> ApiListen {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map_or(ApiListen::Off, ApiListen::Tcp),
            Kind::Unix(_, file) => ApiListen::Unix(file.path.clone()),
        }
    }
}

fn bind_unix(path: &Path) -> Result<Listener, BindError> {
    let failed = |source| BindError::Unix {
        path: path.to_owned(),
        source,
    };
    make_way(path)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    // Before it listens nobody can connect, whatever the umask allows.
    let mode = fs::Permissions::from_mode(SOCKET_MODE);
    fs::set_permissions(path, mode).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: fs::symlink_metadata(path).map_err(failed)?.ino(),
    };
    Ok(Listener(Kind::Unix(listener, file)))
}

/// Removes the socket of a process that is gone.
fn make_way(path: &Path) -> Result<(), BindError> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NoSocket(path.to_owned()));
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|source| BindError::Unix {
                path: path.to_owned(),
                source,
            }),
        found => Err(BindError::InUse {
            path: path.to_owned(),
            holder: found.ok().and_then(holder).unwrap_or_default(),
        }),
    }
}

/// The process at the other end of a connection: the one that listens (unix(7), SO_PEERCRED).
fn holder(stream: StdUnixStream) -> Option<String> {
    stream.set_nonblocking(true).ok()?;
    let pid = UnixStream::from_std(stream).ok()?.peer_cred().ok()?.pid()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!(": {} (process {pid})", name.trim_end()))
}

/// The file of a unix socket, removed when it is dropped and still the same.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| found.ino() == self.inode) {
            // What is left is replaced by the next one that listens.
            let _ = fs::remove_file(&self.path);
        }
    }
}
