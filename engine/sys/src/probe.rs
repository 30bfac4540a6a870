//! What this kernel, and the rights of this process, allow.

use std::{
    fmt, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsFd,
};

use io_uring::{IoUring, Probe, opcode};
use nix::sched::{CloneFlags, setns};

use crate::{netns::Netns, pipe::Pipe};

/// What the probe found. Each `Err` says in one sentence what is missing and how to get it.
#[derive(Debug)]
pub struct Abilities {
    /// The kernel's release, as in `uname -r`.
    pub kernel: String,
    /// io_uring with the operations and set-up flags that the workers use.
    pub io_uring: Result<(), Missing>,
    /// Entering network namespaces.
    pub setns: Result<(), Missing>,
    /// splice(2) between sockets and pipes.
    pub splice: Result<(), Missing>,
}

/// An ability that is not there: why, and what to do.
#[derive(Debug)]
pub struct Missing {
    sentence: String,
    source: io::Error,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Missing {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Tries everything out.
pub fn probe() -> Abilities {
    let kernel = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    Abilities {
        kernel,
        io_uring: io_uring(),
        setns: enter(),
        splice: through_a_pipe(),
    }
}

/// The flags that the workers' rings are made with: one thread submits, and completions run when
/// it asks for them (io_uring_setup(2)).
pub fn ring_flags(builder: &mut io_uring::Builder) {
    builder
        .dontfork()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun();
}

fn io_uring() -> Result<(), Missing> {
    let mut builder = IoUring::builder();
    ring_flags(&mut builder);
    let ring = builder.build(8).map_err(refused)?;
    let mut operations = Probe::new();
    ring.submitter()
        .register_probe(&mut operations)
        .map_err(refused)?;
    for (code, name) in [
        (opcode::PollAdd::CODE, "POLL_ADD"),
        (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
        (opcode::Close::CODE, "CLOSE"),
    ] {
        if !operations.is_supported(code) {
            let sentence = format!("this kernel's io_uring lacks {name}: use Linux 6.1 or newer");
            return Err(Missing {
                sentence,
                source: io::ErrorKind::Unsupported.into(),
            });
        }
    }
    Ok(())
}

fn refused(source: io::Error) -> Missing {
    let sentence = match source.raw_os_error() {
        Some(libc::EPERM) => {
            "io_uring is refused: set kernel.io_uring_disabled=0, or allow io_uring_setup in the \
             container's seccomp profile"
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring: use Linux 6.1 or newer",
        Some(libc::EINVAL) => {
            "this kernel's io_uring lacks SINGLE_ISSUER and DEFER_TASKRUN: use Linux 6.1 or newer"
        }
        Some(libc::ENOMEM) => "io_uring is refused for lack of locked memory: raise RLIMIT_MEMLOCK",
        _ => "io_uring does not start",
    };
    Missing {
        sentence: sentence.to_owned(),
        source,
    }
}

fn enter() -> Result<(), Missing> {
    Netns::current()
        .and_then(|here| Ok(setns(here.as_fd(), CloneFlags::CLONE_NEWNET)?))
        .map_err(|source| Missing {
            sentence: "network namespaces cannot be entered: give the process CAP_SYS_ADMIN, and \
                       allow setns in the container's seccomp profile"
                .to_owned(),
            source,
        })
}

fn through_a_pipe() -> Result<(), Missing> {
    let attempt = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let socket = TcpStream::connect(listener.local_addr()?)?;
        socket.set_nonblocking(true)?;
        match Pipe::open(4096)?.fill(socket.as_fd(), 1) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    };
    attempt().map_err(|source| Missing {
        sentence: "sockets cannot be spliced: allow splice in the container's seccomp profile"
            .to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_everything() {
        let abilities = probe();
        assert!(!abilities.kernel.is_empty());
        assert!(abilities.io_uring.is_ok(), "{:?}", abilities.io_uring);
        assert!(abilities.setns.is_ok(), "{:?}", abilities.setns);
        assert!(abilities.splice.is_ok(), "{:?}", abilities.splice);
    }

    #[test]
    fn what_is_missing_is_said_in_one_sentence() {
        let missing = refused(io::Error::from_raw_os_error(libc::EPERM));
        assert!(missing.to_string().contains("kernel.io_uring_disabled=0"));
    }
}
