//! Does any libp2p type show in the public API? Asked of rustdoc's own JSON, which knows what the compiler knows.
//!
//! `tests/fixtures/leaky` leaks in every way we know of, and so tests the check itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Default features, then with the seams open to simulators, then with metrics: none may show libp2p.
#[test]
fn no_libp2p_type_is_reachable_from_the_public_api() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // What the library re-exports of it is described there alone.
    let core = rustdoc::json(root, "avi-p2p-proto", "");
    for features in ["", "unstable", "metrics"] {
        let api = leakage::inspect(&[rustdoc::json(root, "avi-p2p", features), core.clone()]);

        let mut known = vec![
            "AviEvent::PeerConnected::peer_id",
            "AviP2p::start",
            "AviP2pConfig",
            "AviP2pError",
            "AviP2pHandle::publish",
            "EventReceiver::recv",
            "PeerId::from_str",
            "PeerId::new",
        ];
        if features == "unstable" {
            known.extend(["AviP2p::start_on", "Engine::handle", "Platform::now", "Transport::connect"]);
        }
        for known in known {
            let is_known = |item: &String| item.starts_with("avi_p2p::") && item.ends_with(&format!("::{known}"));
            let is_seen = api.items.iter().any(is_known);
            assert!(is_seen, "the check did not see {known}, so it proves nothing: {:#?}", api.items);
        }
        assert!(api.items.len() >= 20, "the check saw only {} public items: {:#?}", api.items.len(), api.items);

        assert!(api.leaks.is_empty(), "with features [{features}], the public API leaks:\n{}", api.report());
    }
}

#[test]
fn the_check_fails_when_a_libp2p_type_leaks() {
    let api = leakage::inspect(&[fixture("leaky"), fixture("part")]);
    let reported: BTreeSet<&str> = api.leaks.iter().flat_map(|(item, _)| item.split("::").skip(1)).collect();

    // Names come from the source, since an item that the check overlooks is in none of its answers.
    let source = ["leaky", "part"].map(|krate| {
        let path = fixtures().join(krate).join("src/lib.rs");
        std::fs::read_to_string(path).expect("a fixture has a source")
    });
    let source = source.concat();
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let leaks: BTreeSet<&str> = names.filter(|name| name.to_lowercase().starts_with("leak")).collect();
    assert!(leaks.len() >= 40, "found only {} leaks in the fixture: {leaks:#?}", leaks.len());

    let missed: Vec<_> = leaks.difference(&reported).collect();
    assert!(missed.is_empty(), "the check overlooks {missed:#?}; it reports\n{}", api.report());

    let is_fine = |name: &str| name.to_lowercase().starts_with("fine");
    let is_wrong = |item: &str| item.split("::").any(is_fine) || !item.split("::").any(|name| leaks.contains(name));
    let wrong: Vec<_> = api.leaks.iter().filter(|(item, _)| is_wrong(item)).collect();
    assert!(wrong.is_empty(), "the check wrongly reports {wrong:#?}");
}

#[test]
fn the_check_fails_when_a_crate_is_re_exported_that_it_was_not_given() {
    let api = leakage::inspect(&[fixture("leaky")]);
    for name in ["OfAnotherCrate", "LeakByFieldOfAnotherCrate", "part_module", "part_glob::*"] {
        let is_reported = |(item, what): &(String, String)| *item == format!("leaky::{name}") && what.contains("part");
        assert!(api.leaks.iter().any(is_reported), "{name} is overlooked:\n{}", api.report());
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// What rustdoc says about `leaky`, or about a crate that it is built from.
fn fixture(package: &str) -> serde_json::Value {
    rustdoc::json(&fixtures().join("leaky"), package, "")
}

/// Has rustdoc describe a crate's public API.
mod rustdoc {
    use std::path::Path;
    use std::process::Command;
    use std::sync::{Mutex, PoisonError};

    /// Runs rustdoc on a package of the workspace at `root` and returns its JSON.
    ///
    /// Tests run at a time, and one's JSON must not pass for another's: hence the lock. The target directory is our own: `RUSTC_BOOTSTRAP` makes build scripts run again, and in the shared directory
    /// every later build would have to undo that. It also keeps us from waiting for another cargo's lock.
    pub fn json(root: &Path, package: &str, features: &str) -> serde_json::Value {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

        let workspace = root.file_name().expect("a workspace has a name");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zero_leakage").join(workspace);
        let json = target.join("doc").join(package.replace('-', "_")).with_extension("json");
        // What an earlier run left must not pass for this run's answer.
        let _ = std::fs::remove_file(&json);

        let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
        let output = Command::new(cargo)
            .current_dir(root)
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("CARGO_BUILD_TARGET")
            .env_remove("RUSTDOCFLAGS")
            .args(["rustdoc", "--lib", "--offline", "--locked", "--package", package, "--features", features])
            .arg("--target-dir")
            .arg(&target)
            .args(["--", "-Z", "unstable-options", "--output-format", "json"])
            .args(["--document-hidden-items", "--cap-lints", "allow"])
            .output()
            .expect("cargo can be started");
        assert!(output.status.success(), "rustdoc failed on {package}:\n{}", String::from_utf8_lossy(&output.stderr));

        let text = std::fs::read(&json).unwrap_or_else(|e| panic!("rustdoc wrote no {}: {e}", json.display()));
        serde_json::from_slice(&text).expect("rustdoc writes valid JSON")
    }
}

/// Finds libp2p types in what rustdoc says about a public API.
///
/// Walks from the first crate's root through everything a user can name, into the other crates where the first one
/// re-exports their items, and looks up whatever those items refer to. Of the JSON it knows few field names, and a missing one is a panic: a check that understands nothing finds nothing.
mod leakage {
    use super::BTreeSet;
    use serde_json::Value;

    /// Crates that belong to libp2p's type family without carrying its name.
    const FAMILY: [&str; 6] =
        ["multiaddr", "multihash", "yamux", "multistream_select", "quick_protobuf", "asynchronous_codec"];

    /// What a user of the crate can see.
    #[derive(Default)]
    pub struct Api {
        /// The public path of every item.
        pub items: BTreeSet<String>,
        /// An item's public path, and the libp2p (or uncheckable) item it mentions.
        pub leaks: BTreeSet<(String, String)>,
    }

    impl Api {
        pub fn report(&self) -> String {
            self.leaks.iter().map(|(item, leak)| format!("  {item} mentions {leak}\n")).collect()
        }
    }

    /// The API of the first crate. The others are those whose items it may re-export.
    pub fn inspect(docs: &[Value]) -> Api {
        let mut walk = Walk { docs, seen: BTreeSet::new(), mentions: Vec::new(), api: Api::default() };
        walk.item(Id { krate: 0, id: field(&docs[0], "root") }, "", None);
        walk.judge();
        walk.api
    }

    /// An id, and the crate whose JSON has it.
    #[derive(Clone, Copy)]
    struct Id<'a> {
        krate: usize,
        id: &'a Value,
    }

    /// An item of one of the crates, where its own crate describes it.
    struct Own<'a> {
        krate: usize,
        key: String,
        item: &'a Value,
    }

    struct Walk<'a> {
        docs: &'a [Value],
        seen: BTreeSet<(usize, String)>,
        /// An item's path, and the id of another item that it refers to.
        mentions: Vec<(String, Id<'a>)>,
        api: Api,
    }

    impl<'a> Walk<'a> {
        /// Visits an item under the path it is first reached by, then everything it contains.
        fn item(&mut self, id: Id<'a>, parent: &str, alias: Option<&str>) {
            let Some(Own { krate, key, item }) = self.own(id) else { return };
            let (kind, inner) = inner(item);
            if is_generated(kind, inner) || !self.seen.insert((krate, key)) {
                return;
            }
            match kind {
                "impl" => return self.signature(krate, inner, &impl_path(inner, parent), parent),
                "use" => return self.reexport(krate, inner, parent),
                _ => {}
            }
            let path = join(parent, alias.unwrap_or_else(|| text(field(item, "name"))));
            if kind == "extern_crate" {
                self.leak(&path, "a whole crate");
            }
            self.signature(krate, inner, &path, &path);
            self.api.items.insert(path);
        }

        fn reexport(&mut self, krate: usize, inner: &'a Value, parent: &str) {
            let id = field(inner, "id");
            // A re-exported primitive has no id.
            if id.is_null() {
                return;
            }
            let target = Id { krate, id };
            let name = text(field(inner, "name"));
            let (own, alias) = if field(inner, "is_glob") == true { ("*", "") } else { (name, name) };
            let path = join(parent, own);
            if self.own(target).is_none() {
                match self.krate_of(target) {
                    Some("std" | "core" | "alloc") => {}
                    krate => self.leak(&path, &format!("an item of {}, which was not looked at", krate.unwrap_or("?"))),
                }
            }
            self.mentions.push((path, target));
            self.item(target, parent, Some(alias));
        }

        /// Notes what the item at `path` mentions anywhere in its description, and visits what it contains: there,
        /// ids stand in lists, while a mention is an object with an `id`.
        fn signature(&mut self, krate: usize, part: &'a Value, path: &str, scope: &str) {
            match part {
                Value::Array(parts) => {
                    for part in parts {
                        if part.is_number() {
                            self.item(Id { krate, id: part }, scope, None);
                        } else {
                            self.signature(krate, part, path, scope);
                        }
                    }
                }
                Value::Object(fields) => {
                    if let Some(id) = fields.get("id") {
                        self.mentions.push((path.to_owned(), Id { krate, id }));
                    }
                    fields.values().for_each(|part| self.signature(krate, part, path, scope));
                }
                _ => {}
            }
        }

        /// Judges every mention, now that all that has a public path is known.
        fn judge(&mut self) {
            while let Some((path, id)) = self.mentions.pop() {
                match self.own(id) {
                    Some(Own { krate, key, .. }) if self.seen.contains(&(krate, key.clone())) => {}
                    Some(own) => self.unnameable(id, own, &path),
                    None => self.foreign(id, &path),
                }
            }
        }

        /// Judges an item that has no public path, and whose impls rustdoc therefore leaves out.
        fn unnameable(&mut self, id: Id<'a>, Own { krate, item, .. }: Own<'a>, path: &str) {
            let (kind, inner) = inner(item);
            let items = |inner| field(inner, "items").as_array().unwrap_or_else(|| changed("list", inner));
            let is_type = |id| self.own(Id { krate, id }).is_some_and(|own| self::inner(own.item).0 == "assoc_type");
            if kind != "trait" || items(inner).iter().any(is_type) {
                let name = text(field(item, "name"));
                self.leak(
                    path,
                    &format!("{kind} {name}, which has no public path, so that its impls cannot be checked"),
                );
            }
            // A method of a sealed trait is as public as the trait that requires it.
            self.item(id, path, None);
        }

        fn foreign(&mut self, id: Id<'a>, path: &str) {
            let (Some(target), Some(krate)) = (self.target(id), self.krate_of(id)) else {
                return self.leak(path, &format!("item {}, which rustdoc does not describe", id.id));
            };
            let is_ours = self.docs.iter().any(|doc| crate_name(doc) == krate);
            if is_ours || krate.starts_with("libp2p") || FAMILY.contains(&krate) {
                let names = field(target, "path").as_array().into_iter().flatten();
                self.leak(path, &names.map(text).collect::<Vec<_>>().join("::"));
            }
        }

        fn leak(&mut self, path: &str, what: &str) {
            self.api.leaks.insert((path.to_owned(), what.to_owned()));
        }

        /// The item, if it is of one of the crates and that crate describes it.
        fn own(&self, id: Id<'a>) -> Option<Own<'a>> {
            let local = |krate: usize, key: String| {
                let item = field(&self.docs[krate], "index").get(&key)?;
                (field(item, "crate_id") == 0).then_some(Own { krate, key, item })
            };
            local(id.krate, key(id.id)).or_else(|| {
                let target = self.target(id)?;
                let name = self.krate_of(id)?;
                let krate = self.docs.iter().position(|doc| crate_name(doc) == name)?;
                let mut paths = field(&self.docs[krate], "paths").as_object()?.iter();
                let same = |path: &Value| ["path", "kind"].iter().all(|name| field(path, name) == field(target, name));
                let (key, _) = paths.find(|(_, path)| field(path, "crate_id") == 0 && same(path))?;
                local(krate, key.clone())
            })
        }

        /// What the JSON of a crate says about an item, which may be of another one: its path, kind and crate.
        fn target(&self, id: Id<'a>) -> Option<&'a Value> {
            field(&self.docs[id.krate], "paths").get(key(id.id))
        }

        /// The name of the crate that an item is of.
        fn krate_of(&self, id: Id<'a>) -> Option<&'a str> {
            let number = field(self.target(id)?, "crate_id");
            let doc = &self.docs[id.krate];
            if number == 0 {
                return Some(crate_name(doc));
            }
            Some(text(field(field(field(doc, "external_crates"), &key(number)), "name")))
        }
    }

    fn crate_name(doc: &Value) -> &str {
        text(field(field(field(doc, "index"), &key(field(doc, "root"))), "name"))
    }

    /// An item's kind and what there is to say about that kind.
    fn inner(item: &Value) -> (&str, &Value) {
        let kinds = field(item, "inner").as_object().filter(|kinds| kinds.len() == 1);
        let (kind, inner) = kinds.and_then(|kinds| kinds.iter().next()).unwrap_or_else(|| changed("one kind", item));
        (kind, inner)
    }

    /// Whether this is an impl that the compiler made up (as of `Send`), or applies from a blanket impl (as `Into`).
    /// What `derive` wrote is code like any other.
    fn is_generated(kind: &str, inner: &Value) -> bool {
        kind == "impl" && (field(inner, "is_synthetic") == true || !field(inner, "blanket_impl").is_null())
    }

    /// `krate::Type::impl From` for a trait's impl; what is in it, users call as `krate::Type::from`.
    fn impl_path(inner: &Value, parent: &str) -> String {
        match field(inner, "trait") {
            Value::Null => parent.to_owned(),
            of => join(parent, &format!("impl {}", text(field(of, "path")))),
        }
    }

    fn join(parent: &str, name: &str) -> String {
        if parent.is_empty() || name.is_empty() { format!("{parent}{name}") } else { format!("{parent}::{name}") }
    }

    fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
        value.get(name).unwrap_or_else(|| changed(&format!("field `{name}`"), value))
    }

    /// An id as the JSON's maps have it.
    fn key(id: &Value) -> String {
        id.as_u64().unwrap_or_else(|| changed("numeric id", id)).to_string()
    }

    fn text(value: &Value) -> &str {
        value.as_str().unwrap_or_else(|| changed("string", value))
    }

    fn changed(expected: &str, found: &Value) -> ! {
        panic!("rustdoc's JSON changed, adapt this test: expected a {expected}, found {:.300}", found.to_string())
    }
}
