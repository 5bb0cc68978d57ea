//! Where can a node be reached? The text of an address, and what is wrong with it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::error::AviP2pError;
use crate::id::PeerId;

/// The longest text of an address, in bytes. The longest host name and peer id fit in.
const MAX_BYTES: usize = 512;
/// The longest host name, and the longest part of it between dots (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;
/// How many characters of a part an error shows.
const MAX_SHOWN_CHARS: usize = 64;
const EXAMPLE: &str = "as in /ip4/198.51.100.1/tcp/9000";

/// Where a node can be reached: a host, a TCP port, and the id of the peer that must answer there, if it is given.
///
/// As text it is `/ip4/198.51.100.1/tcp/9000`, `/ip6/2001:db8::1/tcp/9000` or `/dns4/hub.example.org/tcp/9000`, with or
/// without `/p2p/<peer id>`. `/dns6` takes the IPv6 addresses of a name, `/dns` those of both kinds. `/ipfs/<peer id>` is
/// the older form of `/p2p/<peer id>`.
///
/// ```
/// # use avi_p2p_proto::address as avi_p2p;
/// use avi_p2p::Address;
/// let address: Address = "/dns4/hub.local/tcp/9000".parse()?;
/// assert_eq!((address.port(), address.peer_id()), (9000, None));
/// let error = "/ip4/198.51.100.1/tcp/99999".parse::<Address>().unwrap_err();
/// assert!(error.to_string().contains("expected a port of 1 to 65535, not \"99999\""));
/// # Ok::<(), avi_p2p_proto::error::AviP2pError>(())
/// ```
#[derive(Clone, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    host: Host,
    port: u16,
    peer_id: Option<PeerId>,
}

/// The host of an [`Address`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A name, for its IPv4 and IPv6 addresses.
    Dns(String),
    /// A name, for its IPv4 addresses.
    Dns4(String),
    /// A name, for its IPv6 addresses.
    Dns6(String),
}

impl Address {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The peer that must answer.
    pub fn peer_id(&self) -> Option<&PeerId> {
        self.peer_id.as_ref()
    }

    /// The same host and port, whoever answers.
    pub fn without_peer_id(&self) -> Self {
        Self { peer_id: None, ..self.clone() }
    }

    /// Parses the text; the error says what was expected where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|expected| format!("{expected}, {EXAMPLE}"))
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("at most {MAX_BYTES} bytes"));
        }
        let mut parts = text.strip_prefix('/').ok_or_else(|| "a `/` first".to_owned())?.split('/');
        let host = Host::parse(parts.next().unwrap_or_default(), parts.next())?;
        match parts.next() {
            Some("tcp") => {}
            other => return Err(format!("/tcp/<port> after the host, not {}", shown(other))),
        }
        let port = parts.next();
        let digits = port.filter(|port| port.bytes().all(|digit| digit.is_ascii_digit()));
        let port = match digits.and_then(|digits| digits.parse().ok()) {
            None | Some(0) => return Err(format!("a port of 1 to 65535, not {}", shown(port))),
            Some(port) => port,
        };
        let peer_id = match parts.next() {
            None => None,
            Some("p2p" | "ipfs") => {
                let id = parts.next();
                let parsed = id.and_then(|id| id.parse().ok());
                Some(parsed.ok_or_else(|| format!("a peer id, as 12D3KooW…, not {}", shown(id)))?)
            }
            other => return Err(format!("/p2p/<peer id> or nothing after the port, not {}", shown(other))),
        };
        match parts.next() {
            None => Ok(Self { host, port, peer_id }),
            other => Err(format!("nothing after the peer id, not {}", shown(other))),
        }
    }
}

impl Host {
    fn parse(protocol: &str, host: Option<&str>) -> Result<Self, String> {
        let text = host.unwrap_or_default();
        let name = || match is_name(text) {
            true => Ok(text.to_owned()),
            false => Err(format!("a host name of letters, digits, `-`, `_` and `.`, not {}", shown(host))),
        };
        match protocol {
            "ip4" => match text.parse() {
                Ok(ip) => Self::of_machine(IpAddr::V4(ip)),
                Err(_) => Err(format!("an IPv4 address after /ip4, not {}", shown(host))),
            },
            "ip6" => match text.parse() {
                Ok(ip) => Self::of_machine(IpAddr::V6(ip)),
                Err(_) => Err(format!("an IPv6 address after /ip6, not {}", shown(host))),
            },
            "dns" => name().map(Self::Dns),
            "dns4" => name().map(Self::Dns4),
            "dns6" => name().map(Self::Dns6),
            "dnsaddr" => {
                Err("/dns, /dns4 or /dns6 with the name of a host: the lists of /dnsaddr are not read".to_owned())
            }
            other => Err(format!("/ip4, /ip6, /dns, /dns4 or /dns6 first, not {}", shown(Some(other)))),
        }
    }

    fn of_machine(ip: IpAddr) -> Result<Self, String> {
        match ip.is_unspecified() || ip.is_multicast() {
            true => Err(format!("the IP address of one machine, not {ip}")),
            false => Ok(Self::Ip(ip)),
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A dot at the end keeps the system from trying its search domains.
    text.len() <= MAX_NAME_BYTES && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

/// A part of an address, for an error.
fn shown(part: Option<&str>) -> String {
    match part {
        None => "the end".to_owned(),
        Some(part) => format!("{:?}", part.chars().take(MAX_SHOWN_CHARS).collect::<String>()),
    }
}

impl FromStr for Address {
    type Err = AviP2pError;

    /// # Errors
    /// [`AviP2pError::InvalidAddress`], which names the wrong part.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).map_err(|expected| AviP2pError::InvalidAddress {
            address: text.chars().take(2 * MAX_SHOWN_CHARS).collect(),
            expected,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "/ip4/{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "/ip6/{ip}")?,
            Host::Dns(name) => write!(f, "/dns/{name}")?,
            Host::Dns4(name) => write!(f, "/dns4/{name}")?,
            Host::Dns6(name) => write!(f, "/dns6/{name}")?,
        }
        write!(f, "/tcp/{}", self.port)?;
        match &self.peer_id {
            Some(peer) => write!(f, "/p2p/{peer}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";

    #[test]
    fn an_address_reads_back_as_it_is_written() {
        let name = format!("{}.example.org.", "x".repeat(63));
        for text in [
            "/ip4/192.0.2.1/tcp/9000".to_owned(),
            "/ip6/2001:db8::1/tcp/1".to_owned(),
            "/ip6/fe80::1/tcp/65535".to_owned(),
            "/dns/hub_1.local/tcp/9000".to_owned(),
            format!("/dns4/{name}/tcp/9000/p2p/{PEER}"),
            "/dns6/xn--bcher-kva.example/tcp/9000".to_owned(),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string(), format!("{address:?}")), (text.clone(), text));
        }
        let old: Address = format!("/ip4/192.0.2.1/tcp/9000/ipfs/{PEER}").parse().unwrap();
        assert_eq!(old.peer_id().map(PeerId::as_str), Some(PEER));
        assert_eq!(old.to_string(), format!("/ip4/192.0.2.1/tcp/9000/p2p/{PEER}"));
        assert_eq!(old.without_peer_id().to_string(), "/ip4/192.0.2.1/tcp/9000");
    }

    #[test]
    fn an_error_names_the_part_that_is_wrong() {
        for (text, expected) in [
            ("", "a `/` first"),
            ("192.0.2.1:9000", "a `/` first"),
            ("/", "/ip4, /ip6, /dns, /dns4 or /dns6 first, not \"\""),
            ("/tcp/9000", "/ip4, /ip6, /dns, /dns4 or /dns6 first, not \"tcp\""),
            ("/192.0.2.1/tcp/9000", "/ip4, /ip6, /dns, /dns4 or /dns6 first, not \"192.0.2.1\""),
            (
                "/dnsaddr/example.org",
                "/dns, /dns4 or /dns6 with the name of a host: the lists of /dnsaddr are not read",
            ),
            ("/ip4", "an IPv4 address after /ip4, not the end"),
            ("/ip4/300.0.2.1/tcp/1", "an IPv4 address after /ip4, not \"300.0.2.1\""),
            ("/ip4/::1/tcp/1", "an IPv4 address after /ip4, not \"::1\""),
            ("/ip6/192.0.2.1/tcp/1", "an IPv6 address after /ip6, not \"192.0.2.1\""),
            ("/ip4/0.0.0.0/tcp/1", "the IP address of one machine, not 0.0.0.0"),
            ("/ip6/ff02::fb/tcp/1", "the IP address of one machine, not ff02::fb"),
            ("/dns4//tcp/1", "a host name of letters, digits, `-`, `_` and `.`, not \"\""),
            ("/dns/a..b/tcp/1", "a host name of letters, digits, `-`, `_` and `.`, not \"a..b\""),
            ("/dns/bücher/tcp/1", "a host name of letters, digits, `-`, `_` and `.`, not \"bücher\""),
            ("/ip4/192.0.2.1", "/tcp/<port> after the host, not the end"),
            ("/ip4/192.0.2.1/udp/9000", "/tcp/<port> after the host, not \"udp\""),
            ("/ip4/192.0.2.1/tcp", "a port of 1 to 65535, not the end"),
            ("/ip4/192.0.2.1/tcp/99999", "a port of 1 to 65535, not \"99999\""),
            ("/ip4/192.0.2.1/tcp/+1", "a port of 1 to 65535, not \"+1\""),
            ("/ip4/192.0.2.1/tcp/0", "a port of 1 to 65535, not \"0\""),
            ("/ip4/192.0.2.1/tcp/1/", "/p2p/<peer id> or nothing after the port, not \"\""),
            ("/ip4/192.0.2.1/tcp/1/ws", "/p2p/<peer id> or nothing after the port, not \"ws\""),
            ("/ip4/192.0.2.1/tcp/1/p2p", "a peer id, as 12D3KooW…, not the end"),
            ("/ip4/192.0.2.1/tcp/1/p2p/12D3KooWtypo", "a peer id, as 12D3KooW…, not \"12D3KooWtypo\""),
            (&format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit"), "nothing after the peer id, not \"p2p-circuit\""),
            (&"/ip4".repeat(200), "at most 512 bytes"),
        ] {
            let expected = format!("{expected}, as in /ip4/198.51.100.1/tcp/9000");
            assert_eq!(Address::parse(text), Err(expected.clone()), "{text}");
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.ends_with(&expected) && error.len() < 1024, "{error}");
        }
    }

    /// Any text, and parts of addresses in any order.
    fn any_address() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("ip4/192.0.2.1".to_owned()),
            Just("ip6/::1".to_owned()),
            "dns[46]?/[a-z.-]{1,8}",
            Just(format!("p2p/{PEER}")),
            any::<u32>().prop_map(|port| format!("tcp/{port}")),
            "[a-z0-9]{1,8}",
            "\\PC{0,8}",
        ];
        let joined = vec(part, 0..6).prop_map(|parts| parts.iter().map(|part| format!("/{part}")).collect());
        prop_oneof![".*", joined, (0..3000usize).prop_map(|len| "/ip4".repeat(len))]
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_a_short_error(text in any_address()) {
            match text.parse::<Address>() {
                Ok(address) => prop_assert_eq!(address.to_string().parse(), Ok(address)),
                Err(error) => prop_assert!(error.to_string().len() < 2000, "{}", error),
            }
        }
    }
}
