//! The files of a boot file that are written: the store and the logs. None of them is somebody else's
//! file, or another one of the boot file's.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use control_api::{
    Problem, Problems, Severity,
    boot::{Boot, CertificateFiles, LogFile, Secret},
};
use rustix::fs::{Access, CWD, Mode, OFlags};

use crate::tokens;

/// What files begin with that no log is: databases of SQLite, and certificates and keys in PEM.
const NO_LOG: [&[u8]; 2] = [b"SQLite format 3\0", b"-----BEGIN"];

/// Why a log is not written into a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// Its path is needed for something else.
    #[error("{} is also `{key}`, and a log is appended to it: name another file", .path.display())]
    Taken {
        /// The log's path.
        path: PathBuf,
        /// The key of the boot file that has it.
        key: &'static str,
    },
    /// A folder, a link, a disk, a socket or a pipe.
    #[error(
        "{} is {kind}, and a log is a file or a terminal (`stdout` and `none` are written as such)",
        .path.display()
    )]
    Kind {
        /// The log's path.
        path: PathBuf,
        /// What is there.
        kind: &'static str,
    },
    /// A file with a content of another kind.
    #[error("{} holds a database, a certificate or a key, and is left as it is", .0.display())]
    Foreign(PathBuf),
    /// The system's answer.
    #[error("{}", .path.display())]
    Open {
        /// The log's path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The files of a boot file that a log must not be written into, with their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guarded(Vec<(PathBuf, &'static str)>);

impl Guarded {
    pub(crate) fn of(boot_file: &Path, boot: &Boot) -> Self {
        let folder = boot_file.parent().unwrap_or(Path::new(""));
        let at = |file: &Path| folder.join(file);
        let mut guarded = vec![(boot_file.to_owned(), "--config")];
        for ending in ["", "-wal", "-shm", "-journal", ".lock"] {
            let mut path = at(&boot.store).into_os_string();
            path.push(ending);
            guarded.push((path.into(), "store"));
        }
        guarded.extend(boot.state.iter().map(|state| (at(state), "state")));
        let pairs = boot.tls.files.iter().flatten().chain(&boot.tls.default);
        for CertificateFiles {
            certificate, key, ..
        } in pairs
        {
            guarded.push((at(certificate), "tls"));
            guarded.push((at(key), "tls"));
        }
        for credential in boot.api.credentials() {
            if let Secret::File(file) = credential.secret {
                let places = tokens::places(&file, folder);
                guarded.extend(places.into_iter().map(|place| (place, "api.token_file")));
            }
        }
        for directory in boot.acme.directories.iter().flatten() {
            let files = directory.roots.iter().chain(&directory.eab_key_file);
            guarded.extend(files.map(|file| (at(file), "acme.directories")));
        }
        let dns = &boot.acme.dns;
        guarded.extend(dns.hook.iter().map(|hook| (at(hook), "acme.dns.hook")));
        let zones = dns.zones.iter().flatten();
        guarded.extend(zones.map(|zone| (at(&zone.key_file), "acme.dns.zones")));
        Self(guarded)
    }

    /// The key of the file that a path is, by whichever of its names.
    fn key_of(&self, path: &Path) -> Option<&'static str> {
        let (named, found) = (resolved(path), fs::metadata(path).ok());
        let is_same = |known: &Path| {
            let inode = |found: &Metadata| (found.dev(), found.ino());
            let other = || fs::metadata(known).ok();
            resolved(known) == named
                || found
                    .as_ref()
                    .is_some_and(|found| other().is_some_and(|it| inode(&it) == inode(found)))
        };
        let mut known = self.0.iter();
        known.find(|(known, _)| is_same(known)).map(|(_, key)| *key)
    }

    /// Opens a log to be appended to, and makes it where there is none.
    ///
    /// # Errors
    /// Says what the file is instead.
    pub(crate) fn open_log(&self, path: &Path) -> Result<File, LogError> {
        self.look_at_log(path)?;
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW;
        // Whatever came there meanwhile: nothing is waited for.
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = |source| LogError::Open {
            path: path.to_owned(),
            source,
        };
        let opened = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o666));
        let file = File::from(opened.map_err(|errno| open(errno.into()))?);
        refuse_kind(path, &file.metadata().map_err(open)?)?;
        refuse_content(path, &file)?;
        Ok(file)
    }

    /// Looks whether a log can be appended to, without making it.
    fn look_at_log(&self, path: &Path) -> Result<(), LogError> {
        if let Some(key) = self.key_of(path) {
            let path = path.to_owned();
            return Err(LogError::Taken { path, key });
        }
        match fs::symlink_metadata(path) {
            Ok(found) => refuse_kind(path, &found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(LogError::Open {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// As opening it would end, without making it.
    fn examine_log(&self, path: &Path) -> Result<(), LogError> {
        self.look_at_log(path)?;
        let open = |source| LogError::Open {
            path: path.to_owned(),
            source,
        };
        match File::open(path) {
            Ok(file) => refuse_content(path, &file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new("."));
                let access = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK);
                return access.map_err(|errno| open(errno.into()));
            }
            Err(error) => return Err(open(error)),
        }
        let access = rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK);
        access.map_err(|errno| open(errno.into()))
    }
}

/// What stands in the way of the files that a boot file has written, without touching any.
pub(crate) fn examine(boot_file: &Path, boot: &Boot) -> Problems {
    let mut problems = Problems::default();
    let mut note = |pointer: &str, error: anyhow::Error| {
        problems.push(Problem {
            pointer: pointer.to_owned(),
            ..Problem::whole(Severity::Error, format!("{error:#}"))
        });
    };
    if let Err(error) = control_store::examine(&boot.store) {
        note("/store", error.into());
    }
    let guarded = Guarded::of(boot_file, boot);
    let logs = [
        ("/log/file", &boot.log.file),
        ("/log/requests", &boot.log.requests),
    ];
    for (pointer, file) in logs {
        if let LogFile::Path(path) = file
            && let Err(error) = guarded.examine_log(path)
        {
            note(pointer, error.into());
        }
    }
    problems
}

fn refuse_kind(path: &Path, found: &Metadata) -> Result<(), LogError> {
    let kind = found.file_type();
    let kind = match kind.is_file() || kind.is_char_device() {
        true => return Ok(()),
        false if kind.is_dir() => "a folder",
        false if kind.is_symlink() => "a symbolic link, which is not followed",
        false => "a disk, a socket or a pipe",
    };
    let path = path.to_owned();
    Err(LogError::Kind { path, kind })
}

fn refuse_content(path: &Path, file: &File) -> Result<(), LogError> {
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let mut start = Vec::new();
    let longest = NO_LOG.iter().map(|start| start.len()).max().unwrap_or(0);
    let read = file.take(u64::try_from(longest).unwrap_or(u64::MAX));
    // Of a file that cannot be read nothing is known, and appending to it destroys nothing.
    let _ = { read }.read_to_end(&mut start);
    match NO_LOG.iter().any(|no_log| start.starts_with(no_log)) {
        true => Err(LogError::Foreign(path.to_owned())),
        false => Ok(()),
    }
}

/// A path with its folder's links resolved, as far as that is there.
fn resolved(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = fs::canonicalize(folder.unwrap_or(Path::new(".")));
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        (Ok(_), None) | (Err(_), _) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::symlink};

    use control_api::boot;

    use super::*;

    fn boot(folder: &Path, text: &str) -> Boot {
        let text = format!("listeners: [{{ name: a, bind: 127.0.0.1:1, protocol: tls }}]\n{text}");
        let read = boot::parse(&text, &BTreeMap::<String, String>::new());
        let mut boot = read.unwrap().value;
        boot.begin_at(folder);
        boot
    }

    fn found(folder: &Path, text: &str) -> Vec<String> {
        let problems = examine(&folder.join("ringway.yaml"), &boot(folder, text));
        let lines = problems
            .iter()
            .map(|it| format!("{}: {}", it.pointer, it.message));
        lines.collect()
    }

    #[test]
    fn a_log_is_none_of_the_other_files_by_whichever_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir(folder.join("sub")).unwrap();
        fs::write(folder.join("token"), "a-token-of-some-length").unwrap();
        fs::hard_link(folder.join("token"), folder.join("second-name")).unwrap();
        let absolute = folder.join("db").display().to_string();
        for (text, expected) in [
            ("store: db\nlog: { file: db }".to_owned(), "`store`"),
            (format!("store: db\nlog: {{ file: {absolute} }}"), "`store`"),
            (
                "store: db\nlog: { file: sub/../db-wal }".to_owned(),
                "`store`",
            ),
            (
                "store: db\nlog: { requests: db.lock }".to_owned(),
                "`store`",
            ),
            (
                "store: db\nlog: { file: ringway.yaml }".to_owned(),
                "`--config`",
            ),
            (
                "store: db\nstate: s.json\nlog: { file: s.json }".to_owned(),
                "`state`",
            ),
            (
                "store: db\napi: { token_file: token }\nlog: { file: second-name }".to_owned(),
                "`api.token_file`",
            ),
            (
                "store: db\ntls: { files: [{ certificate: c, key: k }] }\nlog: { file: k }"
                    .to_owned(),
                "`tls`",
            ),
        ] {
            let found = found(folder, &text);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{text}: {found:?}"
            );
            assert!(found[0].starts_with("/log/"), "{found:?}");
        }
        assert_eq!(
            found(folder, "store: db\nlog: { file: a.log, requests: a.log }"),
            [""; 0]
        );
        assert_eq!(fs::read_dir(folder).unwrap().count(), 3, "nothing was made");
    }

    #[test]
    fn a_log_is_a_file_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let at = |name: &str| folder.join(name);
        fs::write(at("key.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
        fs::write(at("other.db"), b"SQLite format 3\0 and more").unwrap();
        fs::write(at("good.log"), "{\"time\":1}\n").unwrap();
        symlink(at("good.log"), at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let guarded = Guarded::default();
        for (name, why) in [
            ("key.pem", "holds a database, a certificate or a key"),
            ("other.db", "holds a database, a certificate or a key"),
            ("link", "a symbolic link"),
            ("socket", "a disk, a socket or a pipe"),
            (".", "a folder"),
        ] {
            let before = fs::symlink_metadata(at(name)).unwrap().len();
            let opened = guarded.open_log(&at(name)).unwrap_err().to_string();
            let examined = guarded.examine_log(&at(name)).unwrap_err().to_string();
            assert!(
                opened.contains(why) && examined == opened,
                "{name}: {opened} {examined}"
            );
            assert_eq!(fs::symlink_metadata(at(name)).unwrap().len(), before);
        }
        guarded.examine_log(Path::new("/dev/null")).unwrap();
        guarded.open_log(Path::new("/dev/null")).unwrap();
        guarded.examine_log(&at("new.log")).unwrap();
        assert!(!at("new.log").exists());
        for name in ["good.log", "new.log"] {
            let mut file = guarded.open_log(&at(name)).unwrap();
            io::Write::write_all(&mut file, b"{}\n").unwrap();
            assert!(fs::read_to_string(at(name)).unwrap().ends_with("{}\n"));
        }
        assert!(
            fs::read_to_string(at("good.log"))
                .unwrap()
                .starts_with("{\"time\":1}\n")
        );
    }

    #[test]
    fn a_store_and_logs_begin_at_the_boot_files_folder() {
        let folder = tempfile::tempdir().unwrap();
        let boot = boot(
            folder.path(),
            "store: db\nlog: { file: a.log, requests: none }",
        );
        assert_eq!(boot.store, folder.path().join("db"));
        assert_eq!(boot.log.file, LogFile::Path(folder.path().join("a.log")));
        let found = found(folder.path(), "store: .\nlog: { file: missing/a.log }");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("/store: ") && found[0].contains("is a folder"));
    }
}
