//go:build !race

package cachetest_test

const race = false
