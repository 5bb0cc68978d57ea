//! How is the node of a command set up? A file, and what the command line says instead.

use std::io::Read;
use std::path::Path;

use avi_p2p::{Address, AviP2pConfig, AviP2pError, ContextOptions, Identity};
use toml::de::{DeTable, DeValue};

use crate::args::Global;
use crate::exit::Failure;

/// Longer files are no configurations.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
const NAME: &str = "avi-cli";

/// The configuration that the options ask for.
pub(crate) fn read(global: &Global) -> Result<AviP2pConfig, Failure> {
    let mut config = match &global.config {
        Some(path) => parse(path, &text_of(path)?)?,
        None => AviP2pConfig::new(NAME),
    };
    if let Some(name) = &global.name {
        config.node_name.clone_from(name);
    }
    if let Some(listen) = global.listen {
        config.listen_ips = listen.ip.map_or(config.listen_ips, |ip| vec![ip]);
        config.listen_port = listen.port.unwrap_or(config.listen_port);
    }
    if let Some(path) = &global.identity {
        config.identity = Identity::File(path.clone());
    }
    if let Some(path) = &global.network_key {
        let key = text_of(path)?.parse().map_err(|error: AviP2pError| Failure::file(path, error))?;
        config.network_key = Some(key);
    }
    if global.no_mdns {
        config.enable_mdns = false;
    }
    for text in &global.connect {
        connect(&mut config, text)?;
    }
    // The file was valid by itself.
    config.validate().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(config)
}

/// The same for a node that takes no part in the shared context, and is not recorded: the files may be those of a node that
/// runs.
pub(crate) fn plain(global: &Global) -> Result<AviP2pConfig, Failure> {
    Ok(AviP2pConfig { context: None, recorder: None, ..read(global)? })
}

/// The same for a node in a call, which is recorded if the configuration says so.
pub(crate) fn in_call(global: &Global) -> Result<AviP2pConfig, Failure> {
    Ok(AviP2pConfig { context: None, ..read(global)? })
}

/// The same for a node that takes part in the shared context, with the file's options if it has some.
pub(crate) fn in_context(global: &Global) -> Result<AviP2pConfig, Failure> {
    let mut config = read(global)?;
    config.context.get_or_insert_with(ContextOptions::default);
    Ok(AviP2pConfig { recorder: None, ..config })
}

/// Adds a node to connect to, once.
pub(crate) fn connect(config: &mut AviP2pConfig, text: &str) -> Result<Address, Failure> {
    let address: Address = text.parse().map_err(|error: AviP2pError| Failure::Usage(error.to_string()))?;
    if !config.bootstrap_peers.iter().any(|peer| peer == text) {
        config.bootstrap_peers.push(text.to_owned());
    }
    Ok(address)
}

/// The text of a file of bounded size.
pub(crate) fn text_of(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| Failure::file(path, error))?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| Failure::file(path, error))?;
    match text.len() as u64 > MAX_FILE_BYTES {
        true => Err(Failure::file(path, format!("longer than {MAX_FILE_BYTES} bytes"))),
        false => Ok(text),
    }
}

/// The configuration in the text of a file; an error is `kitchen.toml:7: …`, with what was expected.
fn parse(path: &Path, text: &str) -> Result<AviP2pConfig, Failure> {
    let shown = path.display();
    let config: AviP2pConfig = toml::from_str(text).map_err(|error| {
        // Not all of the error's own text: it shows the line, which may have a secret.
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        Failure::Config(format!("{shown}:{line}: {}", error.message()))
    })?;
    match config.validate() {
        Ok(()) => Ok(config),
        Err(error) => match &error {
            AviP2pError::InvalidConfig { field, .. } => {
                Err(Failure::Config(format!("{shown}:{}: {error}", line_of(text, field))))
            }
            _ => Err(Failure::Config(format!("{shown}: {error}"))),
        },
    }
}

/// The line of a field, named as `limits.max_topics` or `bootstrap_peers[1]`, or of the part of the name that is there.
fn line_of(text: &str, field: &str) -> usize {
    let Ok(table) = DeTable::parse(text) else { return 1 };
    let mut line = 1;
    let mut value = DeValue::Table(table.into_inner());
    for part in field.split(['.', '[']) {
        let next = match &value {
            DeValue::Table(table) => table.get(part),
            DeValue::Array(array) => part.trim_end_matches(']').parse().ok().and_then(|index: usize| array.get(index)),
            _ => None,
        };
        let Some(next) = next.cloned() else { break };
        line = line_at(text, next.span().start);
        value = next.into_inner();
    }
    line
}

fn line_at(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(text: &str) -> String {
        let failure = parse(Path::new("kitchen.toml"), text).unwrap_err();
        assert_eq!(failure.code(), 3);
        failure.to_string()
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_with_its_line_and_what_was_expected() {
        let text = wrong("node_name = \"a\"\n\nlisten_prot = 9000\n");
        assert!(text.starts_with("kitchen.toml:3: ") && text.contains("listen_port"), "{text}");
        let text = wrong("listen_port = \"x\"");
        assert!(text.starts_with("kitchen.toml:1: ") && text.contains("expected u16"), "{text}");
        let text = wrong("node_name = \"a\"\n[limits]\n# a comment\nmax_topics = 0");
        assert!(text.starts_with("kitchen.toml:4: ") && text.contains("1 to 10000"), "{text}");
        let text = wrong("bootstrap_peers = [\n\"/ip4/192.0.2.1/tcp/1\",\n\"/ip4/192.0.2.1/udp/1\"]");
        assert!(text.starts_with("kitchen.toml:3: ") && text.contains("/tcp/<port>"), "{text}");
        assert!(wrong("a = [").starts_with("kitchen.toml:1: "));
    }

    #[test]
    fn no_secret_is_shown() {
        let text = wrong(&format!("network_key = \"{}\"", "0a".repeat(31)));
        assert!(!text.contains("0a0a"), "{text}");
    }
}
