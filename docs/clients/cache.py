"""Reads values of a cache of github.com/delqhi/cache, and invalidates them.

Standard library only. It implements docs/format.md, for one Redis server; it
reads what others have stored, and never stores a value.

    python3 cache.py get HOST PORT NAME KEY
    python3 cache.py invalidate HOST PORT NAME KEY...
    python3 cache.py invalidate-tags HOST PORT NAME TAG...
    python3 cache.py clear HOST PORT NAME
    python3 cache.py check vectors.json

CACHE_PREFIX in the environment is the prefix of the cache (cache.WithPrefix).
"""

import binascii
import json
import os
import secrets
import socket
import struct
import sys
import time

MAX_INT64 = (1 << 63) - 1
MASK64 = (1 << 64) - 1
KINDS = {1: "value", 2: "absence", 3: "lease", 4: "failure", 5: "intent"}


class Corrupt(Exception):
    """The bytes are no intact record, message or clock."""


class Foreign(Corrupt):
    """Another program has stored the bytes."""


class Newer(Corrupt):
    """A newer version of the library has stored the bytes."""


# --- checksums -----------------------------------------------------------------


def _crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_CRC = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


_P1, _P2, _P3 = 11400714785074694791, 14029467366897019727, 1609587929392839161
_P4, _P5 = 9650029242287828579, 2870177450012600261


def _rotl(x, n):
    return (x << n | x >> 64 - n) & MASK64


def _round(acc, lane):
    return _rotl((acc + lane * _P2) & MASK64, 31) * _P1 & MASK64


def xxhash64(data):
    n, at = len(data), 0
    if n >= 32:
        acc = [(_P1 + _P2) & MASK64, _P2, 0, -_P1 & MASK64]
        while at <= n - 32:
            for i, lane in enumerate(struct.unpack_from("<4Q", data, at)):
                acc[i] = _round(acc[i], lane)
            at += 32
        h = (_rotl(acc[0], 1) + _rotl(acc[1], 7) + _rotl(acc[2], 12) + _rotl(acc[3], 18)) & MASK64
        for a in acc:
            h = ((h ^ _round(0, a)) * _P1 + _P4) & MASK64
    else:
        h = _P5
    h = (h + n) & MASK64
    while at <= n - 8:
        h = (_rotl(h ^ _round(0, struct.unpack_from("<Q", data, at)[0]), 27) * _P1 + _P4) & MASK64
        at += 8
    if at <= n - 4:
        h = (_rotl(h ^ struct.unpack_from("<I", data, at)[0] * _P1 & MASK64, 23) * _P2 + _P3) & MASK64
        at += 4
    for byte in data[at:]:
        h = _rotl(h ^ byte * _P5 & MASK64, 11) * _P1 & MASK64
    h = (h ^ h >> 33) * _P2 & MASK64
    h = (h ^ h >> 29) * _P3 & MASK64
    return h ^ h >> 32


def uvarint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def read_uvarint(data, at):
    """Returns a number and where it ends. It takes as few bytes as it can."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            break
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if i > 0 and byte == 0 or value > MASK64:
                break
            return value, at + i + 1
    raise Corrupt("a length is cut off, too long or too large")


# --- frames ----------------------------------------------------------------------


def is_sign(raw):
    """Reports whether the bytes behind a lease name those who wait for it."""
    ids = raw[:-1] if len(raw) % 8 == 1 and raw[-1:] == b"\1" else raw
    return len(ids) % 8 == 0 and len(ids) <= 56 and all(0x20 < byte < 0x7F for byte in ids)


def parse_frame(key, raw):
    """Returns the record that the bytes raw are under the Redis key, as a dict."""
    if raw[:3] != b"\xc5dq":
        raise Foreign("not a frame")
    if len(raw) > 3 and raw[3] > 1:
        raise Newer("frame version %d" % raw[3])
    if len(raw) < 36 or raw[3] != 1 or crc32c(raw[:32]) != struct.unpack_from(">I", raw, 32)[0]:
        raise Corrupt("section A")
    if raw[5:8] != b"\0\0\0" or raw[4] not in KINDS:
        raise Newer("kind %d" % raw[4])
    frame = {"kind": KINDS[raw[4]], "id": raw[8:24], "limit": struct.unpack_from(">q", raw, 24)[0]}
    if frame["kind"] in ("lease", "intent"):
        if len(raw) != 36 and not (frame["kind"] == "lease" and is_sign(raw[36:])):
            raise Corrupt("length")
        return frame
    if len(raw) < 108:
        raise Corrupt("length")
    names = ("version", "type", "stored", "fresh", "stale", "logical_time", "epoch", "cost", "extras", "payload")
    frame.update(zip(names, struct.unpack_from(">IQqQQqQIII", raw, 36)))
    end = len(raw) - 8
    if 100 + frame["extras"] + frame["payload"] != end:
        raise Corrupt("lengths")
    if xxhash64(uvarint(len(key)) + key + raw[36:end]) != struct.unpack_from(">Q", raw, end)[0]:
        raise Corrupt("hash")
    at, end_of_extras = 100, 100 + frame.pop("extras")
    frame["tags"], frame["etag"] = [], b""
    while at < end_of_extras:
        kind = raw[at]
        size, at = read_uvarint(raw[:end_of_extras], at + 1)
        if at + size > end_of_extras:
            raise Corrupt("extras")
        body, at = raw[at : at + size], at + size
        if kind == 2 and not frame["etag"]:
            frame["tags"].append(body)
        elif kind == 4 and not frame["etag"] and body:
            frame["etag"] = body
        elif kind in (2, 4):
            raise Corrupt("extras")
        elif kind % 2 == 0:
            raise Newer("extra of type %d" % kind)
    frame["payload"] = raw[end_of_extras:end]
    return frame


def state(frame, now):
    """Whether a value or an absence is "fresh", "stale" or "over" at the time now, in µs."""
    over = frame["limit"] <= 0 or frame["limit"] != MAX_INT64 and now >= frame["limit"]
    if over:
        return "over"
    age = max(now - frame["stored"], 0)
    if frame["fresh"] == 0 or age < frame["fresh"]:
        return "fresh"
    if frame["kind"] == "value" and age < frame["fresh"] + frame["stale"]:
        return "stale"
    return "over"


# --- the logical clock --------------------------------------------------------------


def _numbers(text, head, count):
    words = (text or b"").split(b" ")
    if len(words) != count + 1 or words[0] != head:
        raise Corrupt("clock")
    numbers = []
    for word in words[1:]:
        if not word.isdigit() or len(word) > 16 or str(int(word)).encode() != word or int(word) >= 1 << 53:
            raise Corrupt("clock")
        numbers.append(int(word))
    return numbers


def parse_tombstone(text):
    return dict(zip(("hard", "soft", "next", "when"), _numbers(text, b"m1", 4)))


def parse_epoch(text):
    n = _numbers(text, b"e1", 9)
    epoch = dict(zip(("id", "tick", "clock", "low"), n))
    epoch["all"] = dict(zip(("hard", "soft", "next", "when"), n[4:8]))
    epoch["tags"] = n[8] == 1
    if epoch["id"] == 0 or n[8] > 1 or max(epoch["low"], n[4], n[5], n[6]) > epoch["clock"]:
        raise Corrupt("clock")
    return epoch


def began(frame):
    """When a value began, by Redis's clock in µs; None if that is not known."""
    cost = frame["cost"]
    if cost == 0xFFFFFFFF:
        return None
    if cost >= 1 << 31:
        cost = (cost & (1 << 30) - 1) * (1000 if cost & 1 << 30 else 1)
    return frame["stored"] - cost


def _judge(mark, logical_time, start, now):
    hard = mark["hard"]
    if mark["next"] > hard:
        if 0 < mark["when"] < mark["next"]:  # dated
            if logical_time < mark["next"] and (start is None or start <= mark["when"]):
                return "invalid"
        elif mark["when"] <= now or now < mark["next"] - 1000000:
            hard = mark["next"]
    if logical_time < hard:
        return "invalid"
    return "stale" if logical_time < mark["soft"] else "valid"


def validate(frame, epoch, tombstones, now):
    """Whether no Clear and no invalidation by tag affects a record: "valid", "stale" or
    "invalid". tombstones are those of its tags, None where a tag has none."""
    logical_time = frame["logical_time"]
    if frame["epoch"] != epoch["id"] or logical_time > epoch["clock"]:
        return "invalid"
    if frame["tags"] and logical_time < epoch["low"]:
        return "invalid"
    verdicts = [_judge(m, logical_time, began(frame), now) for m in [epoch["all"]] + tombstones if m]
    return next((v for v in ("invalid", "stale") if v in verdicts), "valid")


# --- messages ----------------------------------------------------------------------


def message(kind, sender, number, base, quiet_ms, body):
    head = b"\xc5dn\x01" + bytes([kind]) + struct.pack(">QQ", sender, number)
    return head + uvarint(number - base) + uvarint(quiet_ms) + body


def strings(items):
    return b"".join(uvarint(len(s)) + s for s in items)


# On a cluster each part of the slots has a logical clock: the first slots of the parts, and the hash
# tags of the keys of their clocks.
PARTS = [
    (0, "dlj"), (2048, "bij"), (2731, "a4q"), (3277, "f5k"), (4096, "1mo"), (5461, "ljg"), (6144, "c7"), (6554, "gw"),
    (8192, "st5"), (9830, "7x5"), (10240, "hb4"), (10923, "hft"), (12288, "77h"), (13107, "3l5"), (13653, "3ki"), (14336, "7ys"),
]


def slot(redis_key):
    """The slot of a Redis key on a cluster."""
    begin = redis_key.find(b"{")
    end = redis_key.find(b"}", begin + 1)
    if begin >= 0 and end > begin + 1:
        redis_key = redis_key[begin + 1 : end]
    return binascii.crc_hqx(redis_key, 0) % 16384


def part(redis_key):
    """The number of the part that a Redis key is in, on a cluster."""
    return max(i for i, (first, _) in enumerate(PARTS) if first <= slot(redis_key))


def clock_on_a_cluster(prefix, name, redis_key):
    """The keys of the logical clock of a Redis key, and of the tombstones of its tags."""
    own = "%s:{c:%s}:" % (prefix, name)
    if "{" not in prefix:
        own = "%s:{%s}:c:%s:" % (prefix, PARTS[part(redis_key)][1], name)
    return own + "epoch", own + "tags"


def encode_key(*fields):
    """The encoded key of a string, an int, a bool, or a struct of several of them."""
    texts = [("true" if f else "false") if isinstance(f, bool) else str(f) for f in fields]
    if len(texts) == 1:
        return texts[0].encode()
    return ":".join(t.replace("%", "%25").replace(":", "%3A") for t in texts).encode()


# --- a cache ------------------------------------------------------------------------

INVALIDATE = b"""
redis.call('UNLINK', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
"""


class Redis:
    """A connection to one server, in RESP2."""

    def __init__(self, host, port, timeout=5):
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def pipeline(self, *commands):
        out = bytearray()
        for words in commands:
            words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
            out += b"*%d\r\n" % len(words)
            for word in words:
                out += b"$%d\r\n%s\r\n" % (len(word), word)
        self.socket.sendall(out)
        replies = [self._reply() for _ in commands]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server has closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        body = self.file.read(int(rest) + 2)
        if len(body) < int(rest) + 2:
            raise ConnectionError("the server has closed the connection")
        return body[:-2]


class Cache:
    def __init__(self, redis, name, prefix="", database=0):
        self.redis = redis
        own = "%s:{c:%s}:" % (prefix, name)
        self.data = ("%s%s:" % (prefix, name)).encode()
        self.epoch, self.tags = own + "epoch", own + "tags"
        self.channel = own + "events" + ("@%d" % database if database else "")
        self.sender, self.number, self.published = secrets.randbelow(MASK64) + 1, 0, 0.0
        self.unsure = False  # whether all messages were published

    def get(self, key):
        """The record of an encoded key, fresh and not invalidated; None if there is none. Its
        payload is what the codec of the cache has made of the value."""
        redis_key = self.data + key
        clock, raw, text = self.redis.pipeline(("TIME",), ("GET", redis_key), ("GET", self.epoch))
        now = int(clock[0]) * 1000000 + int(clock[1])
        if raw is None:
            return None
        try:
            frame, epoch = parse_frame(redis_key, raw), parse_epoch(text)
            if frame["kind"] != "value" or state(frame, now) != "fresh":
                return None
            tombstones = []
            if frame["tags"] and epoch["tags"]:
                fields = [b"t:" + t for t in frame["tags"]]
                marks, again = self.redis.pipeline(("HMGET", self.tags, b"", *fields), ("GET", self.epoch))
                again = parse_epoch(again)
                if marks[0] != str(epoch["id"]).encode() or (again["id"], again["low"]) != (epoch["id"], epoch["low"]):
                    return None
                tombstones = [parse_tombstone(m) if m is not None else None for m in marks[1:]]
            return frame if validate(frame, epoch, tombstones, now) == "valid" else None
        except Corrupt:
            return None

    def _next(self, kind, body):
        base, quiet = self.number, 0
        if base:
            quiet = max(int((time.monotonic() - self.published) * 1000), 0)
        self.number += 1
        return message(kind, self.sender, self.number, base, quiet, body)

    def _send(self, *command):
        try:
            self.redis.pipeline(command)
        except BaseException:
            self.unsure = True
            raise
        finally:
            self.published = time.monotonic()
        if self.unsure:
            self._watermark(2)
            self.unsure = False

    def _watermark(self, flags):
        note = message(5, self.sender, self.number, 0, 0, bytes([flags]))
        self.redis.pipeline(("PUBLISH", self.channel, note))
        if flags & 2:
            self.redis.pipeline(("PUBLISH", self.channel + ":c", note))

    def invalidate(self, *keys):
        """Removes keys from Redis and from the local tiers of all processes."""
        for key in keys:
            note = self._next(1, strings([key]))
            self._send("EVAL", INVALIDATE, 1, self.data + key, self.channel, note)

    def invalidate_tags(self, *tags):
        """Invalidates all values that have one of the tags; without tags, all values."""
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tombstones.lua"), "rb") as f:
            script = f.read()
        note = self._next(4, uvarint(len(tags)) + strings(tags))
        keys = [self.epoch, self.tags] if tags else [self.epoch]
        fresh = secrets.randbelow((1 << 53) - 1) + 1
        known = (0, 0, 0, fresh)
        self._send("EVAL", script, len(keys), *keys, *known, 0, "", 20000, 16, self.channel, note, *tags)

    def close(self):
        """Says that no more messages will come, so that receivers notice if one was lost."""
        if self.number:
            self._watermark(3 if self.unsure else 1)


# --- the test vectors ------------------------------------------------------------------


def check(path):
    with open(path) as f:
        vectors = json.load(f)
    checked = 0

    def same(what, got, want):
        nonlocal checked
        checked += 1
        if got != want:
            sys.exit("%s: %r, want %r" % (what, got, want))

    def plain(value):
        return value.hex() if isinstance(value, bytes) else [v.hex() for v in value] if isinstance(value, list) else str(value)

    for v in vectors["checksums"]:
        data = bytes.fromhex(v["bytes"])
        same("crc32c", "%08x" % crc32c(data), v["crc32c"])
        same("xxhash64", "%016x" % xxhash64(data), v["xxhash64"])
    for v in vectors["frames"]:
        try:
            frame = parse_frame(bytes.fromhex(v["key"]), bytes.fromhex(v["bytes"]))
        except Corrupt as e:
            same(v["name"], type(e).__name__.lower(), v.get("error"))
            continue
        same(v["name"], {k: plain(x) for k, x in frame.items()}, v.get("frame"))
        if frame["kind"] in ("value", "absence"):
            for at in v.get("states") or []:
                same(v["name"], state(frame, int(at["now"])), at["state"])
    for v in vectors["validity"]:
        frame = {"epoch": int(v["record_epoch"]), "logical_time": int(v["logical_time"]), "stored": int(v["stored"]), "cost": int(v["cost"]), "tags": v["tombstones"] or []}
        tombstones = [parse_tombstone(t.encode()) if t else None for t in v["tombstones"] or []]
        same(v["name"], validate(frame, parse_epoch(v["epoch"].encode()), tombstones, int(v["now"])), v["verdict"])
    for text in vectors["bad_epochs"]:
        try:
            parse_epoch(text.encode())
        except Corrupt:
            checked += 1
            continue
        sys.exit("the epoch %r is accepted" % text)
    for v in vectors["messages"]:
        body = {
            1: lambda: strings([bytes.fromhex(k) for k in v.get("strings", [])]),
            4: lambda: uvarint(len(v.get("strings", []))) + strings([bytes.fromhex(k) for k in v.get("strings", [])]),
            5: lambda: bytes([1 if v.get("last") else 0]),
            6: lambda: bytes([v["part"]]) + uvarint(len(v.get("strings", []))) + strings([bytes.fromhex(k) for k in v.get("strings", [])]),
        }[v["kind"]]()
        got = message(v["kind"], int(v["sender"]), int(v["number"]), int(v["base"]), v["quiet_ms"], body)
        same(v["name"], got.hex(), v["bytes"])
    for v in vectors["keys"]:
        same("a key", encode_key(*v["fields"]).hex(), v["encoded"])
    for v in vectors["names"]:
        c = Cache(None, v["name"], v["prefix"], v["database"])
        same("names", [c.data.decode(), c.epoch, c.tags, c.channel], [v["data"], v["epoch"], v["tags"], v["channel"]])
    for v in vectors["parts"]:
        redis_key = ("%s%s:%s" % (v["prefix"], v["name"], v["key"])).encode()
        same("a slot", slot(redis_key), v["slot"])
        same("a part", list(clock_on_a_cluster(v["prefix"], v["name"], redis_key)), [v["epoch"], v["tags"]])
    for v in vectors["types"]:
        same("a type", "%016x" % xxhash64(v["codec"].encode() + b"\0" + v["type"].encode()), v["fingerprint"])
    print("%d checks passed" % checked)


def main(args):
    if len(args) == 2 and args[0] == "check":
        return check(args[1])
    if len(args) < 4 or args[0] not in ("get", "invalidate", "invalidate-tags", "clear"):
        sys.exit(__doc__)
    redis = Redis(args[1], args[2])
    cache = Cache(redis, args[3], os.environ.get("CACHE_PREFIX", ""))
    rest = [a.encode() for a in args[4:]]
    if (args[0] == "clear") == bool(rest):
        sys.exit(__doc__)
    if args[0] == "get":
        frame = cache.get(rest[0])
        if frame is None:
            sys.exit("miss")
        sys.stdout.buffer.write(frame["payload"] + b"\n")
    elif args[0] == "invalidate":
        cache.invalidate(*rest)
    else:
        cache.invalidate_tags(*rest)
    cache.close()
    redis.close()


if __name__ == "__main__":
    main(sys.argv[1:])
