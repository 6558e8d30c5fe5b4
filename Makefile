# `make up` starts three nodes on this machine, `make test` proves that all of it works.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# How what ships is compiled; the checks do it the same way, so that it is done once.
# grpcnotrace leaves out a debug page of gRPC, which S3's client library links, and with
# it a third of acts: the linker keeps every method for its templates.
STATIC  := CGO_ENABLED=0 GOFLAGS="$$(go env GOFLAGS) -trimpath -tags=grpcnotrace"
LDFLAGS := -s -w -X main.version=$(VERSION)
BINS    := bin/orchd bin/orchctl bin/acts
SOURCES := $(shell find cmd fsm proxy agent acts -type f -not -name '*_test.go' 2>/dev/null) go.mod go.sum
NODES   ?= 3

.DEFAULT_GOAL := help
.PHONY: help build image up down test lint fuzz bench bench-repair bench-proxy bench-acts load clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(BINS) ## the programs, static, into bin/

bin/%: $(SOURCES)
	@mkdir -p bin
	$(STATIC) go build -ldflags '$(LDFLAGS)' -o $@ ./cmd/$*

image: bin/acts ## the image acts:latest, FROM scratch, where there is a Docker Engine
	@if docker version >/dev/null 2>&1; then docker build -q -t acts:latest -f deploy/Dockerfile.acts . >/dev/null; fi

up: build image ## start NODES=3 nodes with acts on them; prints where and what to try
	@NODES=$(NODES) scripts/cluster up

down: build ## stop and remove everything that `make up` made
	@scripts/cluster down

test: ## every test, with the race detector, on the real Docker Engine where there is one
	$(STATIC) go vet ./...
	$(STATIC) go tool staticcheck ./...
	go test -race -p 1 -timeout 20m $$(go list ./... | grep -v /scripts/e2e)
	$(STATIC) go test -run Million ./agent/consensus
	$(STATIC) go test -run AllocatesNothing ./proxy
	go test -race -count=1 -timeout 20m ./scripts/e2e # it builds the programs itself, which the cache knows nothing of

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt'ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(STATIC) go vet ./...
	$(STATIC) go tool staticcheck ./...

fuzz: ## every fuzz target, 20 s each
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime 20s $$p || exit 1; done; done

bench: ## Go benchmarks: the pick of a request, turns and snapshots of the state, the engine
	go test -run '^$$' -bench . -benchmem ./proxy ./fsm ./agent/engine

bench-repair: build image ## 20 kills, crashes and lost leaders each: median and worst time to repair
	@go run ./scripts/repair

bench-acts: bin/acts ## the photo service alone, on SQLite and PostgreSQL: pages, uploads, memory; ARGS='-flood 0', -help lists them
	@go run ./scripts/bench-acts $(ARGS)

bench-proxy: ## the proxy against HAProxy, nginx and Caddy, as far as they are installed; ARGS='-loads small -rounds 5', -help lists them
	@go run ./scripts/bench-proxy $(ARGS)

load: ## visit the service on 127.0.0.1 as people do, in bursts; ARGS='-for 10m -rate 20', -help lists them
	@go run ./scripts/load $(ARGS)

clean: ## remove what was built
	rm -rf bin artifacts
