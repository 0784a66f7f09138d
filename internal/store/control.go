package store

import "strings"

// ControlChannel is the channel of the messages that concern more than the keys that they name: of
// patterns, of tags and of everything. They are published on the channel of all messages as well.
// A process that has its keys tracked one by one receives these only; see [Subscription].ByKey.
func ControlChannel(channel string) string { return channel + controlPart }

// PresenceChannel is a channel of a cluster that all sessions subscribe to that receive what is published
// on a channel, or on its control channel. Nothing is published there: it shows whether they are at the node
// that publishes.
func PresenceChannel(channel string) string {
	return strings.TrimSuffix(channel, controlPart) + presencePart
}

const presencePart = ":p"

const controlPart = ":c"
