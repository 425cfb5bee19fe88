# The commands of the house; continuous integration (.ci/run) calls the same ones.
# The servers that tests need are fetched and started by the tests: a real Postgres always, a real
# Kafka broker where there is Java and Maven.

GO      ?= go
TOOL     = $(GO) tool -modfile=.ci/tools/go.mod
FUZZTIME ?= 10s
KILLS    ?= 50
ROTATION ?= 10m
AWAY     ?= 5m
ROWS     ?= 10000
HOURS    ?=
SEEDS    ?= 1000
SEED     ?= 1
FAULTS   ?= $(if $(HOURS),,kill -9=$(KILLS))

.PHONY: help build test test-full check lint alerts vulncheck fuzz-smoke fuzz secure vault rotation matrix failover faults large huge model soak simulate bench

help: ## show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## bin/walferry, static
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/walferry ./cmd/walferry

test: ## vet and all tests under the race detector
	$(GO) vet ./...
	$(GO) test -race -p 4 -timeout 10m ./... # most of it waits for servers
	$(GO) test ./internal/model # all of it: it has no goroutines, and would be ten times slower
	$(GO) test -tags synctests -run TestSimulation ./cmd/walferry

check: build lint test fuzz-smoke ## what should pass before a commit

lint: ## golangci-lint, with the settings and reasons of .golangci.yml
	$(TOOL) golangci-lint run ./...
	$(GO) vet -tags failpoints ./...
	cd bench && $(GO) vet .

alerts: ## the alert rules, each raised and kept quiet by Prometheus' own engine
	cd .ci/rules && $(GO) test -count=1 .

vulncheck: ## known vulnerabilities in what is called
	$(TOOL) govulncheck ./...

fuzz-smoke: ## each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

fuzz: ## all fuzz targets for HOURS together, 8 by default; what they find stays for the next time
	.ci/fuzz $(or $(HOURS),8)h total

vault: ## build the Vault server that tests need, once, in some minutes
	WALFERRY_REQUIRE_VAULT=1 $(GO) test -count=1 -timeout 30m -run TestServer ./internal/vaulttest

test-full: ## every type in every encoding, a row of 200 MB, ROWS random rows, on each of 14 to 18
	set -e; for major in 14 15 16 17 18; do echo "-- Postgres $$major"; \
	WALFERRY_PG=$$major WALFERRY_FULL=1 WALFERRY_ROWS=$(ROWS) $(GO) test -count=1 -timeout 60m ./internal/oracle; done

secure: ## the whole way over SASL_SSL on a real broker, and each way to be refused
	WALFERRY_DELIVERY=both $(GO) test -count=1 -v -timeout 10m -run 'TestSecure|TestRefused' ./internal/e2e

rotation: ## rotate every credential for ROTATION under load, then stop and seal Vault for AWAY each
	WALFERRY_PAUSE=50ms WALFERRY_REQUIRE_VAULT=1 WALFERRY_ROTATION=$(ROTATION) WALFERRY_VAULT_AWAY=$(AWAY) $(GO) test -count=1 -v -timeout 60m -run 'TestRotation|TestFault48' ./internal/e2e

matrix: ## the tests that talk to Postgres, on 14 to 17; test runs on 18
	.ci/matrix

failover: ## promotions of real standbys, with and without slot synchronization, on 14 to 18
	.ci/failover

large: ## 1,200,000 rows, each once, and two minutes without Kafka
	WALFERRY_LARGE=1 WALFERRY_OUTAGE=2m $(GO) test -count=1 -v -timeout 30m -run 'TestLarge|TestFault39_Outage' ./internal/e2e

huge: ## one transaction of 10 GB, with 5 kill -9 within it
	WALFERRY_HUGE=10 $(GO) test -count=1 -v -timeout 90m -run TestFault24_Huge ./internal/e2e

faults: ## every nemesis once, every fail point, the commands of an operator, and what must wait for a timeout
	WALFERRY_LONG=1 WALFERRY_FAILPOINTS=1 WALFERRY_FAULTS='each=1' $(GO) test -count=1 -timeout 30m \
		-run 'TestFault(02|05|1[34]|2|4|5)|TestError|TestMistake|TestLag|TestStatus|TestFail|TestSoak|TestOperator|TestIdle|TestApply|TestDoctor|TestCanariesOfVault' ./internal/e2e
	WALFERRY_LONG=1 $(GO) test -count=1 -timeout 10m -run TestPlanRoundTrips ./replication

model: ## every order of steps and faults within the larger bounds, some GB of memory
	WALFERRY_MODEL=large $(GO) test -count=1 -v -timeout 60m ./internal/model

soak: ## KILLS kill -9 under load and while starting, or every nemesis for HOURS, or FAULTS; then a summary
	WALFERRY_DELIVERY=$${WALFERRY_DELIVERY:-$(if $(HOURS),exactly_once,both)} WALFERRY_HOURS='$(HOURS)' WALFERRY_FAULTS='$(FAULTS)' WALFERRY_KILLS=$(KILLS) \
		$(GO) test -count=1 -v -timeout 0 -run '$(if $(HOURS),,TestFault02_KilledWhileStarting|)TestSoak' ./internal/e2e

simulate: ## a world of faults on a clock that skips waits: SEEDS seeds from SEED on
	WALFERRY_SEED=$(SEED) WALFERRY_SEEDS=$(SEEDS) $(GO) test -tags synctests -count=1 -v -timeout 0 -run 'TestSimulation$$' ./cmd/walferry

bench: ## drain a backlog beside pg_recvlogical, about a minute; see docs/benchmarks.md
	cd bench && $(GO) run .
