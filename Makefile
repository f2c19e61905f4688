# make demo: see a failover.  make test: what CI runs.  Both install what they need.

PREFIX  ?= /usr/local
GO      ?= go
# Time for each fuzz target of "make fuzz".
FUZZTIME ?= 10s
# Versions of the optional linters.
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCILINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Tests that need a kernel with ESP are those of packages that use the harness.
# They take turns, because a measurement that shares the machine measures the other.
# Those with real IKE daemons have a target of their own.
DRILLS = $$($(GO) list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}} ' ./... | sed -n -e '/^sasyncd\/tests\/ike /d' -e 's, .*sasyncd/tests/harness .*,,p')
UNITS  = $$($(GO) list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}} ' ./... | sed -e '/ sasyncd\/tests\/harness /d' -e 's, .*,,')

.PHONY: all deps build demo test unit drill drill-ike lint bench microbench bench-election fuzz install clean
all: build

deps:
	@./.ci/deps

build:
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/...

demo: deps
	@mkdir -p bin
	@$(GO) build -o bin/demo ./tests/demo
	@./bin/demo

test: deps
	$(GO) vet ./...
	$(MAKE) --no-print-directory unit drill

unit:
	$(GO) test -race -timeout 6m $(UNITS)

drill:
	$(GO) test -p 1 -timeout 15m $(DRILLS)

# With strongSwan, libreswan and OpenIKED from Debian.
drill-ike:
	@./.ci/deps charon-systemd strongswan-swanctl libstrongswan-standard-plugins libcharon-extra-plugins openiked \
		libnss3-tools libldns3 libunbound8 libevent-core-2.1-7 libevent-pthreads-2.1-7 libcurl3-nss libldap-2.5-0 libcap-ng0 libaudit1
	@./.ci/libreswan dist/libreswan
	$(GO) test -p 1 -timeout 30m ./tests/ike

lint:
	@test -z "$$(gofmt -l .)" || { echo "gofmt is needed on:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(GOLANGCILINT) run

# The promised figures of replication, as a table and in dist/bench.json.
bench: deps
	@mkdir -p bin dist
	@$(GO) build -o bin/bench ./tests/bench
	@./bin/bench > dist/bench.json
	$(MAKE) --no-print-directory bench-election

# Benchmarks of single parts.
microbench:
	$(GO) test -run '^$$' -bench . -benchmem $(UNITS)

# The gap of a failover beside keepalived's, with the same timers.
bench-election: deps
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 60m ./tests/bench/election

# Go fuzzes one target at a time.
fuzz:
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$(dirname "$$file") $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
		done; \
	done

# Daemons go to sbin, control programs to bin; what deploy/ has goes where Debian looks for it.
install: build
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin
	for p in bin/*ctl; do [ ! -e "$$p" ] || install -m 755 "$$p" $(DESTDIR)$(PREFIX)/bin/; done
	for p in sasyncd carpd; do [ ! -e "bin/$$p" ] || install -m 755 "bin/$$p" $(DESTDIR)$(PREFIX)/sbin/; done
	for s in 5 8; do for m in deploy/man/*.$$s; do [ ! -e "$$m" ] || install -D -m 644 "$$m" "$(DESTDIR)$(PREFIX)/share/man/man$$s/$$(basename "$$m")"; done; done
	for u in deploy/systemd/*.service.d/*.conf; do [ ! -e "$$u" ] || install -D -m 644 "$$u" "$(DESTDIR)$(PREFIX)/lib/systemd/system/$${u#deploy/systemd/}"; done
	for u in deploy/systemd/*.service; do [ ! -e "$$u" ] || install -D -m 644 "$$u" "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$(basename "$$u")"; done
	for p in sasyncd carpd sasyncctl carpctl; do \
		install -D -m 644 deploy/completions/bash/$$p "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$p"; \
		install -D -m 644 deploy/completions/zsh/_$$p "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$p"; \
		install -D -m 644 deploy/completions/fish/$$p.fish "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$p.fish"; done

clean:
	rm -rf bin dist
