//! Which key does a node have? Made, given, or kept in a file that nobody else can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use libp2p_identity::{KeyType, Keypair};

use crate::config::{Identity, invalid};
use crate::error::AviP2pError;

/// More than any Ed25519 key takes in libp2p's encoding, which is 68 bytes.
const MAX_FILE_BYTES: u64 = 128;

/// The node's key. A file is read, or made, before this returns.
///
/// # Errors
/// [`AviP2pError::InvalidConfig`], [`AviP2pError::Identity`].
pub(super) fn keypair(identity: &Identity) -> Result<Keypair, AviP2pError> {
    match identity {
        Identity::Generated => Ok(Keypair::generate_ed25519()),
        Identity::Bytes(secret) => Keypair::ed25519_from_bytes(*secret)
            .map_err(|_| invalid("identity", "Bytes(..)".to_owned(), "the secret of an Ed25519 key".to_owned())),
        Identity::File(path) if path.file_name().is_none() => {
            Err(invalid("identity", format!("File({path:?})"), "the path of a file".to_owned()))
        }
        Identity::File(path) => {
            load_or_make(path).map_err(|reason| AviP2pError::Identity { path: path.display().to_string(), reason })
        }
    }
}

fn load_or_make(path: &Path) -> Result<Keypair, String> {
    match File::open(path) {
        Ok(file) => load(file),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(path).map_err(|error| format!("cannot be made: {error}"))?;
            // Another node may have made it at the same time: what lies there counts.
            load(File::open(path).map_err(cannot_be_read)?)
        }
        Err(error) => Err(cannot_be_read(error)),
    }
}

fn cannot_be_read(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

fn load(file: File) -> Result<Keypair, String> {
    let metadata = file.metadata().map_err(cannot_be_read)?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    check_owner(&metadata)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot_be_read)?;
    decode(&bytes).ok_or_else(|| {
        let wanted = "libp2p's encoding of an Ed25519 private key";
        format!("is damaged, or not {wanted}: restore it, or remove it to get another peer id")
    })
}

/// The encoding holds both halves of the key, and decoding checks that they fit; encoding again, that there is nothing
/// else.
fn decode(bytes: &[u8]) -> Option<Keypair> {
    let key = Keypair::from_protobuf_encoding(bytes).ok()?;
    let is_exact = key.key_type() == KeyType::Ed25519 && key.to_protobuf_encoding().ok()? == bytes;
    is_exact.then_some(key)
}

#[cfg(unix)]
fn check_owner(metadata: &fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let (owner, myself) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != myself {
        return Err(format!("belongs to user {owner}, and this is user {myself}: chown it, or use another file"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!("can be read or written by others (mode {mode:04o}): chmod 600 it"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_: &fs::Metadata) -> Result<(), String> {
    Ok(())
}

/// Makes the file, unless another appears in the meantime: it is there in full, or not at all.
fn make(path: &Path) -> io::Result<()> {
    let key = Keypair::generate_ed25519();
    let bytes = key.to_protobuf_encoding().map_err(io::Error::other)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // No other node has this key, and so none has this name.
    let draft = path.with_file_name(format!(".{name}.{}", key.public().to_peer_id()));
    let linked = write(&draft, &bytes).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        linked => linked?,
    }
    removed?;
    sync_directory(path)
}

fn write(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
