//! What does a host send that sees the packets of others, and wants to be taken for one of them?

use std::rc::Rc;

use super::UDP;

/// Where the header of UDP begins: IPv4's has no options here.
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// The last byte of the address of a machine that is not there.
const THIRD_HOST: u8 = 200;

/// What the attacker makes of a packet with a datagram: the datagram from another host; with another id; with another
/// last byte, which authenticates; cut; and prolonged.
pub fn forge(packet: &[u8]) -> Vec<Rc<[u8]>> {
    if packet.get(9) != Some(&UDP) || packet.len() <= IP_HEADER + UDP_HEADER {
        return Vec::new();
    }
    let change = |change: fn(&mut Vec<u8>)| {
        let mut forged = packet.to_vec();
        change(&mut forged);
        finish(&mut forged);
        forged.into()
    };
    vec![
        change(|packet| packet[15] = THIRD_HOST),
        change(|packet| packet[IP_HEADER + UDP_HEADER] ^= 1),
        change(|packet| *packet.last_mut().expect("a datagram") ^= 1),
        change(|packet| packet.truncate(packet.len() - 1)),
        change(|packet| packet.push(0)),
    ]
}

/// Sets the lengths and the checksums.
fn finish(packet: &mut [u8]) {
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].fill(0);
    let sum: u32 = packet[..IP_HEADER].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16 + (sum >> 16) as u16)).to_be_bytes());
    let datagram = length - IP_HEADER as u16;
    packet[IP_HEADER + 4..IP_HEADER + 6].copy_from_slice(&datagram.to_be_bytes());
    // Zero says that there is none (RFC 768).
    packet[IP_HEADER + 6..IP_HEADER + 8].fill(0);
}
