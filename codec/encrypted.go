package codec

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"reflect"
	"sync"
)

// Encrypted seals the encodings of inner with XChaCha20-Poly1305: they can be neither read nor
// changed without the key, nor moved to another Redis key. The first of keys encrypts, all of
// them decrypt. To rotate, first add the new key behind the old one in all processes, then put
// it first, and drop the old one when its last record has expired. A record that no key opens
// is a miss.
//
// A key has 32 random bytes. The 24-byte nonce of each record is random, so that
// there is no practical limit to the records under one key. What remains visible
// are Redis keys, tags, ETags, times, lengths, and which of the keys was used.
// Where only algorithms that FIPS 140 approves may be used, there is [EncryptedAESGCM].
//
// A cache with this codec accepts nothing that was made without the key. The seal of a value,
// an absence or a failure also binds its kind, version, type, times, tags and ETag. The head of
// a record, which an invalidation replaces without reading the rest, has an authenticator of 64
// bits over its limit: a record without a valid one counts as invalidated, so that a party
// without the key can only shorten a life. An invalidate.Client, which has no key, therefore
// ends a value at once where its policy is Delayed. Leases have such an authenticator, too. The
// entries of a write-behind queue are sealed under their key, operation and cache, and so are
// the reasons of dead letters.
//
// A sealed record has no proof that it is the latest one. A party that can write to Redis
// without having the key can still
//
//   - remove and invalidate, hold up loads, and keep keys from being cached;
//   - put back a whole record that was seen under the same key before: an older value
//     until the end of its own life, for ever with strategy.Forever, or one that was
//     invalidated since;
//   - remove, repeat or reorder the entries of a write-behind queue: the source is then
//     called again with an older write of that key;
//   - set back the logical clock, and so restore values that InvalidateTags or Clear has
//     invalidated, until the end of their life;
//   - forge or hold back the messages that invalidate local tiers.
func Encrypted(inner Codec, keys ...[]byte) Codec {
	return encryptedBy("Encrypted", xchacha, inner, keys)
}

// EncryptedAESGCM is [Encrypted] with AES-256-GCM, for programs that may use only algorithms
// that FIPS 140 approves: it works under GODEBUG=fips140=only.
//
// A key has 32 random bytes. Each record is sealed under a key of its own, which HKDF with
// SHA-256 derives from the key and 16 random bytes that the record carries, with a random nonce
// of 12 bytes. So the limit of AES-GCM with random nonces, 2^32 records under one key, does not
// apply: there is no practical limit, as with Encrypted. A record takes 4 bytes more than one
// of Encrypted, and the derivation of its key some more time.
//
// Records of Encrypted are misses to it, and the reverse, also under the same key, which is
// better not used for both.
func EncryptedAESGCM(inner Codec, keys ...[]byte) Codec {
	return encryptedBy("EncryptedAESGCM", aesGCM, inner, keys)
}

func encryptedBy(constructor string, by *algorithm, inner Codec, keys [][]byte) Codec {
	c := &encrypted{constructor: constructor, by: by, inner: inner}
	for i, k := range keys {
		if len(k) != sealKeyLen {
			c.err = errorf("%s: key %d has %d bytes, and must have %d", constructor, i+1, len(k), sealKeyLen)
			continue
		}
		c.keys = append(c.keys, newSealKey(k, by.underKey(k)))
	}
	if len(keys) == 0 {
		c.err = errorf("%s needs a key of %d bytes", constructor, sealKeyLen)
	}
	return c
}

// A record: the version of the algorithm, the id of its key, random bytes, the sealed bytes.
const (
	sealKeyLen = 32
	keyIDLen   = 4
)

type encrypted struct {
	constructor string
	by          *algorithm
	inner       Codec
	keys        []*sealKey
	err         error // what is wrong with the keys
}

type sealKey struct {
	id     [keyIDLen]byte
	cipher keyedCipher
	marks  sync.Pool // of hash.Hash, under a key of its own
}

func newSealKey(key []byte, c keyedCipher) *sealKey {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("github.com/delqhi/cache key of marks"))
	of := h.Sum(nil)
	k := &sealKey{id: keyID(key), cipher: c}
	k.marks.New = func() any { return hmac.New(sha256.New, of) }
	return k
}

// mark is the beginning of an HMAC-SHA-256: 64 bits suffice, because a guess can be tried only
// against processes that read it, one record at a time.
func (k *sealKey) mark(redisKey string, context []byte) (mark [8]byte) {
	h := k.marks.Get().(hash.Hash)
	defer k.marks.Put(h)
	h.Reset()
	var sum [sha256.Size]byte
	n := binary.PutUvarint(sum[:], uint64(len(redisKey)))
	h.Write(sum[:n])
	io.WriteString(h, redisKey)
	h.Write(context)
	copy(mark[:], h.Sum(sum[:0]))
	return mark
}

// keyID distinguishes keys without revealing anything about them.
func keyID(key []byte) (id [keyIDLen]byte) {
	h := sha256.Sum256(append([]byte("github.com/delqhi/cache key id\x00"), key...))
	copy(id[:], h[:])
	return id
}

func (c *encrypted) Name() string { return c.by.name + "(" + innerName(c.inner) + ")" }

// headLen is the length of a record up to the sealed bytes.
func (c *encrypted) headLen() int { return 1 + keyIDLen + c.by.random }

func (c *encrypted) Marshal(dst []byte, v any) ([]byte, error) { return c.MarshalFor("", dst, v) }

func (c *encrypted) Unmarshal(data []byte, v any) error { return c.UnmarshalFor("", data, v) }

// associated is the associated data of a record besides its key: its own head, the codec
// inside, the Redis key and the context, each with its length, so that no two sets of them are
// the same bytes.
func (c *encrypted) associated(head []byte, redisKey string, context []byte) []byte {
	name := innerName(c.inner)
	ad := make([]byte, 0, 3*binary.MaxVarintLen64+len(head)+len(name)+len(redisKey)+len(context))
	ad = append(ad, head...)
	ad = binary.AppendUvarint(ad, uint64(len(name)))
	ad = append(ad, name...)
	ad = binary.AppendUvarint(ad, uint64(len(redisKey)))
	ad = append(ad, redisKey...)
	ad = binary.AppendUvarint(ad, uint64(len(context)))
	return append(ad, context...)
}

func (c *encrypted) MarshalFor(redisKey string, dst []byte, v any) ([]byte, error) {
	return c.MarshalIn(redisKey, nil, dst, v)
}

func (c *encrypted) UnmarshalFor(redisKey string, data []byte, v any) error {
	return c.UnmarshalIn(redisKey, nil, data, v)
}

func (c *encrypted) MarshalIn(redisKey string, context, dst []byte, v any) ([]byte, error) {
	if c.err != nil {
		return dst, c.err
	}
	body := len(dst) + c.headLen()
	out, err := marshalFor(c.inner, redisKey, c.appendHead(dst), v)
	if err != nil {
		return dst, err
	}
	return c.seal(redisKey, context, out, body), nil
}

func (c *encrypted) UnmarshalIn(redisKey string, context, data []byte, v any) error {
	body, err := c.OpenIn(redisKey, context, data)
	if err != nil {
		return err
	}
	return unmarshalFor(c.inner, redisKey, body, v)
}

func (c *encrypted) Seals() bool { return c.err == nil }

func (c *encrypted) SealIn(redisKey string, context, dst, plain []byte) []byte {
	body := len(dst) + c.headLen()
	return c.seal(redisKey, context, append(c.appendHead(dst), plain...), body)
}

// appendHead appends all of a record but the sealed bytes.
func (c *encrypted) appendHead(dst []byte) []byte {
	dst = append(dst, c.by.version)
	dst = append(dst, c.keys[0].id[:]...)
	var random [maxRandom]byte
	rand.Read(random[:c.by.random]) // never fails
	return append(dst, random[:c.by.random]...)
}

// seal seals the end of out from body on; the head precedes it.
func (c *encrypted) seal(redisKey string, context, out []byte, body int) []byte {
	head := out[body-c.headLen() : body]
	ad := c.associated(head[:1+keyIDLen], redisKey, context)
	return c.keys[0].cipher.seal(out[:body], head[1+keyIDLen:], out[body:], ad)
}

func (c *encrypted) OpenIn(redisKey string, context, data []byte) ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	head := c.headLen()
	if len(data) < head+c.by.overhead || data[0] != c.by.version {
		return nil, errorf("not an encrypted record")
	}
	random, sealed := data[1+keyIDLen:head], data[head:]
	ad := c.associated(data[:1+keyIDLen], redisKey, context)
	for _, k := range c.keys {
		if k.id != [keyIDLen]byte(data[1:1+keyIDLen]) {
			continue
		}
		// Into a new buffer: data is not ours to change.
		if body, err := k.cipher.open(random, sealed, ad); err == nil {
			return body, nil
		}
	}
	return nil, errorf("no key opens an encrypted record: it is under another key, was changed, or was moved")
}

func (c *encrypted) Mark(redisKey string, context []byte) [8]byte {
	return c.keys[0].mark(redisKey, context)
}

func (c *encrypted) Marked(redisKey string, context []byte, mark [8]byte) bool {
	for _, k := range c.keys {
		if want := k.mark(redisKey, context); hmac.Equal(want[:], mark[:]) {
			return true
		}
	}
	return false
}

func (c *encrypted) CheckType(t reflect.Type) error {
	if c.err != nil {
		return c.err
	}
	return checkInner(c.constructor, c.inner, t)
}
