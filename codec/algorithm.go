package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"

	"golang.org/x/crypto/chacha20poly1305"
)

// An algorithm seals the records of an encrypted codec.
type algorithm struct {
	name     string // part of the codec's name
	version  byte   // the first byte of its records
	random   int    // random bytes in a record's head
	overhead int    // by how much sealed bytes are longer than plain ones
	underKey func(key []byte) keyedCipher
}

// A keyedCipher seals and opens under one key. random are the random bytes of the record.
type keyedCipher interface {
	// seal appends plain, sealed, to dst; plain may be the bytes that follow dst.
	seal(dst, random, plain, associated []byte) []byte
	// open returns the plain bytes, in a new slice.
	open(random, sealed, associated []byte) ([]byte, error)
}

// maxRandom is the greatest number of random bytes of any algorithm.
const maxRandom = chacha20poly1305.NonceSizeX

var xchacha = &algorithm{
	name: "xchacha20poly1305", version: 1, random: chacha20poly1305.NonceSizeX, overhead: chacha20poly1305.Overhead,
	underKey: func(key []byte) keyedCipher {
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			panic(err) // the length was checked
		}
		return xchachaKey{aead}
	},
}

type xchachaKey struct{ aead cipher.AEAD }

func (k xchachaKey) seal(dst, random, plain, associated []byte) []byte {
	return k.aead.Seal(dst, random, plain, associated)
}

func (k xchachaKey) open(random, sealed, associated []byte) ([]byte, error) {
	return k.aead.Open(nil, random, sealed, associated)
}

const (
	gcmNonce = 12
	gcmTag   = 16
)

// With AES-GCM the sealed bytes begin with the nonce: only a nonce that the module itself draws
// is approved.
var aesGCM = &algorithm{
	name: "aes256gcm", version: 2, random: 16, overhead: gcmNonce + gcmTag,
	underKey: func(key []byte) keyedCipher { return aesGCMKey{append([]byte(nil), key...)} },
}

type aesGCMKey struct{ key []byte }

// of returns the cipher of the record with these random bytes. The key is uniformly random, so
// that no extraction precedes the expansion of HKDF.
func (k aesGCMKey) of(random []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Expand(sha256.New, k.key, "github.com/delqhi/cache AES-256-GCM record\x00"+string(random), sealKeyLen)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (k aesGCMKey) seal(dst, random, plain, associated []byte) []byte {
	aead, err := k.of(random)
	if err != nil {
		panic(err) // for no key of this length
	}
	return aead.Seal(dst, nil, plain, associated)
}

func (k aesGCMKey) open(random, sealed, associated []byte) ([]byte, error) {
	aead, err := k.of(random)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, sealed, associated)
}
