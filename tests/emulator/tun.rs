//! How do packets get out of a namespace, and into it? Through a TUN device, whose other end is a file of this process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::namespace::Namespace;

/// The device's name in its namespace.
pub const DEVICE: &str = "avi0";
/// Of Ethernet. Segmentation is never left to the device, so no packet is larger.
pub const MTU_BYTES: usize = 1500;

const TUNSETIFF: Opcode = opcode::write::<std::ffi::c_int>(b'T', 202);
const IFF_TUN: i16 = 0x0001;
/// No header of the driver's before a packet.
const IFF_NO_PI: i16 = 0x1000;

/// `struct ifreq` of `netdevice(7)`, with the union's flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// The device's end in this process. The device goes with it.
pub struct Tun(File);

impl Tun {
    /// A new device in a namespace, without an address, and down.
    pub fn new(namespace: &Namespace) -> io::Result<Self> {
        let opening = namespace.spawn(|| {
            let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
            let mut request = InterfaceRequest { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
            request.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
            // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which has this layout and these 40 bytes. The value
            // outlives the call. rustix has no safe function for it.
            #[allow(unsafe_code)]
            unsafe {
                ioctl(&file, Updater::<TUNSETIFF, InterfaceRequest>::new(&mut request))?;
            }
            ioctl_fionbio(&file, true)?;
            Ok(Self(file))
        })?;
        opening.join().map_err(|_| io::Error::other("the thread in the namespace panicked"))??
    }

    /// The next packet that the namespace sends, and its length. `None` if there is none now.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match read(&self.0, &mut *buffer) {
            Ok(bytes) => Ok(Some(&buffer[..bytes])),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands a packet to the namespace.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        write(&self.0, packet)?;
        Ok(())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
