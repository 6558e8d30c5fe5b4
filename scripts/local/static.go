package local

import "os"

// Static is the environment in which `go build` compiles as the Makefile does, so that
// Go's cache has most of it already.
func Static() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+os.Getenv("GOFLAGS")+" -trimpath -tags=grpcnotrace")
}
