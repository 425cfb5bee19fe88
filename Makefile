# The commands of the house; continuous integration (.ci/run) calls the same ones.
# The servers that tests need are fetched and started by the tests: a real Postgres always, a real
# Kafka broker where there is Java and Maven.

GO      ?= go
TOOL     = $(GO) tool -modfile=.ci/tools/go.mod
FUZZTIME ?= 10s

.PHONY: help build test check lint vulncheck fuzz-smoke matrix

help: ## show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## bin/walferry, static
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/walferry ./cmd/walferry

test: ## vet and all tests under the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout 10m ./...

check: build lint test fuzz-smoke ## everything but the matrix

lint: ## golangci-lint, with the settings and reasons of .golangci.yml
	$(TOOL) golangci-lint run ./...

vulncheck: ## known vulnerabilities in what is called
	$(TOOL) govulncheck ./...

fuzz-smoke: ## each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

matrix: ## the tests that talk to Postgres, on 14 to 18
	.ci/matrix
