package store

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

// The sign behind a lease names the processes that wait for the end of its load: each by an id,
// which also names a channel that only this process subscribes to. So the end of a load costs
// what those who wait for it cost, however many listen. Where more wait than a sign can name, a last
// byte says so, and the end is told to all.

const (
	// WaiterLen is the length of the id of a waiter.
	WaiterLen = 8

	// WaitersMax is how many a sign can name, so that a lease with its sign is no longer than
	// what GetHeader reads.
	WaitersMax = 7

	// allWait is the last byte of the sign if others wait than those it names.
	allWait = 1
)

// NewWaiter returns an id for one that waits. Two equal ones would cost messages in vain, and
// nothing else.
func NewWaiter() string {
	var b [WaiterLen * 6 / 8]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// WaiterChannel is the channel of one that waits for what is told on another channel.
func WaiterChannel(channel, waiter string) string { return channel + waiterPart + waiter }

const waiterPart = ":w:"

// SignOf returns the sign of a lease; it is empty if the record has none, or is no lease.
func SignOf(raw []byte) []byte {
	if len(raw) <= SealLen || !IsLease(raw) {
		return nil
	}
	return raw[SealLen:]
}

// TellsAll reports whether the end of a load with this sign is told to all.
func TellsAll(sign []byte) bool { return len(sign)%WaiterLen == 1 }

// Tells reports whether the end of a load with this sign is told to a waiter.
func Tells(sign []byte, waiter string) bool {
	if TellsAll(sign) {
		return true
	}
	for i := 0; i+WaiterLen <= len(sign); i += WaiterLen {
		if string(sign[i:i+WaiterLen]) == waiter {
			return true
		}
	}
	return false
}

// SignFor returns a sign that also names a waiter; "": all.
func SignFor(sign []byte, waiter string) []byte {
	switch {
	case TellsAll(sign) || waiter != "" && Tells(sign, waiter):
		return sign
	case waiter == "" || len(sign) >= WaitersMax*WaiterLen:
		return append(bytes.Clone(sign), allWait)
	}
	return append(bytes.Clone(sign), waiter...)
}

// ToldBy returns the channels on which the end of a load with this sign is published, which is
// otherwise published on the given one.
func ToldBy(sign []byte, channel string) (channels []string) {
	for i := 0; i+WaiterLen <= len(sign); i += WaiterLen {
		channels = append(channels, WaiterChannel(channel, string(sign[i:i+WaiterLen])))
	}
	if TellsAll(sign) {
		channels = append(channels, channel)
	}
	return channels
}

// checkWaiter refuses an id that would make a sign unreadable.
func checkWaiter(waiter string) error {
	if len(waiter) != 0 && len(waiter) != WaiterLen {
		return fmt.Errorf("store: the id of a waiter has %d bytes", len(waiter))
	}
	for i := range len(waiter) {
		if waiter[i] <= ' ' || waiter[i] > '~' {
			return fmt.Errorf("store: the id of a waiter has the byte %d", waiter[i])
		}
	}
	return nil
}
