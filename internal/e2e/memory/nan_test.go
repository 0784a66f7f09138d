package memory_test

type coordinate struct{ X, Y float64 }
