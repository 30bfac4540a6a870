//! The store's file, as the file system has it: whose it is before SQLite opens it, and whether it is
//! still in its place afterwards.
//!
//! Nothing that is not a database of Ringway is ever written, locked, renamed, or kept from others:
//! the path is an operator's, who may have meant another one. Symbolic links are not followed, because
//! whoever may write in the folder would choose the file otherwise.

use std::{
    fs::{self, File, Metadata, Permissions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, CWD, Mode, OFlags},
    process::geteuid,
};

use crate::migrate::APPLICATION;

/// Only the owner reads the file: it holds the networks' private keys.
pub(crate) const FILE_MODE: u32 = 0o600;
/// What SQLite's files begin with (sqlite.org/fileformat.html, section 1.3.1).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Bytes of the header, and where it says the page size and whose file it is (section 1.3).
const HEADER_BYTES: u64 = 100;
const PAGE_SIZE_AT: usize = 16;
const APPLICATION_AT: usize = 68;
/// What a write-ahead log begins with, but for its last bit (section 4.1).
const LOG_MAGIC: [u8; 3] = [0x37, 0x7f, 0x06];

/// Why a file is not opened as the store. Nothing was done to it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A folder, or a path that ends like one.
    #[error("it is a folder, and the path of a file is needed, such as {}", .0.join("ringway.db").display())]
    Folder(PathBuf),
    /// A symbolic link.
    #[error("{} is a symbolic link, which is not followed: name the file itself", .0.display())]
    Link(PathBuf),
    /// A device, a socket or a pipe.
    #[error("{} is no regular file", .0.display())]
    Special(PathBuf),
    /// A file of something else.
    #[error("{} is not a file of Ringway's and is left as it is: name another one", .0.display())]
    Foreign(PathBuf),
    /// Its folder, or the one that its folder would be made in, takes no file from this user.
    #[error("the folder {} cannot be written by this user", .folder.display())]
    Unwritable {
        /// The first folder of the path that exists.
        folder: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It cannot be looked at.
    #[error("looking at {}", .path.display())]
    Look {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Looks whether a store can be opened or made there, without touching anything.
///
/// # Errors
/// Says what stands there instead, or why there can be none.
pub fn examine(path: &Path) -> Result<(), FileError> {
    let is_there = find(path)?.is_some();
    let folder = first_folder(path)?;
    // A database needs its log beside it, and so the right to make files.
    let is_writable = rustix::fs::access(&folder, Access::WRITE_OK | Access::EXEC_OK);
    let unwritable = |errno: rustix::io::Errno| FileError::Unwritable {
        folder,
        source: errno.into(),
    };
    is_writable.map_err(unwritable)?;
    if is_there {
        let access = rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK);
        return access.map_err(|errno| look(path)(errno.into()));
    }
    Ok(())
}

/// The store's file, open for reading, where there is one.
pub(crate) fn find(path: &Path) -> Result<Option<File>, FileError> {
    if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(FileError::Folder(path.to_owned()));
    }
    let found = open_regular(path)?;
    if let Some(file) = &found
        && !is_ours(file).map_err(look(path))?
    {
        return Err(FileError::Foreign(path.to_owned()));
    }
    for ending in ["-wal", "-shm", "-journal"] {
        let beside = beside(path, ending);
        let log = open_regular(&beside)?;
        if let Some(log) = log.filter(|_| ending == "-wal")
            && !is_log(log).map_err(look(&beside))?
        {
            return Err(FileError::Foreign(beside));
        }
    }
    Ok(found)
}

/// Keeps a database of Ringway's from everybody but its owner.
pub(crate) fn close_to_others(file: &File) -> io::Result<()> {
    if file.metadata()?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(FILE_MODE))
}

/// The path with its folder's links resolved, and its own name as it is: SQLite then refuses a link.
pub(crate) fn resolved(path: &Path) -> io::Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let folder = fs::canonicalize(folder)?;
    Ok(path
        .file_name()
        .map_or(folder.clone(), |name| folder.join(name)))
}

/// A file that belongs to the one of this path, by SQLite's way to name it.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn look(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Look { path, source }
}

/// Opens what is there only if it is a regular file: opening a device may do something, and opening
/// a pipe waits for its other end.
fn open_regular(path: &Path) -> Result<Option<File>, FileError> {
    let refuse = |found: &Metadata| {
        let kind = found.file_type();
        let path = path.to_owned();
        match kind.is_file() {
            true => Ok(()),
            false if kind.is_dir() => Err(FileError::Folder(path)),
            false if kind.is_symlink() => Err(FileError::Link(path)),
            false => Err(FileError::Special(path)),
        }
    };
    match fs::symlink_metadata(path) {
        Ok(found) => refuse(&found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(look(path)(error)),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(look(path)(errno.into())),
    };
    // It may have been another one a moment ago.
    refuse(&file.metadata().map_err(look(path))?)?;
    Ok(Some(file))
}

fn is_ours(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    // As Ringway leaves a file that it made and was killed before it wrote: nobody else's is like that.
    let is_new = found.uid() == geteuid().as_raw() && found.mode() & 0o777 == FILE_MODE;
    let mut header = Vec::new();
    file.take(HEADER_BYTES).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(is_new);
    }
    if !header.starts_with(MAGIC) {
        return Ok(false);
    }
    let application = header.get(APPLICATION_AT..APPLICATION_AT + 4);
    if application == Some(APPLICATION.to_be_bytes().as_slice()) {
        return Ok(true);
    }
    // Whose it is may still be in the log alone. The file has one page then, and SQLite is asked
    // ([`crate::migrate::recognise`]).
    let size = header.get(PAGE_SIZE_AT..PAGE_SIZE_AT + 2);
    let page = size.map_or(0, |size| match u16::from_be_bytes([size[0], size[1]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    });
    Ok(is_new && application == Some(&[0; 4]) && found.len() <= page)
}

fn is_log(file: File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.take(3).read_to_end(&mut start)?;
    Ok(start.is_empty() || start == LOG_MAGIC)
}

fn first_folder(path: &Path) -> Result<PathBuf, FileError> {
    for folder in path.ancestors().skip(1) {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        match fs::metadata(folder) {
            Ok(found) if found.is_dir() => return Ok(folder.to_owned()),
            Ok(_) => return Err(look(folder)(io::ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(look(folder)(error)),
        }
    }
    Err(look(path)(io::ErrorKind::NotFound.into()))
}

/// The file that was opened, and its log: whether they are still what their paths lead to.
///
/// A file that is deleted or replaced goes on being written, and all of it is gone with the process.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    file: Inode,
    log: PathBuf,
    /// Absent until SQLite has made it; from then on it stays as long as the database is open.
    log_file: Option<Inode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

/// The store's file is no longer in its place.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} was deleted or replaced while the gateway uses it, and what is written now is lost with the \
     process: put it back, or restart the gateway",
    .path.display()
)]
pub struct MovedError {
    /// The file, or its log.
    path: PathBuf,
}

impl Place {
    /// Of a file that SQLite has open at this path. Opening it for writing may be what gives it its
    /// number, on a file system of layers.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Inode::of(&fs::symlink_metadata(path)?),
            log: beside(path, "-wal"),
            log_file: None,
        })
    }

    /// Looks at the paths.
    ///
    /// # Errors
    /// When another file is there, or none.
    pub(crate) fn check(&mut self) -> Result<(), MovedError> {
        let moved = |path: &Path| MovedError {
            path: path.to_owned(),
        };
        if Inode::at(&self.path) != Some(self.file) {
            return Err(moved(&self.path));
        }
        let log = Inode::at(&self.log);
        match self.log_file {
            Some(_) if self.log_file != log => Err(moved(&self.log)),
            Some(_) => Ok(()),
            None => {
                self.log_file = log;
                Ok(())
            }
        }
    }
}

impl Inode {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            number: found.ino(),
        }
    }

    fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().as_ref().map(Self::of)
    }
}

#[cfg(test)]
mod tests;
