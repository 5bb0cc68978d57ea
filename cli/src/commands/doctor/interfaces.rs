//! Which network interfaces are there, and can a node use them?

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::{note, ok, problem};
use crate::line::Finding;

// Of linux/if.h.
const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;
const POINT_TO_POINT: u32 = 0x10;
const MULTICAST: u32 = 0x1000;

/// A network interface.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// As in linux/if.h; `None` where the system does not tell.
    flags: Option<u32>,
}

impl Interface {
    fn has(&self, flag: u32, otherwise: bool) -> bool {
        self.flags.map_or(otherwise, |flags| flags & flag != 0)
    }

    pub(super) fn is_up(&self) -> bool {
        self.has(UP, true)
    }

    fn is_loopback(&self) -> bool {
        self.has(LOOPBACK, self.addresses.iter().any(IpAddr::is_loopback))
    }

    pub(super) fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    /// Whether mDNS would use it.
    pub(super) fn can_multicast(&self) -> bool {
        self.is_up() && !self.is_loopback() && self.has(MULTICAST, true) && self.ipv4().is_some()
    }
}

/// All interfaces, by name.
pub(super) fn list() -> io::Result<Vec<Interface>> {
    let mut by_name: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    // Those without an address are only there.
    for entry in std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        by_name.entry(entry.file_name().to_string_lossy().into_owned()).or_default();
    }
    for interface in if_addrs::get_if_addrs()? {
        by_name.entry(interface.name.clone()).or_default().push(interface.ip());
    }
    let known = by_name.into_iter().map(|(name, addresses)| Interface { flags: flags(&name), name, addresses });
    Ok(known.collect())
}

fn flags(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("flags")).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// What is said of the interfaces that the configuration allows.
pub(super) fn look(used: &[Interface], unused: &[Interface], is_mdns: bool) -> Vec<Finding> {
    let mut findings: Vec<_> = used.iter().map(|interface| one(interface, is_mdns)).collect();
    if !unused.is_empty() {
        let names: Vec<_> = unused.iter().map(|interface| interface.name.as_str()).collect();
        findings.push(ok("interfaces", format!("not used, as the configuration says: {}", names.join(", "))));
    }
    let reaches =
        |interface: &&Interface| interface.is_up() && !interface.is_loopback() && !interface.addresses.is_empty();
    if !used.iter().any(|interface| reaches(&interface)) {
        let advice = "connect a cable or Wi-Fi, or look at `interfaces` in the configuration";
        findings.push(problem("interfaces", "none but loopback is up and has an address", advice));
    }
    findings
}

fn one(interface: &Interface, is_mdns: bool) -> Finding {
    let name = &interface.name;
    let addresses: Vec<_> = interface.addresses.iter().map(IpAddr::to_string).collect();
    let addresses = addresses.join(" ");
    if !interface.is_up() {
        return ok("interfaces", format!("{name} is down"));
    }
    if addresses.is_empty() {
        return ok("interfaces", format!("{name} is up, without an address"));
    }
    if interface.is_loopback() {
        return ok("interfaces", format!("{name} ({addresses}): this machine alone"));
    }
    if interface.has(MULTICAST, true) {
        return ok("interfaces", format!("{name} ({addresses}): up, multicast"));
    }
    let what = format!("{name} ({addresses}): up, without multicast");
    let advice = "name other nodes in bootstrap_peers: mDNS finds nobody there";
    match (is_mdns, interface.has(POINT_TO_POINT, false)) {
        (false, _) => ok("interfaces", what),
        (true, true) => note("interfaces", what, advice),
        (true, false) => {
            problem("interfaces", what, &format!("`ip link set {name} multicast on`, or name nodes in bootstrap_peers"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Level;

    fn interface(flags: u32, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Interface { name: "eth0".to_owned(), addresses, flags: Some(flags) }
    }

    #[test]
    fn an_interface_without_multicast_is_a_problem_for_mdns_alone() {
        let lan = interface(UP, &["192.0.2.1"]);
        assert_eq!(one(&lan, true).level, Level::Problem);
        assert_eq!(one(&lan, false).level, Level::Ok);
        assert_eq!(one(&interface(UP | POINT_TO_POINT, &["192.0.2.1"]), true).level, Level::Note);
        assert_eq!(one(&interface(UP | MULTICAST, &["192.0.2.1"]), true).level, Level::Ok);
        assert!(!lan.can_multicast() && interface(UP | MULTICAST, &["192.0.2.1"]).can_multicast());
    }

    #[test]
    fn loopback_alone_is_no_network() {
        let lo = interface(UP | LOOPBACK, &["127.0.0.1"]);
        let last = |used: &[Interface]| look(used, &[], true).pop().unwrap().level;
        assert_eq!(last(std::slice::from_ref(&lo)), Level::Problem);
        assert_eq!(last(&[lo.clone(), interface(MULTICAST, &["192.0.2.1"])]), Level::Problem, "it is down");
        assert_eq!(last(&[lo, interface(UP | MULTICAST, &["192.0.2.1"])]), Level::Ok);
    }
}
