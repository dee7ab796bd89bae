# The two promises of the README are `make run` and `make test`; the rest is for daily work.
# Everything runs on a machine with Go and nothing else; `make test` installs what more it
# needs when it is root on Debian.

GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.8.0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS = -s -w -X main.version=$(VERSION)

.PHONY: run build test check quick fuzz bench man clean

run: build ## plays the five stories of the lab
	./bin/mxward lab

build: ## builds bin/mxward
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/mxward ./cmd/mxward

test: ## everything: setup, vet, linters, all tests with -race, end to end; ends with a count
	sh test/run.sh

check: ## what can be said without running anything
	@test -z "$$(gofmt -l cmd docs internal test)" || { gofmt -l cmd docs internal test; echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

quick: ## the tests of the packages, without the race detector and the end-to-end tests
	$(GO) test ./cmd/... ./internal/...

fuzz: ## every fuzz target for FUZZTIME (default 10s)
	sh test/fuzz.sh $(or $(FUZZTIME),10s)

bench: build ## speed and memory beside the peers
	sh test/setup.sh
	$(GO) run ./test/load

man: build ## man pages and completions into bin/
	./bin/mxward man bin/man
	mkdir -p bin/completions
	for s in bash zsh fish; do ./bin/mxward completion $$s > bin/completions/mxward.$$s; done

clean:
	rm -rf bin

vulncheck:
	$(GO) run $(GOVULNCHECK) ./...
.PHONY: vulncheck
