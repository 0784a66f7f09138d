// Reads values of a cache of github.com/delqhi/cache, and invalidates them.
//
// Standard library only. It implements docs/format.md, for one Redis server; it reads what others
// have stored, and never stores a value. Numbers of 64 bits are BigInts.
//
//     node cache.mjs get HOST PORT NAME KEY
//     node cache.mjs invalidate HOST PORT NAME KEY...
//     node cache.mjs invalidate-tags HOST PORT NAME TAG...
//     node cache.mjs clear HOST PORT NAME
//     node cache.mjs check vectors.json
//
// CACHE_PREFIX in the environment is the prefix of the cache (cache.WithPrefix).

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { fileURLToPath } from 'node:url';

const MAX_INT64 = (1n << 63n) - 1n;
const MASK64 = (1n << 64n) - 1n;
const KINDS = [undefined, 'value', 'absence', 'lease', 'failure', 'intent'];

/** The bytes are no intact record, message or clock. */
export class Corrupt extends Error {}
/** Another program has stored the bytes. */
export class Foreign extends Corrupt {}
/** A newer version of the library has stored the bytes. */
export class Newer extends Corrupt {}

// --- checksums ---------------------------------------------------------------

const CRC = Array.from({ length: 256 }, (_, n) => {
  for (let i = 0; i < 8; i++) n = n & 1 ? (n >>> 1) ^ 0x82f63b78 : n >>> 1;
  return n >>> 0;
});

export function crc32c(data) {
  let crc = 0xffffffff;
  for (const byte of data) crc = CRC[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

const [P1, P2, P3, P4, P5] = [
  11400714785074694791n, 14029467366897019727n, 1609587929392839161n, 9650029242287828579n, 2870177450012600261n,
];
const rotl = (x, n) => ((x << n) | (x >> (64n - n))) & MASK64;
const round = (acc, lane) => (rotl((acc + lane * P2) & MASK64, 31n) * P1) & MASK64;

export function xxhash64(data) {
  const n = data.length;
  let at = 0;
  let h = P5;
  if (n >= 32) {
    const acc = [(P1 + P2) & MASK64, P2, 0n, -P1 & MASK64];
    for (; at <= n - 32; at += 32) {
      for (let i = 0; i < 4; i++) acc[i] = round(acc[i], data.readBigUInt64LE(at + 8 * i));
    }
    h = (rotl(acc[0], 1n) + rotl(acc[1], 7n) + rotl(acc[2], 12n) + rotl(acc[3], 18n)) & MASK64;
    for (const a of acc) h = ((h ^ round(0n, a)) * P1 + P4) & MASK64;
  }
  h = (h + BigInt(n)) & MASK64;
  for (; at <= n - 8; at += 8) h = (rotl(h ^ round(0n, data.readBigUInt64LE(at)), 27n) * P1 + P4) & MASK64;
  if (at <= n - 4) {
    h = (rotl(h ^ ((BigInt(data.readUInt32LE(at)) * P1) & MASK64), 23n) * P2 + P3) & MASK64;
    at += 4;
  }
  for (; at < n; at++) h = (rotl(h ^ ((BigInt(data[at]) * P5) & MASK64), 11n) * P1) & MASK64;
  h = ((h ^ (h >> 33n)) * P2) & MASK64;
  h = ((h ^ (h >> 29n)) * P3) & MASK64;
  return h ^ (h >> 32n);
}

export function uvarint(n) {
  const out = [];
  for (n = BigInt(n); n >= 0x80n; n >>= 7n) out.push(Number(n & 0x7fn) | 0x80);
  out.push(Number(n));
  return Buffer.from(out);
}

// Returns a number and where it ends. It takes as few bytes as it can.
function readUvarint(data, at) {
  let value = 0n;
  for (let i = 0; i < 10 && at + i < data.length; i++) {
    const byte = data[at + i];
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) {
      if ((i > 0 && byte === 0) || value > MASK64) break;
      return [Number(value), at + i + 1];
    }
  }
  throw new Corrupt('a length is cut off, too long or too large');
}

// --- frames --------------------------------------------------------------------

/** Reports whether the bytes behind a lease name those who wait for it. */
function isSign(raw) {
  const ids = raw.length % 8 === 1 && raw[raw.length - 1] === 1 ? raw.subarray(0, -1) : raw;
  return ids.length % 8 === 0 && ids.length <= 56 && ids.every((byte) => byte > 0x20 && byte < 0x7f);
}

/** Returns the record that the bytes raw are under the Redis key; both are Buffers. */
export function parseFrame(key, raw) {
  if (raw.length < 3 || raw[0] !== 0xc5 || raw[1] !== 0x64 || raw[2] !== 0x71) throw new Foreign('not a frame');
  if (raw.length > 3 && raw[3] > 1) throw new Newer(`frame version ${raw[3]}`);
  if (raw.length < 36 || raw[3] !== 1 || crc32c(raw.subarray(0, 32)) !== raw.readUInt32BE(32)) throw new Corrupt('section A');
  if (raw[5] || raw[6] || raw[7] || !KINDS[raw[4]]) throw new Newer(`kind ${raw[4]}`);
  const frame = { kind: KINDS[raw[4]], id: raw.subarray(8, 24), limit: raw.readBigInt64BE(24) };
  if (frame.kind === 'lease' || frame.kind === 'intent') {
    if (raw.length !== 36 && !(frame.kind === 'lease' && isSign(raw.subarray(36)))) throw new Corrupt('length');
    return frame;
  }
  if (raw.length < 108) throw new Corrupt('length');
  frame.version = raw.readUInt32BE(36);
  frame.type = raw.readBigUInt64BE(40);
  frame.stored = raw.readBigInt64BE(48);
  frame.fresh = raw.readBigUInt64BE(56);
  frame.stale = raw.readBigUInt64BE(64);
  frame.logical_time = raw.readBigInt64BE(72);
  frame.epoch = raw.readBigUInt64BE(80);
  frame.cost = raw.readUInt32BE(88);
  const end = raw.length - 8;
  const extras = 100 + raw.readUInt32BE(92);
  if (extras + raw.readUInt32BE(96) !== end) throw new Corrupt('lengths');
  if (xxhash64(Buffer.concat([uvarint(key.length), key, raw.subarray(36, end)])) !== raw.readBigUInt64BE(end)) throw new Corrupt('hash');
  frame.tags = [];
  frame.etag = Buffer.alloc(0);
  for (let at = 100; at < extras; ) {
    const type = raw[at];
    const [size, from] = readUvarint(raw.subarray(0, extras), at + 1);
    if (from + size > extras) throw new Corrupt('extras');
    const body = raw.subarray(from, from + size);
    at = from + size;
    if (type === 2 && !frame.etag.length) frame.tags.push(body);
    else if (type === 4 && !frame.etag.length && body.length) frame.etag = body;
    else if (type === 2 || type === 4) throw new Corrupt('extras');
    else if (type % 2 === 0) throw new Newer(`extra of type ${type}`);
  }
  frame.payload = raw.subarray(extras, end);
  return frame;
}

/** Whether a value or an absence is "fresh", "stale" or "over" at the time now, in µs. */
export function state(frame, now) {
  if (frame.limit <= 0n || (frame.limit !== MAX_INT64 && now >= frame.limit)) return 'over';
  const age = now > frame.stored ? now - frame.stored : 0n;
  if (frame.fresh === 0n || age < frame.fresh) return 'fresh';
  return frame.kind === 'value' && age < frame.fresh + frame.stale ? 'stale' : 'over';
}

// --- the logical clock ------------------------------------------------------------

function numbers(text, head, count) {
  const words = (text ?? '').toString('latin1').split(' ');
  if (words.length !== count + 1 || words[0] !== head) throw new Corrupt('clock');
  return words.slice(1).map((word) => {
    if (!/^(0|[1-9][0-9]{0,15})$/.test(word) || BigInt(word) >= 1n << 53n) throw new Corrupt('clock');
    return BigInt(word);
  });
}

const tombstone = ([hard, soft, next, when]) => ({ hard, soft, next, when });

export const parseTombstone = (text) => tombstone(numbers(text, 'm1', 4));

export function parseEpoch(text) {
  const n = numbers(text, 'e1', 9);
  const epoch = { id: n[0], tick: n[1], clock: n[2], low: n[3], all: tombstone(n.slice(4, 8)), tags: n[8] === 1n };
  if (epoch.id === 0n || n[8] > 1n || n.slice(3, 7).some((t) => t > epoch.clock)) throw new Corrupt('clock');
  return epoch;
}

/** When a value began, by Redis's clock in µs; undefined if that is not known. */
export function began(frame) {
  let cost = BigInt(frame.cost);
  if (cost === 0xffffffffn) return undefined;
  if (cost >= 1n << 31n) cost = (cost & ((1n << 30n) - 1n)) * (cost & (1n << 30n) ? 1000n : 1n);
  return frame.stored - cost;
}

function judge(mark, logicalTime, start, now) {
  let hard = mark.hard;
  if (mark.next > hard) {
    if (mark.when > 0n && mark.when < mark.next) { // dated
      if (logicalTime < mark.next && (start === undefined || start <= mark.when)) return 'invalid';
    } else if (mark.when <= now || now < mark.next - 1000000n) {
      hard = mark.next;
    }
  }
  if (logicalTime < hard) return 'invalid';
  return logicalTime < mark.soft ? 'stale' : 'valid';
}

/**
 * Whether no Clear and no invalidation by tag affects a record: "valid", "stale" or "invalid".
 * tombstones are those of its tags, null where a tag has none.
 */
export function validate(frame, epoch, tombstones, now) {
  if (frame.epoch !== epoch.id || frame.logical_time > epoch.clock) return 'invalid';
  if (frame.tags.length && frame.logical_time < epoch.low) return 'invalid';
  const verdicts = [epoch.all, ...tombstones].filter(Boolean).map((m) => judge(m, frame.logical_time, began(frame), now));
  return ['invalid', 'stale'].find((v) => verdicts.includes(v)) ?? 'valid';
}

// --- messages -----------------------------------------------------------------------

export function message(kind, sender, number, base, quietMs, body) {
  const head = Buffer.alloc(21);
  head.set([0xc5, 0x64, 0x6e, 1, kind]);
  head.writeBigUInt64BE(BigInt(sender), 5);
  head.writeBigUInt64BE(BigInt(number), 13);
  return Buffer.concat([head, uvarint(BigInt(number) - BigInt(base)), uvarint(quietMs), body]);
}

export const strings = (items) => Buffer.concat(items.flatMap((s) => [uvarint(s.length), s]));

// On a cluster each part of the slots has a logical clock: the first slots of the parts, and the hash
// tags of the keys of their clocks.
const parts = [
  [0, 'dlj'], [2048, 'bij'], [2731, 'a4q'], [3277, 'f5k'], [4096, '1mo'], [5461, 'ljg'], [6144, 'c7'], [6554, 'gw'],
  [8192, 'st5'], [9830, '7x5'], [10240, 'hb4'], [10923, 'hft'], [12288, '77h'], [13107, '3l5'], [13653, '3ki'], [14336, '7ys'],
];

/** The slot of a Redis key (a Buffer) on a cluster. */
export function slot(redisKey) {
  const begin = redisKey.indexOf('{');
  const end = redisKey.indexOf('}', begin + 1);
  if (begin >= 0 && end > begin + 1) redisKey = redisKey.subarray(begin + 1, end);
  let crc = 0;
  for (const byte of redisKey) {
    crc ^= byte << 8;
    for (let i = 0; i < 8; i++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc % 16384;
}

/** The number of the part that a Redis key is in, on a cluster. */
export const part = (redisKey) => parts.findLastIndex(([first]) => first <= slot(redisKey));

/** The keys of the logical clock of a Redis key, and of the tombstones of its tags. */
export function clockOnACluster(prefix, name, redisKey) {
  const own = prefix.includes('{') ? `${prefix}:{c:${name}}:` : `${prefix}:{${parts[part(redisKey)][1]}}:c:${name}:`;
  return { epoch: `${own}epoch`, tags: `${own}tags` };
}

/** The encoded key of a string, a number, a boolean, or a struct of several of them. */
export function encodeKey(...fields) {
  if (fields.length === 1) return Buffer.from(String(fields[0]));
  return Buffer.from(fields.map((f) => String(f).replaceAll('%', '%25').replaceAll(':', '%3A')).join(':'));
}

// --- a cache --------------------------------------------------------------------------

const INVALIDATE = `
redis.call('UNLINK', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
`;

/** A connection to one server, in RESP2. */
export class Redis {
  static connect(host, port) {
    return new Promise((resolve, reject) => {
      const socket = createConnection({ host, port: Number(port) }, () => resolve(new Redis(socket)));
      socket.once('error', reject);
    });
  }

  constructor(socket) {
    this.socket = socket;
    this.buffer = Buffer.alloc(0);
    this.waiting = [];
    const fail = (err) => this.waiting.splice(0).forEach((w) => w.reject(err));
    socket.on('data', (data) => {
      this.buffer = Buffer.concat([this.buffer, data]);
      for (let reply; this.waiting.length && (reply = this.#reply(0)); ) {
        this.buffer = this.buffer.subarray(reply.end);
        const w = this.waiting.shift();
        if (reply.value instanceof Error) w.reject(reply.value);
        else w.resolve(reply.value);
      }
    });
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('the server has closed the connection')));
  }

  close() {
    this.socket.end();
  }

  command(...words) {
    const parts = [Buffer.from(`*${words.length}\r\n`)];
    for (const word of words) {
      const bytes = Buffer.isBuffer(word) ? word : Buffer.from(String(word));
      parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'));
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.socket.write(Buffer.concat(parts));
    });
  }

  // Returns the reply at a place of the buffer and where it ends; undefined if it is not complete.
  #reply(at) {
    const line = this.buffer.indexOf('\r\n', at);
    if (line < 0) return undefined;
    const rest = this.buffer.toString('utf8', at + 1, line);
    let end = line + 2;
    switch (String.fromCharCode(this.buffer[at])) {
      case '+': return { value: rest, end };
      case '-': return { value: new Error(rest), end };
      case ':': return { value: Number(rest), end };
      case '$': {
        const size = Number(rest);
        if (size < 0) return { value: null, end };
        if (this.buffer.length < end + size + 2) return undefined;
        return { value: Buffer.from(this.buffer.subarray(end, end + size)), end: end + size + 2 };
      }
      case '*': {
        const list = [];
        for (let i = 0; i < Number(rest); i++) {
          const item = this.#reply(end);
          if (!item) return undefined;
          list.push(item.value);
          end = item.end;
        }
        return { value: list, end };
      }
    }
    return { value: new Error(`a reply that begins with ${this.buffer[at]}`), end };
  }
}

export class Cache {
  constructor(redis, name, { prefix = '', database = 0 } = {}) {
    const own = `${prefix}:{c:${name}}:`;
    this.redis = redis;
    this.data = `${prefix}${name}:`;
    this.epoch = `${own}epoch`;
    this.tags = `${own}tags`;
    this.channel = `${own}events${database ? `@${database}` : ''}`;
    do {
      this.sender = randomBytes(8).readBigUInt64BE();
    } while (this.sender === 0n);
    this.number = 0;
    this.published = 0;
    this.unsure = false; // whether all messages were published
  }

  redisKey(key) {
    return Buffer.concat([Buffer.from(this.data), key]);
  }

  /**
   * The record of an encoded key, fresh and not invalidated; null if there is none. Its payload is
   * what the codec of the cache has made of the value.
   */
  async get(key) {
    const redisKey = this.redisKey(key);
    const [clock, raw, text] = await Promise.all([
      this.redis.command('TIME'), this.redis.command('GET', redisKey), this.redis.command('GET', this.epoch),
    ]);
    const now = BigInt(clock[0].toString()) * 1000000n + BigInt(clock[1].toString());
    if (raw === null) return null;
    try {
      const frame = parseFrame(redisKey, raw);
      const epoch = parseEpoch(text);
      if (frame.kind !== 'value' || state(frame, now) !== 'fresh') return null;
      let tombstones = [];
      if (frame.tags.length && epoch.tags) {
        const fields = frame.tags.map((t) => Buffer.concat([Buffer.from('t:'), t]));
        const [marks, later] = await Promise.all([
          this.redis.command('HMGET', this.tags, '', ...fields), this.redis.command('GET', this.epoch),
        ]);
        const again = parseEpoch(later);
        if (marks[0]?.toString() !== String(epoch.id) || again.id !== epoch.id || again.low !== epoch.low) return null;
        tombstones = marks.slice(1).map((m) => (m === null ? null : parseTombstone(m)));
      }
      return validate(frame, epoch, tombstones, now) === 'valid' ? frame : null;
    } catch (err) {
      if (err instanceof Corrupt) return null;
      throw err;
    }
  }

  #next(kind, body) {
    const base = this.number++;
    const quiet = base ? Math.max(Math.floor(performance.now() - this.published), 0) : 0;
    return message(kind, this.sender, this.number, base, quiet, body);
  }

  async #send(...command) {
    try {
      await this.redis.command(...command);
    } catch (err) {
      this.unsure = true;
      throw err;
    } finally {
      this.published = performance.now();
    }
    if (this.unsure) {
      await this.#watermark(2);
      this.unsure = false;
    }
  }

  async #watermark(flags) {
    const note = message(5, this.sender, this.number, 0, 0, Buffer.from([flags]));
    await this.redis.command('PUBLISH', this.channel, note);
    if (flags & 2) {
      await this.redis.command('PUBLISH', `${this.channel}:c`, note);
    }
  }

  /** Removes keys from Redis and from the local tiers of all processes. */
  async invalidate(...keys) {
    for (const key of keys) {
      const note = this.#next(1, strings([key]));
      await this.#send('EVAL', INVALIDATE, 1, this.redisKey(key), this.channel, note);
    }
  }

  /** Invalidates all values that have one of the tags; without tags, all values. */
  async invalidateTags(...tags) {
    const script = readFileSync(new URL('tombstones.lua', import.meta.url));
    const note = this.#next(4, Buffer.concat([uvarint(tags.length), strings(tags)]));
    const keys = tags.length ? [this.epoch, this.tags] : [this.epoch];
    const fresh = (randomBytes(8).readBigUInt64BE() >> 11n) || 1n;
    const known = [0, 0, 0, fresh];
    await this.#send('EVAL', script, keys.length, ...keys, ...known, 0, '', 20000, 16, this.channel, note, ...tags);
  }

  /** Says that no more messages will come, so that receivers notice if one was lost. */
  async close() {
    if (this.number) {
      await this.#watermark(this.unsure ? 3 : 1);
    }
  }
}

// --- the test vectors -----------------------------------------------------------------

function check(path) {
  const vectors = JSON.parse(readFileSync(path, 'utf8'));
  let checked = 0;
  const sorted = (v) => (v && typeof v === 'object' && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort()) : v);
  const same = (what, got, want) => {
    checked++;
    [got, want] = [got, want].map((v) => JSON.stringify(sorted(v)));
    if (got !== want) throw new Error(`${what}: ${got}, want ${want}`);
  };
  const hex = (text) => Buffer.from(text, 'hex');
  const plain = (v) => (Buffer.isBuffer(v) ? v.toString('hex') : Array.isArray(v) ? v.map(plain) : String(v));
  for (const v of vectors.checksums) {
    same('crc32c', crc32c(hex(v.bytes)).toString(16).padStart(8, '0'), v.crc32c);
    same('xxhash64', xxhash64(hex(v.bytes)).toString(16).padStart(16, '0'), v.xxhash64);
  }
  for (const v of vectors.frames) {
    let frame;
    try {
      frame = parseFrame(hex(v.key), hex(v.bytes));
    } catch (err) {
      if (!(err instanceof Corrupt)) throw err;
      same(v.name, err.constructor.name.toLowerCase(), v.error);
      continue;
    }
    same(v.name, Object.fromEntries(Object.entries(frame).map(([k, x]) => [k, plain(x)])), v.frame);
    for (const at of v.states ?? []) same(v.name, state(frame, BigInt(at.now)), at.state);
  }
  for (const v of vectors.validity) {
    const tombstones = (v.tombstones ?? []).map((t) => (t ? parseTombstone(t) : null));
    const frame = {
      epoch: BigInt(v.record_epoch), logical_time: BigInt(v.logical_time), stored: BigInt(v.stored), cost: Number(v.cost), tags: tombstones,
    };
    same(v.name, validate(frame, parseEpoch(v.epoch), tombstones, BigInt(v.now)), v.verdict);
  }
  for (const text of vectors.bad_epochs) {
    let accepted = true;
    try {
      parseEpoch(text);
    } catch (err) {
      accepted = !(err instanceof Corrupt);
    }
    same(`the epoch ${text}`, accepted, false);
  }
  for (const v of vectors.messages) {
    const list = (v.strings ?? []).map(hex);
    const body = {
      1: () => strings(list),
      4: () => Buffer.concat([uvarint(list.length), strings(list)]),
      5: () => Buffer.from([v.last ? 1 : 0]),
      6: () => Buffer.concat([Buffer.from([v.part]), uvarint(list.length), strings(list)]),
    }[v.kind]();
    same(v.name, message(v.kind, v.sender, v.number, v.base, v.quiet_ms, body).toString('hex'), v.bytes);
  }
  for (const v of vectors.keys) same('a key', encodeKey(...v.fields).toString('hex'), v.encoded);
  for (const v of vectors.names) {
    const c = new Cache(null, v.name, { prefix: v.prefix, database: v.database });
    same('names', [c.data, c.epoch, c.tags, c.channel], [v.data, v.epoch, v.tags, v.channel]);
  }
  for (const v of vectors.parts) {
    const redisKey = Buffer.from(`${v.prefix}${v.name}:${v.key}`);
    same('a slot', slot(redisKey), v.slot);
    same('a part', clockOnACluster(v.prefix, v.name, redisKey), { epoch: v.epoch, tags: v.tags });
  }
  for (const v of vectors.types) {
    same('a type', xxhash64(Buffer.from(`${v.codec}\0${v.type}`)).toString(16).padStart(16, '0'), v.fingerprint);
  }
  console.log(`${checked} checks passed`);
}

async function main(args) {
  const usage = () => {
    console.error('see the beginning of this file');
    process.exitCode = 2;
  };
  const [verb, ...rest] = args;
  if (verb === 'check' && rest.length === 1) return check(rest[0]);
  if (!['get', 'invalidate', 'invalidate-tags', 'clear'].includes(verb) || rest.length < 3) return usage();
  const [host, port, name, ...words] = rest;
  if ((verb === 'clear') === words.length > 0) return usage();
  const redis = await Redis.connect(host, port);
  const cache = new Cache(redis, name, { prefix: process.env.CACHE_PREFIX ?? '' });
  const list = words.map((w) => Buffer.from(w));
  try {
    if (verb === 'get') {
      const frame = await cache.get(list[0]);
      if (frame === null) {
        console.error('miss');
        process.exitCode = 1;
      } else {
        process.stdout.write(Buffer.concat([frame.payload, Buffer.from('\n')]));
      }
    } else if (verb === 'invalidate') {
      await cache.invalidate(...list);
    } else {
      await cache.invalidateTags(...list);
    }
    await cache.close();
  } finally {
    redis.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
