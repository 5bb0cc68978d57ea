//! Which peer does a text on the command line mean?

use std::time::{Duration, Instant};

use avi_p2p::{Address, Host, PeerId, PeerInfo};

use crate::exit::Failure;
use crate::session::Session;

/// Once somebody fits, others who fit have so long to appear.
const SETTLE: Duration = Duration::from_millis(700);
/// Changes of names and addresses without an event are looked for so often.
const LOOK: Duration = Duration::from_millis(100);
/// A part of an id has at least so many characters.
const MIN_PART_CHARS: usize = 4;
/// An error lists so many candidates.
const MAX_CANDIDATES: usize = 10;

/// What the text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A whole id.
    Id(PeerId),
    /// Where the peer is.
    At(Address),
    /// A name, or the beginning or end of an id.
    Part(String),
}

impl Who {
    /// # Errors
    /// A usage error for an address that is none, or that tells nobody.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with('/') {
            let address: Address =
                text.parse().map_err(|error: avi_p2p::AviP2pError| Failure::Usage(error.to_string()))?;
            return match (address.peer_id(), address.host()) {
                (Some(peer), _) => Ok(Self::Id(peer.clone())),
                (None, Host::Ip(_)) => Ok(Self::At(address)),
                (None, _) => Err(Failure::Usage(format!("{text}: a name needs /p2p/<peer id> at the end"))),
            };
        }
        Ok(text.parse().map_or_else(|_| Self::Part(text.to_owned()), Self::Id))
    }

    /// Those whom the text fits: a whole name before a part of an id.
    fn fits<'a>(&self, peers: &'a [PeerInfo]) -> Vec<&'a PeerInfo> {
        let those = |fits: &dyn Fn(&PeerInfo) -> bool| peers.iter().filter(|peer| fits(peer)).collect::<Vec<_>>();
        match self {
            Self::Id(id) => those(&|peer| peer.peer_id == *id),
            Self::At(address) => {
                let address = address.without_peer_id().to_string();
                those(&|peer| peer.connected && peer.addresses.contains(&address))
            }
            Self::Part(part) => {
                let named = those(&|peer| peer.name.as_ref() == Some(part));
                if !named.is_empty() || part.chars().count() < MIN_PART_CHARS {
                    return named;
                }
                those(&|peer| peer.peer_id.as_str().starts_with(part) || peer.peer_id.as_str().ends_with(part))
            }
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::At(address) => address.fmt(f),
            Self::Part(part) => write!(f, "{part:?}"),
        }
    }
}

/// Waits until one peer fits, and for a moment whether others do.
pub(crate) async fn find(session: &mut Session, who: &Who, wait: Duration) -> Result<PeerInfo, Failure> {
    let deadline = Instant::now() + wait;
    let mut settled = None;
    session.out.progress(&format!("looking for {who}"));
    loop {
        let known = session.known().await?;
        let fits = who.fits(&known);
        let now = Instant::now();
        let is_sure = matches!(who, Who::Id(_) | Who::At(_));
        if !fits.is_empty() && (is_sure || *settled.get_or_insert(now + SETTLE) <= now) {
            return one_of(who, &fits);
        }
        if now >= deadline && settled.is_none() {
            let seconds = wait.as_secs_f64();
            let others = listed(known.iter());
            return Err(Failure::Finding(format!("no peer {who} was found within {seconds} s; known are: {others}")));
        }
        let next = now + LOOK;
        session.next(Some(settled.map_or(deadline.min(next), |settled| settled.min(next)))).await?;
    }
}

fn one_of(who: &Who, fits: &[&PeerInfo]) -> Result<PeerInfo, Failure> {
    match fits {
        [one] => Ok((*one).clone()),
        many => {
            let candidates = listed(many.iter().copied());
            Err(Failure::Usage(format!("{who} may be any of: {candidates}; say more of the id")))
        }
    }
}

fn listed<'a>(peers: impl Iterator<Item = &'a PeerInfo>) -> String {
    let mut shown: Vec<_> = peers
        .take(MAX_CANDIDATES + 1)
        .map(|peer| match &peer.name {
            Some(name) => format!("{} ({name})", peer.peer_id),
            None => peer.peer_id.to_string(),
        })
        .collect();
    if shown.len() > MAX_CANDIDATES {
        shown[MAX_CANDIDATES] = "…".to_owned();
    }
    if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";
    const B: &str = "12D3KooWGQ3Ao3XzcqVpzPo7PFrUCz4erRTtWCATErx943YEFDVR";

    fn peers() -> Vec<PeerInfo> {
        let peer = |id: &str, name: &str, address: &str| {
            let info = json!({
                "peer_id": id, "name": name, "addresses": [address], "source": "Mdns", "connected": true,
                "direction": "Inbound", "topics": [],
            });
            serde_json::from_value(info).unwrap()
        };
        vec![peer(A, "hall", "/ip4/192.0.2.1/tcp/9000"), peer(B, "hall", "/ip4/192.0.2.2/tcp/9000")]
    }

    #[track_caller]
    fn fits(text: &str) -> Result<String, String> {
        let (who, peers) = (Who::parse(text).map_err(|failure| failure.to_string())?, peers());
        let fits = who.fits(&peers);
        if fits.is_empty() {
            return Ok("nobody".to_owned());
        }
        one_of(&who, &fits).map(|peer| peer.peer_id.to_string()).map_err(|failure| {
            assert_eq!(failure.code(), 2);
            failure.to_string()
        })
    }

    #[test]
    fn a_peer_is_meant_by_its_id_a_part_of_it_or_where_it_is() {
        for text in [A, "12D3KooWQ", "Dr7oV", "/ip4/192.0.2.1/tcp/9000", &format!("/dns4/x/tcp/1/p2p/{A}")] {
            assert_eq!(fits(text).as_deref(), Ok(A), "{text}");
        }
        for text in ["kitchen", "7oV", "/ip4/192.0.2.3/tcp/9000"] {
            assert_eq!(fits(text).as_deref(), Ok("nobody"), "{text}");
        }
    }

    #[test]
    fn what_fits_several_lists_them_all() {
        for text in ["hall", "12D3KooW"] {
            let error = fits(text).unwrap_err();
            assert!(error.contains(A) && error.contains(B), "{error}");
        }
        assert!(fits("/dns4/hub.local/tcp/1").unwrap_err().contains("/p2p/<peer id>"));
        assert!(fits("/ip4/1.2.3.4/udp/1").unwrap_err().contains("/tcp/<port>"));
    }
}
