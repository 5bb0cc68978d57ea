// A peer of js-libp2p that the driver in ../scenarios.rs leads: commands come as lines of JSON on stdin, events go as
// lines of JSON to stdout. The only argument is the options, as JSON. It ends with its stdin.
import { createInterface } from 'node:readline'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const options = JSON.parse(process.argv[2])
const tell = (event, rest) => process.stdout.write(`${JSON.stringify({ event, ...rest })}\n`)
const trouble = (error) => tell('trouble', { text: String(error?.stack ?? error) })
process.on('unhandledRejection', trouble)
process.on('uncaughtException', trouble)

const seed = Buffer.from(options.seed, 'hex')
const isSeeded = options.key === 'Ed25519'
const config = {
  privateKey: isSeeded ? await generateKeyPairFromSeed('Ed25519', seed) : await generateKeyPair(options.key),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), pubsub: gossipsub() }
}
if (options.ping) {
  config.services.ping = ping()
}
if (options.kad) {
  config.services.kad = kadDHT({ protocol: '/avi/kad/1.0.0', clientMode: true, peerInfoMapper: passthroughMapper })
}
if (options.network_key != null) {
  const key = Buffer.from(options.network_key, 'hex')
  const prologueBytes = options.prologue ? Buffer.concat([Buffer.from('/avi/network-key/1\0'), key]) : undefined
  const psk = Buffer.from(`/key/swarm/psk/1.0.0/\n/base16/\n${options.network_key}`)
  config.connectionProtector = preSharedKey({ psk })
  config.connectionEncrypters = [noise({ prologueBytes })]
}
const node = await createLibp2p(config)
const { pubsub, kad } = node.services

node.addEventListener('peer:connect', ({ detail }) => tell('connected', { peer: String(detail) }))
node.addEventListener('peer:disconnect', ({ detail }) => tell('disconnected', { peer: String(detail) }))
pubsub.addEventListener('subscription-change', ({ detail }) => {
  for (const { topic, subscribe } of detail.subscriptions) {
    if (topic === options.topic && subscribe) tell('subscribed', { peer: String(detail.peerId) })
  }
})
pubsub.addEventListener('message', ({ detail }) => {
  tell('message', { from: String(detail.from), data: Buffer.from(detail.data).toString('latin1') })
})
pubsub.subscribe(options.topic)
tell('started', { peer: String(node.peerId), address: String(node.getMultiaddrs()[0]) })

const commands = {
  dial: ({ address }) => node.dial(multiaddr(address)),
  hang_up: ({ peer }) => node.hangUp(peerIdFromString(peer)),
  publish: ({ data }) => pubsub.publish(options.topic, Buffer.from(data, 'latin1')),
  async find ({ peer }) {
    const { id } = await node.peerRouting.findPeer(peerIdFromString(peer))
    tell('found', { peer: String(id) })
  }
}
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  try {
    await commands[command.command](command)
  } catch (error) {
    trouble(error)
  }
}
process.exit(0)
