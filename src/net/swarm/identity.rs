//! Where does a node's key come from? From the configuration, from the random generator, or from a file.
//!
//! The file has libp2p's own encoding of an Ed25519 key, as other programs write it. It holds the secret and the public
//! half, which must match: damage is detected, and never leads to another peer id. A node locks it for as long as it
//! lives, so that no two nodes of a machine have one identity.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use libp2p_identity::{KeyType, Keypair};

use avi_p2p_proto::config::invalid;

use crate::config::Identity;
use crate::error::AviP2pError;
use crate::lock::Lock;
use crate::temporary::{self, Temporary};

/// The most bytes that are read from a file. A key has 68 bytes.
const MAX_FILE_BYTES: u64 = 512;
const DAMAGED: &str = "damaged, or no Ed25519 key in libp2p's encoding: restore it, or remove it to get a new peer id";

const IN_USE: &str = "another node uses it, in this process or another, and no two nodes may have one peer id: stop \
                      that node, or name another file";

/// The key that the configuration names, and the lock on its file. Creates a missing file.
///
/// # Errors
/// [`AviP2pError::Identity`] for a file that cannot be used or created, or that another node uses.
pub(in crate::net) fn keypair(identity: &Identity) -> Result<(Keypair, Option<Lock>), AviP2pError> {
    match identity {
        Identity::Generated => Ok((Keypair::generate_ed25519(), None)),
        Identity::Bytes(secret) => match Keypair::ed25519_from_bytes(*secret) {
            Ok(key) => Ok((key, None)),
            Err(_) => Err(invalid("identity", "Bytes(..)".to_owned(), "the secret of an Ed25519 key".to_owned())),
        },
        Identity::File(path) => from_file(path).map_err(|reason| AviP2pError::Identity { path: path.clone(), reason }),
        other => Err(invalid("identity", format!("{other:?}"), "Generated, Bytes or File".to_owned())),
    }
}

fn from_file(path: &Path) -> Result<(Keypair, Option<Lock>), String> {
    if let Some(read) = read(path)? {
        return Ok(read);
    }
    make(path)?;
    // If several nodes create the file at once, the file of one of them is there, and one of them locks it.
    read(path)?.ok_or_else(|| "a symbolic link to nothing, or removed while it was made: name another path".to_owned())
}

/// Returns `None` if there is no file.
fn read(path: &Path) -> Result<Option<(Keypair, Option<Lock>)>, String> {
    // Checked before the file is opened, because opening a named pipe would wait for a writer.
    match fs::metadata(path) {
        Ok(metadata) => check(path, &metadata)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be looked at: {error}")),
    }
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    check(path, &file.metadata().map_err(unreadable)?)?;
    let lock = Lock::take(path, file.try_clone().map_err(unreadable)?).map_err(|_| IN_USE.to_owned())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    decode(&bytes).map(|key| Some((key, lock))).ok_or_else(|| DAMAGED.to_owned())
}

/// Checks that it is a file of a plausible size that only this user can access.
fn check(path: &Path, metadata: &Metadata) -> Result<(), String> {
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a directory" } else { "no regular file" };
        return Err(format!("{kind}: name a file, or a path where none is yet"));
    }
    check_owner(path, metadata)?;
    match metadata.len() {
        0..=MAX_FILE_BYTES => Ok(()),
        bytes => Err(format!("{DAMAGED} ({bytes} bytes)")),
    }
}

#[cfg(unix)]
fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;

    let (owner, user, mode) = (metadata.uid(), rustix::process::geteuid().as_raw(), metadata.mode() & 0o7777);
    if owner != user {
        return Err(format!("belongs to user {owner}, but the node runs as user {user}: chown {user} {path:?}"));
    }
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(format!("mode {mode:04o} lets others read or write the secret: chmod 600 {path:?}")),
    }
}

/// On other systems the permissions of the folder must protect the file.
#[cfg(not(unix))]
fn check_owner(_: &Path, _: &Metadata) -> Result<(), String> {
    Ok(())
}

/// Decodes a key and compares its encoding: bytes that libp2p would skip are damage too.
fn decode(bytes: &[u8]) -> Option<Keypair> {
    let key = Keypair::from_protobuf_encoding(bytes).ok().filter(|key| key.key_type() == KeyType::Ed25519)?;
    key.to_protobuf_encoding().is_ok_and(|encoded| encoded == bytes).then_some(key)
}

/// Writes a new key if the path is free; a file that has appeared meanwhile stays. Nobody ever sees a part of the file,
/// and it survives a power failure.
fn make(path: &Path) -> Result<(), String> {
    let folder = temporary::folder(path);
    let key = Keypair::generate_ed25519();
    let encoded = key.to_protobuf_encoding().map_err(|error| format!("cannot be made: {error}"))?;
    let unmakeable = |error: io::Error| {
        format!("cannot be made: {error}: the folder {folder:?} must be there, and writable for the node's user")
    };
    let written = Temporary::write(folder, &encoded).map_err(unmakeable)?;
    if let Err(error) = fs::hard_link(written.path(), path)
        && error.kind() != ErrorKind::AlreadyExists
    {
        return Err(format!("cannot be put in place: {error}: the file system must know hard links"));
    }
    drop(written);
    if let Err(error) = temporary::sync(folder) {
        tracing::warn!(?path, %error, "a power failure may lose the new identity");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_decoded_from_its_own_encoding_alone() {
        let key = Keypair::generate_ed25519();
        let encoded = key.to_protobuf_encoding().unwrap();
        assert_eq!(decode(&encoded).unwrap().public(), key.public());
        // An unknown field after the key, which protobuf skips.
        assert!(decode(&[&encoded[..], &[0x18, 1]].concat()).is_none());
        // The halves of two different keys.
        let other = Keypair::generate_ed25519().to_protobuf_encoding().unwrap();
        assert!(decode(&[&encoded[..36], &other[36..]].concat()).is_none());
        // The secret half alone, with a matching length.
        let mut half = encoded[..36].to_vec();
        half[3] = 32;
        assert!(decode(&half).is_none());
    }
}
