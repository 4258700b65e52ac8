// The official servers in one process: PLC directory, PDS and Bluesky's AppView (bsync and Ozone come
// along, dev-env starts them anyway), with a control server beside them. PostgreSQL is the caller's.
//
// One JSON line on stdout says where everything is. The process ends when its standard input does, so
// it cannot outlive whoever started it.
import http from 'node:http'
import net from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { Secp256k1Keypair } from '@atproto/crypto'
import { TestNetwork } from '@atproto/dev-env'
import * as plc from '@did-plc/lib'

const LOOPBACK = '127.0.0.1'
const SETTLE_MS = 60_000

// The servers say listen(port) and nothing about a host, which would open them to the whole network.
function keepToLoopback() {
  const { listen } = net.Server.prototype
  net.Server.prototype.listen = function (where, ...rest) {
    if (typeof where === 'object' && where !== null && 'port' in where) {
      return listen.call(this, { ...where, host: where.host ?? LOOPBACK }, ...rest)
    }
    const named = typeof where !== 'number' || typeof rest[0] === 'string'
    return named ? listen.call(this, where, ...rest) : listen.call(this, where, LOOPBACK, ...rest)
  }
}

function pdsOptions() {
  const options = { hostname: 'localhost', enableDidDocWithSession: true }
  // Only when given: dev-env copies these over its defaults, an undefined would erase one.
  const window = process.env.OFFICIAL_STREAM_WINDOW_MS
  if (window) options.repoBackfillLimitMs = Number(window)
  return options
}

// dev-env insists on the name of a Redis, though no server of it has used one since the AppView got its
// data plane. Nothing connects to this.
process.env.REDIS_HOST ??= 'nobody.invalid'

keepToLoopback()
const network = await TestNetwork.create({
  dbPostgresUrl: process.env.OFFICIAL_DATABASE_URL,
  dbPostgresSchema: 'official',
  pds: pdsOptions(),
})

// The AppView tries to read before the PDS is there, and again seconds later. What a PDS with a short
// memory says until then is lost to it, and nobody could ever wait for it. So nothing begins before the
// AppView is seen to read.
async function appviewReads() {
  const { did } = network.ozone.ctx.cfg.service
  for (;;) {
    await network.pds.ctx.sequencer.sequenceIdentity(did)
    const said = await network.pds.ctx.sequencer.curr()
    for (const until = Date.now() + 1000; Date.now() < until; await setTimeout(10)) {
      if (network.bsky.sub.getCursor() >= said) return
    }
  }
}
await appviewReads()

// Streams opened from here on. The AppView's own, opened before, is not among them: cutting it too
// would test nothing of ours and cost its reconnect time.
const streams = new Set()
network.pds.server.server.on('upgrade', (_request, socket) => {
  streams.add(socket)
  socket.once('close', () => streams.delete(socket))
})

const lastSeq = async () => ({ seq: await network.pds.ctx.sequencer.curr() })

const commands = {
  // Returns when the AppView has indexed everything that the PDS has sequenced.
  async settle() {
    await network.processAll(SETTLE_MS)
    return lastSeq()
  },

  // Cuts the open streams without a goodbye, as a restarting relay does.
  async 'drop-streams'() {
    const cut = [...streams]
    for (const socket of cut) socket.destroy()
    return { cut: cut.length }
  },

  // A did:plc whose document names a feed generator at `endpoint`.
  async 'service-did'({ endpoint }) {
    const key = await Secp256k1Keypair.create()
    const operation = await plc.signOperation(
      {
        type: 'plc_operation',
        prev: null,
        alsoKnownAs: [],
        rotationKeys: [key.did()],
        verificationMethods: { atproto: key.did() },
        services: { bsky_fg: { type: 'BskyFeedGenerator', endpoint } },
      },
      key,
    )
    const did = await plc.didForCreateOp(operation)
    await new plc.Client(network.plc.url).sendOperation(did, operation)
    return { did }
  },

  // An extra #sync frame for a repo, as after a repair at the PDS.
  async 'emit-sync'({ did }) {
    const state = await network.pds.ctx.actorStore.read(did, (actor) => actor.repo.getSyncEventData())
    await network.pds.ctx.sequencer.sequenceSync(did, state)
    return lastSeq()
  },

  // An extra #identity frame, the hint that a DID document may have changed.
  async 'emit-identity'({ did, handle }) {
    await network.pds.ctx.sequencer.sequenceIdentity(did, handle)
    return lastSeq()
  },
}

async function answer(request) {
  const name = request.url.slice(1)
  if (request.method !== 'POST' || !Object.hasOwn(commands, name)) {
    return [404, { error: `POST one of: ${Object.keys(commands).join(' ')}` }]
  }
  try {
    return [200, await commands[name](JSON.parse((await text(request)) || '{}'))]
  } catch (error) {
    return [500, { error: String(error?.stack ?? error) }]
  }
}

const control = http.createServer(async (request, response) => {
  const [status, body] = await answer(request)
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
})
await new Promise((resolve) => control.listen(0, resolve))

process.stdout.write(
  `${JSON.stringify({
    plc: network.plc.url,
    pds: network.pds.url,
    stream: `ws://localhost:${network.pds.port}/xrpc/com.atproto.sync.subscribeRepos`,
    appview: network.bsky.url,
    appview_did: network.bsky.serverDid,
    control: `http://${LOOPBACK}:${control.address().port}`,
    admin_password: 'admin-pass',
    pid: process.pid,
  })}\n`,
)

let ending
function end() {
  ending ??= network.close().then(
    () => process.exit(0),
    (error) => {
      console.error(error)
      process.exit(1)
    },
  )
}
process.on('SIGTERM', end)
process.on('SIGINT', end)
process.stdin.on('end', end).resume()
