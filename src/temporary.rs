//! How does a file get its content at once, and keep it after a power failure? It is written under another name first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file with a unique name, readable by its owner alone, deleted when this is dropped unless it was renamed.
pub(crate) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    pub(crate) fn write(folder: &Path, bytes: &[u8]) -> io::Result<Self> {
        let number = getrandom::u64().map_err(io::Error::other)?;
        let path = folder.join(format!(".avi-{number:016x}"));
        let mut file = create(&path)?;
        let temporary = Self { path };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = ?self.path, %error, "a temporary file stays behind");
            }
            _ => {}
        }
    }
}

/// The folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The file's neighbour whose name has this at its end.
#[cfg(any(feature = "context", feature = "recorder"))]
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(end);
    beside.into()
}

/// Waits until the names in a folder are on the disk.
#[cfg(unix)]
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// On other systems a folder cannot be opened as a file.
#[cfg(not(unix))]
pub(crate) fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A new file that its owner alone can read.
#[cfg(unix)]
pub(crate) fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The process's umask may have removed the owner's own permissions.
    file.set_permissions(fs::Permissions::from_mode(0o600)).inspect_err(|_| drop(fs::remove_file(path)))?;
    Ok(file)
}

#[cfg(not(unix))]
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
