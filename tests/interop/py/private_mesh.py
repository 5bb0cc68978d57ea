"""What py-libp2p lacks for a private mesh of AVI: pnet with the nonce of 24 bytes of its specification, and the network
key in the prologue of Noise."""

import os
import struct

from Crypto.Cipher import Salsa20
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.network import swarm
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.patterns import PatternXX
from libp2p.security.noise.transport import PROTOCOL_ID, Transport

NONCE_BYTES = 24
ROUNDS = (
    (4, 0, 12, 7), (8, 4, 0, 9), (12, 8, 4, 13), (0, 12, 8, 18),
    (9, 5, 1, 7), (13, 9, 5, 9), (1, 13, 9, 13), (5, 1, 13, 18),
    (14, 10, 6, 7), (2, 14, 10, 9), (6, 2, 14, 13), (10, 6, 2, 18),
    (3, 15, 11, 7), (7, 3, 15, 9), (11, 7, 3, 13), (15, 11, 7, 18),
    (1, 0, 3, 7), (2, 1, 0, 9), (3, 2, 1, 13), (0, 3, 2, 18),
    (6, 5, 4, 7), (7, 6, 5, 9), (4, 7, 6, 13), (5, 4, 7, 18),
    (11, 10, 9, 7), (8, 11, 10, 9), (9, 8, 11, 13), (10, 9, 8, 18),
    (12, 15, 14, 7), (13, 12, 15, 9), (14, 13, 12, 13), (15, 14, 13, 18),
)  # fmt: skip


def xsalsa20(key, nonce):
    """XSalsa20: Salsa20 with a key that HSalsa20 makes of the key and the first 16 bytes of the nonce."""
    constant = struct.unpack("<4I", b"expand 32-byte k")
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", nonce[:16])
    x = [constant[0], *k[:4], constant[1], *n, constant[2], *k[4:], constant[3]]
    for to, a, b, bits in ROUNDS * 10:
        total = (x[a] + x[b]) & 0xFFFFFFFF
        x[to] ^= (total << bits | total >> 32 - bits) & 0xFFFFFFFF
    subkey = struct.pack("<8I", *(x[at] for at in (0, 5, 10, 15, 6, 7, 8, 9)))
    return Salsa20.new(key=subkey, nonce=nonce[16:])


class Private(RawConnection):
    """A connection under pnet: 24 random bytes, and then everything encrypted by XSalsa20."""

    def __init__(self, conn, key):
        self.conn, self.key = conn, key
        self.reading = self.writing = None

    async def write(self, data):
        nonce = b""
        if self.writing is None:
            nonce = os.urandom(NONCE_BYTES)
            self.writing = xsalsa20(self.key, nonce)
        await self.conn.write(nonce + self.writing.encrypt(data))

    async def read(self, n=None):
        if self.reading is None:
            nonce = b""
            while len(nonce) < NONCE_BYTES:
                more = await self.conn.read(NONCE_BYTES - len(nonce))
                if not more:
                    return b""
                nonce += more
            self.reading = xsalsa20(self.key, nonce)
        return self.reading.decrypt(await self.conn.read(n))

    async def close(self):
        await self.conn.close()

    def get_remote_address(self):
        return self.conn.get_remote_address()


class Noise(Transport):
    """Noise with a prologue."""

    prologue: bytes | None

    def get_pattern(self):
        return PatternXX(self.local_peer, self.libp2p_privkey, self.noise_privkey, prologue=self.prologue)


def private(key, key_pair, has_prologue=True):
    """The arguments of `new_host` for a private mesh."""
    swarm.new_protected_conn = lambda conn, psk: Private(conn, bytes.fromhex(psk))
    noise = Noise(key_pair, create_new_x25519_key_pair().private_key)
    noise.prologue = b"/avi/network-key/1\0" + key if has_prologue else None
    return {"psk": key.hex(), "sec_opt": {PROTOCOL_ID: noise}}
