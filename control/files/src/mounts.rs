//! On which mount a path is, without a look at the file system: that may hang.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Component, Path, PathBuf},
};

/// Where file systems are mounted.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Vec<PathBuf>);

impl Mounts {
    /// Those of this process. /proc does not hang.
    pub(crate) fn now() -> Self {
        let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self::of_lines(&text)
    }

    fn of_lines(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        // proc_pid_mountinfo(5): the fifth field is the mount point.
        let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
        Self(points.map(unescaped).collect())
    }

    #[cfg(test)]
    pub(crate) fn read(text: &str) -> Self {
        Self::of_lines(text.as_bytes())
    }

    /// The mount point that a path is below, as it is written: links are not followed.
    pub(crate) fn of(&self, path: &Path) -> &Path {
        let path = plain(path);
        let above = self.0.iter().filter(|point| path.starts_with(point));
        let nearest = above.max_by_key(|point| point.components().count());
        nearest.map_or(Path::new("/"), PathBuf::as_path)
    }
}

/// Spaces and the like are written as `\` and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// From the root on, and without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                plain.push(component);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_nearest_mount_above_it() {
        let mounts = Mounts::read(
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             30 22 0:40 / /mnt/a rw shared:2 - nfs4 server:/a rw\n\
             31 30 0:41 / /mnt/a/deep\\040er rw - nfs4 server:/b rw\n",
        );
        for (path, mount) in [
            ("/etc/x.pem", "/"),
            ("/mnt/a/x.pem", "/mnt/a"),
            ("/mnt/ab/x.pem", "/"),
            ("/mnt/a/deep er/x.pem", "/mnt/a/deep er"),
            ("/mnt/a/../x.pem", "/"),
            ("/mnt/./a/x.pem", "/mnt/a"),
        ] {
            assert_eq!(mounts.of(Path::new(path)), Path::new(mount), "{path}");
        }
        assert_eq!(Mounts::default().of(Path::new("x.pem")), Path::new("/"));
        let own = Mounts::now();
        assert_eq!(own.of(Path::new("/proc/self/stat")), Path::new("/proc"));
    }
}
