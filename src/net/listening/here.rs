//! Which addresses does a wildcard stand for now? The transport asks this.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::net::listening::interfaces::Addresses;

/// The addresses of this machine, shared with the transport. After setting them, have the transport polled.
#[derive(Clone)]
pub(in crate::net) struct Here(Arc<Mutex<Addresses>>);

impl Here {
    pub(in crate::net) fn new(addresses: Addresses) -> Self {
        Self(Arc::new(Mutex::new(addresses)))
    }

    pub(super) fn set(&self, addresses: Addresses) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub(in crate::net) fn behind(&self, wildcard: IpAddr) -> Vec<IpAddr> {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.behind(wildcard).collect()
    }
}
