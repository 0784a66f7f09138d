package outbox_test

func beChild() bool { return false }
