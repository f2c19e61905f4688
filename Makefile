# make demo: see a failover.  make test: what CI runs.  Both install what they need.

PREFIX  ?= /usr/local
# Fedora since 42 and Arch Linux have no other directory than /usr/bin.
SBINDIR ?= $(PREFIX)/sbin
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
# What starts daemons: systemd or openrc.
INIT    ?= systemd
GO      ?= go
BIN     ?= bin
# Further flags of the build.
STAMP   ?=
# What -V says; empty: what the sources know.
RELEASE ?=
DEBARCH ?= $$($(GO) env GOARCH)
# Of "make packages" and the checks.
PACKARCH ?= amd64 arm64
FORMATS  ?= deb rpm apk archlinux
IMAGEARCH ?= $$($(GO) env GOARCH)
# Time for each fuzz target of "make fuzz".
FUZZTIME ?= 1m
KEEP     ?= 0
PICK     ?= .
# Of "make soak"; seed 0 takes one from the clock.
DURATION ?= 60m
SEED     ?= 0
# Versions of the optional linters, and of what makes packages.
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
NFPM         = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.48.0
GOLANGCILINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Tests that need a kernel with ESP are those of packages that use the harness.
# They take turns, because a measurement that shares the machine measures the other.
# What takes long, or needs what Debian does not install beside the rest, is in
# packages of tests/ that have a target of their own.
APART  = ike managers monitor matrix hostile routed firewall nodes shapes wireguard install check\/guest
DRILLS = $$($(GO) list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}} ' ./... | sed -n $(APART:%=-e '/^sasyncd\/tests\/% /d') -e 's, .*sasyncd/tests/harness .*,,p')
UNITS  = $$($(GO) list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}} ' ./... | sed -e '/ sasyncd\/tests\/harness /d' -e '/^sasyncd\/cmd\/internal\/page\/browser /d' -e 's, .*,,')

# With a kernel of their own: see tests/harness/qemu.go.
QEMU = SASYNCD_GUEST=qemu $(GO) test -count=1 -p 1

.PHONY: all deps deps-qemu build demo test unit lint bench microbench bench-native soak scale fuzz install install-systemd install-openrc deb packages check-deb check-packages image clean \
	drill drill-long drill-static drill-examples drill-thousand drill-matrix drill-check drill-leaks drill-nodes drill-kernels drill-managers mutants reliability drill-ike drill-shapes drill-package drill-page drill-prometheus drill-hostile drill-race drill-qemu drill-ground ground fresh gate gate-page
all: build

deps:
	@./.ci/deps

build:
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath $(STAMP) -ldflags '-s -w -buildid= -X sasyncd/cmd/internal/daemon.release=$(RELEASE)' -o $(BIN)/ ./cmd/...

demo: deps
	@mkdir -p bin
	@$(GO) build -o bin/demo ./tests/demo
	@./bin/demo

test: deps
	$(GO) vet ./...
	$(MAKE) --no-print-directory unit drill

# The commands of the README on a new machine: a clone of the last commit in a minimal
# root of Debian 12, some 30 minutes. FRESH="make unit": these commands instead.
FRESH ?=
fresh:
	@./.ci/fresh dist/fresh $(if $(FRESH),"$(FRESH)")

# Drills with the kernel, the tools and the daemons of another release of Debian, in a
# root directory of it: GROUND=trixie (Debian 13) or sid. The results go into
# docs/platforms.md. "make ground-sid-drill-ike": one target on one release.
GROUND ?= trixie
ground:
	@./.ci/ground $(GROUND)
drill-ground:
	@$(MAKE) --no-print-directory gate GATES="ground-$(GROUND)-*"
ground-%:
	@./.ci/ground $(firstword $(subst -, ,$*)) "make $(patsubst $(firstword $(subst -, ,$*))-%,%,$*)"

# The tests of one folder of tests/.
suite-%: deps
	$(GO) test -count=1 -timeout 20m -skip '$(SKIP)' ./tests/$*

unit:
	$(GO) test -race -timeout 15m $(UNITS)

# Drills of tests/drills that have a target of their own, to keep "make test" below 20
# minutes: TestExamplePair, which is the README's deployment, stays.
EXAMPLES = TestExample(CARP|Keepalived|Fencing|Tracking)

# TestHogs leaves a machine nothing, so what else runs on it decides with. Daemons are
# built by the tests, so a result that go has kept says nothing of them.
SKIP = ^(TestHogs|TestStaticKeys|TestLeaks(Table|Both|Rows)|$(EXAMPLES))$$
drill:
	$(GO) test -count=1 -p 1 -timeout 15m -skip '$(SKIP)' $(DRILLS)

# What takes long, or has to have the machine to itself, and is not in "make test".
drill-long: deps
	$(GO) test -timeout 15m -run '^TestHogs$$' ./tests/election -args -hogs 60s
	$(GO) test -count=1 -timeout 15m -run '^TestBFDWithFRR$$' ./tests/interop -args -brisk

# Gateways without an IKE daemon: the files of deploy/examples/static. The same in
# virtual time is in "make test" (tests/simulation).
drill-static: deps
	$(GO) test -count=1 -v -timeout 15m -run '^TestStaticKeys$$' ./tests/drills

# The files of deploy/examples/carp with openbsd, keepalived, fencing and tracking.
drill-examples: deps
	$(GO) test -count=1 -timeout 15m -run '^$(EXAMPLES)$$' ./tests/drills

# Each gateway is a kernel of its own, which can lose its power or stand still, and
# a switch of ours joins them.
drill-nodes:
	@./.ci/deps
	$(GO) test -count=1 -timeout 30m -skip '^TestTwoKernels$$' ./tests/nodes

# A pair of two kernels: this release's and that of the release before. Debian 13 and
# sid have one; on Debian 12: make ground-trixie-drill-kernels.
drill-kernels: deps
	@other=$$(./.ci/uml $(CURDIR)/dist) && $(GO) test -count=1 -v -timeout 15m -run '^TestTwoKernels$$' ./tests/nodes -args -other "$$other"

# The leak guard with real ESP, by each wall. user-mode-linux lacks a part of nf_tables
# (fib), so the table is tried under qemu; "make test" tries the routes, and no guard.
# ONLY="regular expression" for some rows.
drill-leaks: deps-qemu
	@mkdir -p dist
	$(QEMU) -timeout 60m -v -run '^TestLeaks$(if $(ONLY),.*/$(ONLY))' ./tests/drills -args -version "$(VERSION)" > dist/leaks.log; \
		status=$$?; grep -v -e '^matrix-result' -e '^=== ' dist/leaks.log; exit $$status

# What is tested, for docs/reliability.md.
VERSION = $$(git describe --always --dirty 2>/dev/null || echo unknown)
FAILOVERS ?= 1000
# Parts of fault/moment, separated by commas; empty for all.
ONLY ?=

# A thousand failovers in a row, in some 20 minutes.
drill-thousand: deps
	@mkdir -p dist
	$(GO) test -count=1 -timeout 58m -run '^TestFailovers$$' -v ./tests/matrix -args -failovers $(FAILOVERS) -seed $(SEED) -version "$(VERSION)" > dist/thousand.log; \
		status=$$?; grep -v '^matrix-result' dist/thousand.log; exit $$status

# Every fault at every moment, in some 25 minutes; ONLY="fault/moment" for some.
drill-matrix: deps
	@mkdir -p dist
	$(GO) test -count=1 -timeout 90m -run '^TestMatrix$$' -v ./tests/matrix -args -only "$(ONLY)" -seed $(SEED) -version "$(VERSION)" > dist/matrix.log; \
		status=$$?; grep -v '^matrix-result' dist/matrix.log; exit $$status

# What sasyncctl check says in every situation of tests/check, against real failovers:
# natively, then in the guest what needs ESP. ONLY="regular expression" for some.
drill-check: deps
	@mkdir -p dist
	$(GO) test -count=1 -timeout 60m -v -p 1 ./tests/check/native ./tests/check/guest -args -all -only "$(ONLY)" -version "$(VERSION)" > dist/check.log; \
		status=$$?; grep -v -e '^matrix-result' -e '^=== ' dist/check.log; exit $$status

# Each invariant without its mechanism: a test must notice.
mutants:
	@mkdir -p dist
	$(GO) test -count=1 -timeout 30m -v ./tests/mutants -args -all -version "$(VERSION)" > dist/mutants.log; \
		status=$$?; grep -v '^matrix-result' dist/mutants.log; exit $$status

# docs/reliability.md, of what these have printed; what was not run again stays.
reliability:
	@cat dist/thousand.log dist/matrix.log dist/mutants.log dist/check.log dist/leaks.log 2>/dev/null | $(GO) run ./tests/reliability/generate

# All gates of tests/gate before a release, one after the other, in some 8 hours, into
# docs/drills.json and docs/drills.md. GATES="drill-nodes mutants": only these.
# CONTINUE=1 leaves out what has passed at this commit.
GATES    ?=
CONTINUE ?=
gate:
	@mkdir -p bin
	@$(GO) build -o bin/gate ./tests/gate/run
	@GO="$(GO)" ./bin/gate $(if $(CONTINUE),-continue) $(GATES)

# docs/drills.md, of tests/gate/data.go and docs/drills.json.
gate-page:
	@$(GO) run ./tests/gate/run -page

# With strongSwan, libreswan and OpenIKED from Debian.
drill-ike:
	@./.ci/deps charon-systemd strongswan-swanctl libstrongswan-standard-plugins libcharon-extra-plugins openiked
	@./.ci/libreswan dist/libreswan
	@./.ci/libreswan dist/libreswan-trixie trixie
	$(GO) test -v -count=1 -p 1 -timeout 30m ./tests/ike

# Other shapes of VPNs: transport mode, GRE with BGP; WireGuard on a virtual IP.
drill-shapes:
	@./.ci/deps wireguard-go wireguard-tools
	$(GO) test -p 1 -timeout 15m ./tests/shapes ./tests/wireguard

# Floods, slow senders, forgeries and nonsense, against a pair that must not mind.
drill-hostile: deps
	$(GO) test -count=1 -v -timeout 15m ./tests/hostile

deps-qemu: deps
	@./.ci/deps qemu-system-x86 kmod conntrackd conntrack
	@./.ci/qemu dist/qemu

# The drills with the race detector in daemons and tests, on Debian's cloud kernel
# under qemu; those of the election, which needs no ESP, on this one if we are root.
# Where the processor has to be emulated everything takes 12 times as
# long as elsewhere; SASYNCD_SLOW=N: N times.
drill-race: deps-qemu
	$(QEMU) -race -timeout 90m ./tests/conformance ./tests/replication ./tests/drills
	$(GO) test -race -count=1 -timeout 30m -skip '^TestHogs$$' ./tests/election

# What user-mode-linux's kernel cannot do: interfaces of IPsec, and firewalls.
drill-qemu: deps-qemu
	$(QEMU) -timeout 30m ./tests/routed ./tests/firewall

# What manages a machine's network (systemd-networkd, NetworkManager, netplan, ifupdown,
# firewalld, nftables.service) against a live MASTER, a machine of Debian 13 with
# systemd. Its root directory is made first, in some two minutes.
drill-managers:
	@./.ci/deps mmdebstrap
	@./tests/managers/root dist/managers/root
	$(GO) test -count=1 -v -timeout 25m ./tests/managers

# The package by dpkg on two machines with systemd: a failover, and an upgrade from
# the release before under traffic (OLD=commit: from that one).
drill-package:
	@./.ci/deps procps kmod
	$(GO) test -count=1 -timeout 30m -v ./tests/install

# A real Prometheus watches a pair while every alert of deploy/prometheus is caused,
# in about 10 minutes.
drill-prometheus:
	@./.ci/deps charon-systemd strongswan-swanctl libstrongswan-standard-plugins libcharon-extra-plugins
	$(GO) test -count=1 -timeout 30m ./tests/monitor

# The status page in a real browser. SCREENSHOTS=directory keeps its pictures.
drill-page:
	@./.ci/deps chromium
	$(GO) test -count=1 ./cmd/internal/page/browser

lint:
	@test -z "$$(gofmt -l .)" || { echo "gofmt is needed on:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(GOLANGCILINT) run

# The promised figures and peers' as one table, in dist/bench.json and in
# docs/performance.md, in some 12 minutes. A missed target is no failure.
bench: deps
	@./.ci/deps charon-systemd strongswan-swanctl libstrongswan-standard-plugins libcharon-extra-plugins
	@mkdir -p bin dist
	@rm -f dist/bench-guest.json dist/bench-native.json
	@$(GO) build -o bin/bench ./tests/bench
	@failed=0; ./bin/bench -version "$(VERSION)" > dist/bench-guest.json || failed=1; \
		BENCH_JSON="$(CURDIR)/dist/bench-native.json" $(MAKE) --no-print-directory bench-native || failed=1; \
		./bin/bench -report docs/performance.md dist/bench-guest.json dist/bench-native.json > dist/bench.json || failed=1; \
		exit $$failed

# Benchmarks of single parts.
microbench:
	$(GO) test -run '^$$' -bench . -benchmem $(UNITS)

# What needs no ESP, on this kernel: the gap of a failover beside keepalived's and
# ucarp's, with the same timers, medians of 7 runs of a cut; a planned switchover.
# In about 5 minutes. BENCH_FULL=1: all faults at all intervals, in about 45.
bench-native: deps
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 90m ./tests/bench/native

# What many SAs and many standbys cost, into docs/scale.md.
scale: deps
	@mkdir -p bin dist
	@$(GO) build -o bin/scale ./tests/scale
	@./bin/scale -commit "$$(git describe --always --dirty 2>/dev/null)" > dist/scale.json
	@./bin/scale -report dist/scale.json docs/scale.md

# DURATION of rekeys, traffic and random faults on a pair; writes docs/soak.md.
# SEED repeats the faults of another run. Other drills need not wait for it.
soak: deps
	@mkdir -p bin dist
	@$(GO) build -o bin/soak ./tests/soak
	@failed=0; ./bin/soak -duration $(DURATION) -seed $(SEED) -commit "$$(git describe --always --dirty 2>/dev/null)" > dist/soak.json || failed=1; \
		$(GO) run ./tests/soak/report dist/soak.json docs; exit $$failed

# All fuzz targets, one at a time. KEEP=20 adds inputs to their corpora; PICK is a
# regular expression of what to run.
fuzz:
	@GO="$(GO)" FUZZTIME="$(FUZZTIME)" KEEP="$(KEEP)" ./tests/fuzz.sh "$(PICK)"

# Daemons go to SBINDIR, control programs to bin, the rest of deploy/ to where the
# system looks for it. Configuration and keys are never touched. INIT=openrc places
# scripts of OpenRC into /etc/init.d instead of what systemd reads.
install: build
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BIN)/sasyncd $(BIN)/carpd $(DESTDIR)$(SBINDIR)/
	install -m 755 $(BIN)/sasyncctl $(BIN)/carpctl $(DESTDIR)$(PREFIX)/bin/
	set -e; cd deploy/man; for m in *.[58]; do install -D -m 644 "$$m" "$(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$$m"; done
	install -D -m 755 -t "$(DESTDIR)$(PREFIX)/lib/sasyncd" deploy/packages/restart
	@$(MAKE) --no-print-directory install-$(INIT)
	set -e; cd deploy; for d in sysctl.d modules-load.d firewalld/services; do install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/$$d" $$d/*; done
	set -e; cd deploy; find examples nftables prometheus grafana etc -type f | while read -r f; do install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/doc/sasyncd/$$f"; done
	install -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/sasyncd README.md CHANGELOG.md LICENSE docs/*.md docs/*.svg
	set -e; cd deploy/completions; install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/bash-completion/completions" bash/*; \
		install -D -m 644 -t "$(DESTDIR)$(ZSHDIR)" zsh/*; install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d" fish/*

# Paths of the programs in what starts them.
PLACED = sed -i -e "s,/usr/sbin/\(sasyncd\|carpd\)\b,$(SBINDIR)/\1,g" -e "s,/usr/bin/\(sasyncctl\|carpctl\)\b,$(PREFIX)/bin/\1,g" -e "s,/usr/lib/sasyncd\b,$(PREFIX)/lib/sasyncd,g"

install-systemd:
	set -e; cd deploy/systemd; find . -type f | while read -r u; do install -D -m 644 "$$u" "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$u"; \
		$(PLACED) "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$u"; done
	set -e; cd deploy/adopt; find . -type f | while read -r u; do install -D -m 644 "$$u" "$(DESTDIR)$(PREFIX)/lib/sasyncd/units/$$u"; \
		$(PLACED) "$(DESTDIR)$(PREFIX)/lib/sasyncd/units/$$u"; done
	install -D -m 755 -t "$(DESTDIR)$(PREFIX)/lib/systemd/system-generators" deploy/generators/sasyncd-generator
	$(PLACED) "$(DESTDIR)$(PREFIX)/lib/systemd/system-generators/sasyncd-generator"
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/sysusers.d" deploy/sysusers.d/*
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/networkd.conf.d" deploy/networkd.conf.d/*

install-openrc:
	install -D -m 755 -t "$(DESTDIR)/etc/init.d" deploy/openrc/*
	set -e; for s in deploy/openrc/*; do $(PLACED) "$(DESTDIR)/etc/init.d/$${s##*/}"; done

# A package for Debian and its relatives, in dist/, for this machine's architecture.
# DEBARCH="amd64 arm64": for these.
deb:
	@for arch in $(DEBARCH); do NFPM="$(GO) run $(NFPM)" ./deploy/packages/build $$arch dist deb; done

# Packages of all formats, in dist/.
packages:
	@for arch in $(PACKARCH); do NFPM="$(GO) run $(NFPM)" ./deploy/packages/build $$arch dist $(FORMATS); done

# The Debian package twice from different directories: the same bits. And what
# lintian says.
check-deb:
	@./.ci/deps lintian
	@NFPM="$(GO) run $(NFPM)" FORMATS=deb ./deploy/packages/check $(PACKARCH)

# The same of all formats, with the tools of their distributions as far as Debian has
# them; those that it has not are named.
check-packages:
	@./.ci/deps lintian rpm rpmlint libarchive-tools pacman-package-manager openrc procps shellcheck firewalld
	@./.ci/quadlet dist/quadlet
	@NFPM="$(GO) run $(NFPM)" FORMATS="$(FORMATS)" ./deploy/packages/check $(PACKARCH)

# An image without anything but the programs, in dist/image (OCI layout) and
# dist/rootfs.tar; see deploy/container/README.md.
image:
	@./deploy/container/build $(IMAGEARCH) dist

clean:
	rm -rf bin dist
