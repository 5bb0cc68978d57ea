//! Which machines share a home, and at which address does each machine listen?

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{FIRST_EPHEMERAL, Group, Host};

/// The port of the first machine of a home. The others have the next ones.
const FIRST_PORT: u16 = 4001;

/// A home, by its number: machines behind one address, each at a port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home(pub u32);

impl Home {
    /// Its only address, in 10.0.0.0/8.
    pub fn ip(self) -> IpAddr {
        let [_, a, b, c] = (self.0 + 1).to_be_bytes();
        Ipv4Addr::new(10, a, b, c).into()
    }

    /// The home with this address.
    pub fn at(ip: IpAddr) -> Option<Self> {
        let IpAddr::V4(ip) = ip else { return None };
        let [net, a, b, c] = ip.octets();
        let number = u32::from_be_bytes([0, a, b, c]);
        (net == 10 && number > 0).then(|| Self(number - 1))
    }
}

/// How machines are distributed over homes: in turn, so that machine 0 is in home 0, machine 1 in home 1, and so on.
/// The same on both networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Homes {
    /// The number of homes; 0: each machine is a home of its own.
    count: u32,
}

impl Homes {
    /// The most machines of one home. Ports beyond these are for outgoing connections.
    pub const MOST_MACHINES: usize = (FIRST_EPHEMERAL - FIRST_PORT) as usize;

    /// So many homes; 0: each machine is a home of its own.
    pub fn new(count: usize) -> Self {
        Self { count: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// The number of homes of so many machines.
    pub fn count(self, machines: usize) -> u32 {
        let machines = u32::try_from(machines).unwrap_or(u32::MAX);
        if self.are_shared() { self.count.min(machines) } else { machines }
    }

    /// Whether a home can have several machines.
    pub fn are_shared(self) -> bool {
        self.count > 0
    }

    /// The home of a machine.
    pub fn home(self, machine: Host) -> Home {
        Home(machine.0.checked_rem(self.count).unwrap_or(machine.0))
    }

    /// The homes of these machines.
    pub fn of(self, machines: &Group) -> BTreeSet<Home> {
        machines.iter().map(|machine| self.home(*machine)).collect()
    }

    /// Whether data from one machine to another stays within a home.
    pub fn are_together(self, a: Host, b: Host) -> bool {
        self.are_shared() && self.home(a) == self.home(b)
    }

    /// The address that a machine's node listens on.
    pub fn socket(self, machine: Host) -> SocketAddr {
        let place = machine.0.checked_div(self.count).unwrap_or_default();
        // A run with more than `MOST_MACHINES` machines in a home is refused.
        SocketAddr::new(self.home(machine).ip(), FIRST_PORT.saturating_add(u16::try_from(place).unwrap_or(u16::MAX)))
    }

    /// This address in the form of a node's configuration.
    pub fn multiaddr(self, machine: Host) -> String {
        let socket = self.socket(machine);
        format!("/ip4/{}/tcp/{}", socket.ip(), socket.port())
    }

    /// The machine that can listen on this address.
    pub fn machine(self, address: SocketAddr) -> Option<Host> {
        let home = Home::at(address.ip())?;
        if !self.are_shared() {
            return Some(Host(home.0));
        }
        let place = u32::from(address.port().checked_sub(FIRST_PORT)?);
        (home.0 < self.count && address.port() < FIRST_EPHEMERAL).then(|| Host(place * self.count + home.0))
    }

    /// The address that a machine gets if it asks to listen on this one. Port 0 stands for its own port.
    pub fn listening(self, machine: Host, wanted: SocketAddr) -> Option<SocketAddr> {
        let own = self.socket(machine);
        let port = if wanted.port() == 0 { own.port() } else { wanted.port() };
        let wanted = SocketAddr::new(wanted.ip(), port);
        (wanted.ip() == own.ip() && self.machine(wanted) == Some(machine)).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_shared_homes_every_machine_has_its_own_address_and_any_port() {
        let homes = Homes::new(0);
        assert_eq!(homes.socket(Host(0)), "10.0.0.1:4001".parse().unwrap());
        assert_eq!(homes.multiaddr(Host(300)), "/ip4/10.0.1.45/tcp/4001");
        assert_eq!(homes.machine("10.0.1.45:9".parse().unwrap()), Some(Host(300)));
        assert_eq!(homes.count(7), 7);
        assert!(!homes.are_together(Host(3), Host(3)));
    }

    #[test]
    fn the_machines_of_a_home_share_its_address_and_have_different_ports() {
        let homes = Homes::new(3);
        assert_eq!((homes.count(7), homes.count(2)), (3, 2));
        let sockets: BTreeSet<_> = (0..3000).map(|machine| homes.socket(Host(machine))).collect();
        assert_eq!(sockets.len(), 3000);
        for machine in (0..3000).map(Host) {
            assert_eq!(homes.machine(homes.socket(machine)), Some(machine));
            assert!(
                homes.are_together(machine, Host(machine.0 % 3)) && !homes.are_together(machine, Host(machine.0 + 1))
            );
        }
        assert_eq!(homes.socket(Host(4)), "10.0.0.2:4002".parse().unwrap());
        for nowhere in ["10.0.0.4:4001", "10.0.0.1:4000", "10.0.0.1:40000", "192.0.2.1:4001"] {
            assert_eq!(homes.machine(nowhere.parse().unwrap()), None, "{nowhere}");
        }
    }

    #[test]
    fn a_machine_listens_at_its_own_address_only() {
        let homes = Homes::new(3);
        let listening = |wanted: &str| homes.listening(Host(4), wanted.parse().unwrap());
        assert_eq!(listening("10.0.0.2:0"), Some(homes.socket(Host(4))));
        assert_eq!(listening("10.0.0.2:4002"), Some(homes.socket(Host(4))));
        for taken in ["10.0.0.2:4001", "10.0.0.1:4002", "10.0.0.1:0"] {
            assert_eq!(listening(taken), None, "{taken}");
        }
        let wanted = "10.0.0.5:77".parse().unwrap();
        assert_eq!(Homes::new(0).listening(Host(4), wanted), Some(wanted));
    }
}
