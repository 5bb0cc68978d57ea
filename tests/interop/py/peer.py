"""A peer of py-libp2p that the driver in ../scenarios.rs leads: commands come as lines of JSON on stdin, events go as
lines of JSON to stdout. The only argument is the options, as JSON. It ends with its stdin."""

import json
import os
import sys
import time
import traceback

import multiaddr
import trio
from libp2p import new_host
from libp2p.abc import INotifee
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.host.ping import ID as PING
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from private_mesh import private

OPTIONS = json.loads(sys.argv[1])
TOPIC = OPTIONS["topic"]
KEYS = {
    "Ed25519": lambda: ed25519.create_new_key_pair(bytes.fromhex(OPTIONS["seed"])),
    "secp256k1": secp256k1.create_new_key_pair,
    "RSA": rsa.create_new_key_pair,
}


def tell(event, **rest):
    print(json.dumps({"event": event, **rest}), flush=True)


class Notifee(INotifee):
    async def connected(self, network, conn):
        tell("connected", peer=str(conn.muxed_conn.peer_id))

    async def disconnected(self, network, conn):
        tell("disconnected", peer=str(conn.muxed_conn.peer_id))

    async def opened_stream(self, network, stream):
        pass

    async def closed_stream(self, network, stream):
        pass

    async def listen(self, network, multiaddr):
        pass

    async def listen_close(self, network, multiaddr):
        pass


class Router(GossipSub):
    """Tells who subscribes."""

    async def on_peer_subscribed(self, peer_id, topic):
        if topic == TOPIC:
            tell("subscribed", peer=str(peer_id))
        await super().on_peer_subscribed(peer_id, topic)


async def publish(pubsub, command):
    await pubsub.publish(TOPIC, command["data"].encode("latin1"))
    # A queue of 32 messages that is full drops the next one without a word.
    while any(len(queue) > 16 for queue in pubsub.peer_queues.values()):
        await trio.sleep(0.001)


async def hear(subscription):
    while True:
        message = await subscription.get()
        tell("message", **{"from": str(ID(message.from_id)), "data": message.data.decode("latin1")})


async def obey(host, pubsub):
    async for line in trio.wrap_file(sys.stdin):
        command = json.loads(line)
        try:
            match command["command"]:
                case "dial":
                    await host.connect(info_from_p2p_addr(multiaddr.Multiaddr(command["address"])))
                case "hang_up":
                    await host.disconnect(ID.from_string(command["peer"]))
                case "publish":
                    await publish(pubsub, command)
        except Exception:
            tell("trouble", text=traceback.format_exc())


async def main():
    key_pair = KEYS[OPTIONS["key"]]()
    settings = {"key_pair": key_pair}
    if OPTIONS["network_key"] is not None:
        settings |= private(bytes.fromhex(OPTIONS["network_key"]), key_pair, OPTIONS["prologue"])
    address = multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")
    host = new_host(listen_addrs=[address], **settings)
    if not OPTIONS["ping"]:
        host.remove_stream_handler(PING)
    host.get_network().register_notifee(Notifee())
    router = Router(
        [PROTOCOL_ID_V12, PROTOCOL_ID_V11, PROTOCOL_ID],
        degree=6,
        degree_low=4,
        degree_high=12,
        heartbeat_interval=1,
        # As it comes, more than ten messages a second of a topic are dropped, one's own too.
        spam_protection_enabled=False,
    )
    pubsub = Pubsub(host, router)
    # It begins at the seconds since 1970 and counts messages: a second start would use the numbers of the first again.
    pubsub.counter = time.time_ns()
    async with (
        host.run(listen_addrs=[address]),
        background_trio_service(pubsub),
        background_trio_service(router),
        trio.open_nursery() as nursery,
    ):
        await pubsub.wait_until_ready()
        nursery.start_soon(hear, await pubsub.subscribe(TOPIC))
        tell("started", peer=str(host.get_id()), address=str(host.get_addrs()[0]))
        await obey(host, pubsub)
        # The thread of stdin has ended, others need not.
        sys.stdout.flush()
        os._exit(0)


trio.run(main)
