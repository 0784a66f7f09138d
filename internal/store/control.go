package store

// ControlChannel is the channel of the messages that concern more than the keys that they name: of
// patterns, of tags and of everything. They are published on the channel of all messages as well.
// A process that has its keys tracked one by one receives these only; see [Subscription].ByKey.
func ControlChannel(channel string) string { return channel + controlPart }

const controlPart = ":c"
