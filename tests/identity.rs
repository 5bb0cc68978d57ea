//! Does an identity file keep a node's peer id, and does nothing else ever take its place?
#![cfg(unix)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use avi_p2p::{AviP2p, AviP2pConfig, AviP2pError, Identity, PeerId};

/// Some user who is not root, whom a system need not know.
const SOMEBODY: u32 = 65_534;
/// Makes this program a child that starts one node.
const CHILD: &str = "AVI_TEST_IDENTITY_FILE";
/// Has the child keep its node until it is killed.
const STAYS: &str = "AVI_TEST_STAYS";

/// A folder that goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("avi-identity-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("node.key")
    }

    /// What is in it, by name.
    fn names(&self) -> Vec<String> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Puts bytes where the key is.
    fn keep(&self, bytes: &[u8]) {
        fs::write(self.file(), bytes).unwrap();
        chmod(&self.file(), 0o600);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn config(path: &Path) -> AviP2pConfig {
    AviP2pConfig { identity: Identity::File(path.to_owned()), ..common::config() }
}

/// Starts a node and stops it.
fn start(path: &Path) -> Result<PeerId, AviP2pError> {
    smol::block_on(async {
        let (node, _events) = AviP2p::start(config(path)).await?;
        let id = node.local_peer_id().clone();
        node.shutdown().await.unwrap();
        Ok(id)
    })
}

/// The text of the failure, which names the file.
fn refused(path: &Path, words: &[&str]) -> String {
    let error = start(path).expect_err("such a file is no identity");
    let text = error.to_string();
    assert!(matches!(&error, AviP2pError::Identity { path: named, .. } if named == path), "{error:?}");
    for words in words.iter().chain([&path.to_str().unwrap()]) {
        assert!(text.contains(words), "no {words:?} in {text:?}");
    }
    text
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

/// The other half of [`run_child`].
#[test]
fn a_child_says_who_it_is() {
    if let Some(path) = std::env::var_os(CHILD) {
        if std::env::var_os(STAYS).is_some() {
            smol::block_on(async {
                let (node, mut events) = AviP2p::start(config(Path::new(&path))).await.unwrap();
                println!("\nanswer: {}", node.local_peer_id());
                while events.recv().await.is_some() {}
            });
        }
        println!("\nanswer: {}", start(Path::new(&path)).map_or_else(|error| error.to_string(), |id| id.to_string()));
    }
}

/// A process that starts a node with this file, as that user.
fn run_child(path: &Path, user: Option<u32>) -> std::io::Result<Child> {
    child(path, user).spawn()
}

fn child(path: &Path, user: Option<u32>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["a_child_says_who_it_is", "--exact", "--nocapture"]).env(CHILD, path);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.current_dir("/").stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn answer(child: Child) -> String {
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let line = output.lines().find_map(|line| line.strip_prefix("answer: "));
    line.unwrap_or_else(|| panic!("no answer in {output:?}")).to_owned()
}

#[test]
fn a_node_has_the_same_peer_id_at_every_start() {
    let folder = Folder::new("restart");
    let id = start(&folder.file()).unwrap();
    let kept = fs::read(folder.file()).unwrap();
    for _ in 0..3 {
        assert_eq!(start(&folder.file()).unwrap(), id);
    }
    assert_eq!(fs::read(folder.file()).unwrap(), kept, "the file stays as it is");
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(folder.names(), ["node.key"], "nothing else is left behind");

    let link = folder.0.join("link");
    symlink(folder.file(), &link).unwrap();
    assert_eq!(start(&link).unwrap(), id, "a link to the file will do");
    chmod(&folder.file(), 0o400);
    assert_eq!(start(&folder.file()).unwrap(), id, "it need not be writable");
    fs::remove_file(folder.file()).unwrap();
    assert_ne!(start(&folder.file()).unwrap(), id, "another file, another id");
}

#[test]
fn a_damaged_file_is_an_error_and_never_another_peer_id() {
    let folder = Folder::new("damaged");
    let id = start(&folder.file()).unwrap();
    let good = fs::read(folder.file()).unwrap();
    let hex: String = good.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = |bytes: &[u8]| {
        folder.keep(bytes);
        let text = refused(&folder.file(), &["damaged", "restore it", "remove it"]);
        assert!(!text.contains(&hex[8..24]), "the secret in {text:?}");
        assert_eq!(fs::read(folder.file()).unwrap(), bytes, "it is left as it is");
    };
    for bit in 0..8 * good.len() {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        shown(&bad);
    }
    (0..good.len()).for_each(|length| shown(&good[..length]));
    shown(&[&good[..], b"\n"].concat());
    shown(b"-----BEGIN OPENSSH PRIVATE KEY-----\n");
    shown(&[0xff; 68]);
    shown(&[0; 68]);
    shown(&vec![7; 16 * 1024 * 1024]);
    folder.keep(&good);
    assert_eq!(start(&folder.file()).unwrap(), id);
}

#[test]
fn a_huge_file_is_not_read() {
    let folder = Folder::new("huge");
    // A terabyte, of which nothing is stored.
    let file = fs::File::create(folder.file()).unwrap();
    chmod(&folder.file(), 0o600);
    if file.set_len(1 << 40).is_ok() {
        refused(&folder.file(), &["damaged", "1099511627776 bytes"]);
    }
}

#[test]
fn a_file_that_others_can_read_or_write_is_refused() {
    let folder = Folder::new("mode");
    let id = start(&folder.file()).unwrap();
    for mode in [0o640, 0o620, 0o604, 0o602, 0o601, 0o644, 0o777] {
        chmod(&folder.file(), mode);
        refused(&folder.file(), &[&format!("mode 0{mode:o}"), "chmod 600"]);
    }
    chmod(&folder.file(), 0o600);
    assert_eq!(start(&folder.file()).unwrap(), id);
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !is_root() {
        println!("not tested: only root can give a file away");
        return;
    }
    let folder = Folder::new("owner");
    start(&folder.file()).unwrap();
    chown(folder.file(), Some(SOMEBODY), None).unwrap();
    refused(&folder.file(), &["belongs to user 65534", "user 0", "chown 0"]);
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = Folder::new("kinds");
    refused(&folder.0, &["a directory"]);
    refused(Path::new("/dev/null"), &["no regular file"]);
    let pipe = folder.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused(&pipe, &["no regular file"]);
    let link = folder.0.join("link");
    symlink(folder.0.join("nothing"), &link).unwrap();
    refused(&link, &["symbolic link to nothing"]);
    assert_eq!(fs::read_link(&link).unwrap(), folder.0.join("nothing"));
    assert_eq!(folder.names().len(), 2, "{:?}", folder.names());

    let empty = smol::block_on(AviP2p::start(config(Path::new("")))).map(drop).unwrap_err();
    assert!(matches!(&empty, AviP2pError::InvalidConfig { field, .. } if field == "identity"), "{empty}");
}

#[test]
fn a_folder_that_is_missing_or_not_writable_is_named() {
    let folder = Folder::new("folder");
    let missing = folder.0.join("missing/node.key");
    refused(&missing, &["cannot be made", "No such file", "missing\" must be there"]);

    chmod(&folder.0, 0o555);
    let child = run_child(&folder.file(), is_root().then_some(SOMEBODY));
    match child {
        Ok(child) => {
            let text = answer(child);
            assert!(text.contains("Permission denied") && text.contains("writable for the node's user"), "{text}");
        }
        Err(error) => println!("not tested: another user cannot run this program: {error}"),
    }
    chmod(&folder.0, 0o755);
    assert_eq!(folder.names(), [""; 0]);
}

/// Checks what starts at once have given: all that succeeded have one key, and the others were told why.
fn assert_one_key(folder: &Folder, starts: Vec<Result<String, String>>) {
    let id = start(&folder.file()).unwrap().to_string();
    assert!(starts.iter().any(Result::is_ok), "{starts:?}");
    for start in starts {
        match start {
            Ok(other) => assert_eq!(other, id),
            Err(text) => assert!(text.contains("another node uses it"), "{text}"),
        }
    }
    assert_eq!(folder.names(), ["node.key"]);
}

#[test]
fn nodes_that_make_the_file_at_once_get_one_key() {
    const THREADS: usize = 8;
    for round in 0..10 {
        let folder = Folder::new(&format!("threads-{round}"));
        let barrier = Barrier::new(THREADS);
        let starts = std::thread::scope(|scope| {
            let begin = || {
                barrier.wait();
                start(&folder.file()).map(|id| id.to_string()).map_err(|error| error.to_string())
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_one_key(&folder, starts);
    }
}

#[test]
fn processes_that_make_the_file_at_once_get_one_key() {
    for round in 0..5 {
        let folder = Folder::new(&format!("processes-{round}"));
        let children: Vec<_> = (0..6).map(|_| run_child(&folder.file(), None).unwrap()).collect();
        let answers = children.into_iter().map(answer);
        let starts = answers.map(|text| if text.starts_with("12D3KooW") { Ok(text) } else { Err(text) }).collect();
        assert_one_key(&folder, starts);
    }
}

#[test]
fn a_second_node_with_the_file_is_refused_until_the_first_has_ended() {
    let folder = Folder::new("lock");
    let link = folder.0.join("link");
    smol::block_on(async {
        let (node, _events) = AviP2p::start(config(&folder.file())).await.unwrap();
        symlink(folder.file(), &link).unwrap();
        for path in [folder.file(), link] {
            refused(&path, &["another node uses it", "stop that node", "name another file"]);
        }
        let text = answer(run_child(&folder.file(), None).unwrap());
        assert!(text.contains("another node uses it") && text.contains("node.key"), "{text}");
        let id = node.local_peer_id().clone();
        // A handle that outlives the node holds no lock.
        let _handle = node.handle();
        node.shutdown().await.unwrap();
        assert_eq!(start(&folder.file()), Ok(id));
    });
}

#[test]
fn a_process_that_is_killed_leaves_no_lock() {
    let folder = Folder::new("killed");
    let id = start(&folder.file()).unwrap();
    let mut command = child(&folder.file(), None);
    let mut child = command.env(STAYS, "1").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == format!("answer: {id}")));
    refused(&folder.file(), &["another node uses it"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(start(&folder.file()), Ok(id));
}
