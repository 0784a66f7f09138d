package codec

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"reflect"

	"golang.org/x/crypto/chacha20poly1305"
)

// Encrypted seals what inner encodes with XChaCha20-Poly1305: it can be neither
// read nor changed without the key, nor moved to another Redis key. The first of
// keys encrypts, all of them decrypt: to rotate, put the new key first, and drop
// the old one when its last record has expired. A record that no key opens is a
// miss.
//
// A key has 32 random bytes. The 24-byte nonce of each record is random, so that
// there is no practical limit to the records under one key. What remains visible
// is the length, and which of the keys was used.
func Encrypted(inner Codec, keys ...[]byte) Codec {
	c := &encrypted{inner: inner}
	for i, k := range keys {
		aead, err := chacha20poly1305.NewX(k)
		if err != nil {
			c.err = errorf("Encrypted: key %d has %d bytes, and must have %d", i+1, len(k), chacha20poly1305.KeySize)
			continue
		}
		c.keys = append(c.keys, sealer{id: keyID(k), aead: aead})
	}
	if len(keys) == 0 {
		c.err = errorf("Encrypted needs a key of %d bytes", chacha20poly1305.KeySize)
	}
	return c
}

// A record: a version, the id of its key, the nonce, the sealed bytes.
const (
	sealVersion = 1
	keyIDLen    = 4
	sealHead    = 1 + keyIDLen + chacha20poly1305.NonceSizeX
)

type encrypted struct {
	inner Codec
	keys  []sealer
	err   error // what is wrong with the keys
}

type sealer struct {
	id   [keyIDLen]byte
	aead cipher.AEAD
}

// keyID tells keys apart without telling anything of them.
func keyID(key []byte) (id [keyIDLen]byte) {
	h := sha256.Sum256(append([]byte("github.com/delqhi/cache key id\x00"), key...))
	copy(id[:], h[:])
	return id
}

func (c *encrypted) Name() string { return "xchacha20poly1305(" + innerName(c.inner) + ")" }

func (c *encrypted) Marshal(dst []byte, v any) ([]byte, error) { return c.MarshalFor("", dst, v) }

func (c *encrypted) Unmarshal(data []byte, v any) error { return c.UnmarshalFor("", data, v) }

// associated is what a record is bound to besides its key: its own head, the
// codec inside and the Redis key, each with its length, so that no two sets of them
// are the same bytes.
func (c *encrypted) associated(head []byte, redisKey string) []byte {
	name := innerName(c.inner)
	ad := make([]byte, 0, 2*binary.MaxVarintLen64+len(head)+len(name)+len(redisKey))
	ad = append(ad, head...)
	ad = binary.AppendUvarint(ad, uint64(len(name)))
	ad = append(ad, name...)
	ad = binary.AppendUvarint(ad, uint64(len(redisKey)))
	return append(ad, redisKey...)
}

func (c *encrypted) MarshalFor(redisKey string, dst []byte, v any) ([]byte, error) {
	if c.err != nil {
		return dst, c.err
	}
	k := c.keys[0]
	start := len(dst)
	out := append(dst, sealVersion)
	out = append(out, k.id[:]...)
	var nonce [chacha20poly1305.NonceSizeX]byte
	rand.Read(nonce[:]) // never fails
	out = append(out, nonce[:]...)
	body := len(out)
	out, err := marshalFor(c.inner, redisKey, out, v)
	if err != nil {
		return dst, err
	}
	ad := c.associated(out[start:start+1+keyIDLen], redisKey)
	return k.aead.Seal(out[:body], nonce[:], out[body:], ad), nil
}

func (c *encrypted) UnmarshalFor(redisKey string, data []byte, v any) error {
	if c.err != nil {
		return c.err
	}
	if len(data) < sealHead+chacha20poly1305.Overhead || data[0] != sealVersion {
		return errorf("not an encrypted record")
	}
	nonce, sealed := data[1+keyIDLen:sealHead], data[sealHead:]
	ad := c.associated(data[:1+keyIDLen], redisKey)
	for _, k := range c.keys {
		if k.id != [keyIDLen]byte(data[1:1+keyIDLen]) {
			continue
		}
		// Into a new buffer: data is not ours to change.
		if body, err := k.aead.Open(nil, nonce, sealed, ad); err == nil {
			return unmarshalFor(c.inner, redisKey, body, v)
		}
	}
	return errorf("no key opens an encrypted record: it is under another key, was changed, or was moved")
}

func (c *encrypted) CheckType(t reflect.Type) error {
	if c.err != nil {
		return c.err
	}
	return checkInner("Encrypted", c.inner, t)
}
