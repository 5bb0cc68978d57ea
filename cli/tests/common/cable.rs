//! Two hosts and a cable, as namespaces of the test's own. That takes root, and `ip` of iproute2; where they are missing the
//! tests say so and pass, unless `AVI_NETNS=required`.

#[path = "../../../tests/emulator/namespace.rs"]
mod namespace;

pub use namespace::{Namespace, or_skip, remove_leftovers};

use super::{Running, clean, program};

/// Two hosts with a cable between them.
pub struct Cable {
    pub here: Namespace,
    pub there: Namespace,
}

impl Cable {
    /// `None`, said aloud, where this machine does not allow it.
    pub fn new() -> Option<Self> {
        let attempt = || -> Result<Self, String> {
            remove_leftovers()?;
            let (here, there) = (Namespace::new()?, Namespace::new()?);
            here.try_ip(&format!("link add eth0 type veth peer name eth0 netns {}", there.0))?;
            for (host, address) in [(&here, "192.0.2.1/24"), (&there, "192.0.2.2/24")] {
                host.try_ip(&format!("addr add {address} dev eth0"))?;
                host.try_ip("link set eth0 up")?;
            }
            Ok(Self { here, there })
        };
        or_skip(attempt())
    }

    /// `avi answer` at the other host, and its address.
    pub fn answer(&self, arguments: &[&str]) -> (Running, String) {
        let mut command = clean(self.there.command(program()));
        command.args(["--json", "answer", "--listen", "192.0.2.2:9000"]).args(arguments);
        let answer = Running::start(command);
        let (address, _) = answer.listens("answering");
        (answer, address)
    }
}
