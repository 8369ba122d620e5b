# The README names two of these: `make demo` and `make test`.

GO      ?= go
PREFIX  ?= /usr
DESTDIR ?=
# no: without the probe that asks NVML, and without C; for machines without NVIDIA.
GPU     ?= yes
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo devel)

BINDIR     = $(DESTDIR)$(PREFIX)/bin
LIBEXECDIR = $(DESTDIR)$(PREFIX)/libexec/dubnium
UNITDIR    = $(DESTDIR)$(PREFIX)/lib/systemd/system
TMPFILES   = $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
CATALOGDIR = $(DESTDIR)$(PREFIX)/lib/systemd/catalog
DATADIR    = $(DESTDIR)$(PREFIX)/share

need    = ./internal/tools/need.sh
# A compiler without the C library's headers, which it only recommends, compiles nothing.
cc      = gcc:gcc,libc6-dev
# The tests write and sync many small files: memory is kinder to the disk.
TESTTMP = $(firstword $(wildcard /dev/shm) /tmp)

# What is compiled does not depend on where it lies: another clone compiles nothing again.
export GOFLAGS := -trimpath $(shell $(GO) env GOFLAGS)

.PHONY: all build install demo demo-vm check lint fmt integration e2e e2e-shell soak test clean

all: build

LDFLAGS  = -s -w -X github.com/dubnium/dubnium/internal/version.Version=$(VERSION)
BUILD    = $(GO) build -ldflags "$(LDFLAGS)" -o bin/
# go-nvml names functions that only the driver's library has: they are bound when
# they are called, whatever a hardened compiler does by default.
GPUBUILD = $(GO) build -ldflags "$(LDFLAGS) -extldflags=-Wl,-z,lazy" -o bin/

build:
	CGO_ENABLED=0 $(BUILD) ./cmd/dubniumd ./cmd/modectl ./cmd/dubnium-probe
ifeq ($(GPU),yes)
	@$(need) $(cc)
	CGO_ENABLED=1 $(GPUBUILD) ./cmd/dubnium-gpu-probe
endif

# The units name their programs under /usr; another PREFIX is written in.
install: build
	install -d $(BINDIR) $(LIBEXECDIR) $(UNITDIR) $(CATALOGDIR) $(TMPFILES) $(DATADIR)/dbus-1/system.d $(DATADIR)/polkit-1/actions \
		$(DATADIR)/doc/dubnium $(DESTDIR)/etc/dubnium $(DESTDIR)/etc/issue.d
	install bin/modectl $(BINDIR)
	install bin/dubniumd bin/dubnium-probe $(LIBEXECDIR)
ifeq ($(GPU),yes)
	install bin/dubnium-gpu-probe $(LIBEXECDIR)
endif
	for unit in $(if $(filter yes,$(GPU)),systemd/*.*,$(filter-out systemd/dubnium-probe-gpu.%,$(wildcard systemd/*.*))); do \
		sed -e 's#=/usr/libexec/#=$(PREFIX)/libexec/#' -e 's#=/usr/bin/modectl#=$(PREFIX)/bin/modectl#' $$unit \
			> $(UNITDIR)/$${unit##*/} && chmod 644 $(UNITDIR)/$${unit##*/} || exit 1; \
	done
	install -m 644 systemd/catalog/dubnium.catalog $(CATALOGDIR)
	install -m 644 systemd/tmpfiles/dubnium.conf $(TMPFILES)
	ln -sfn /run/issue.d/dubnium.issue $(DESTDIR)/etc/issue.d/dubnium.issue
	install -m 644 dbus-policy/org.dubnium.Mode1.conf $(DATADIR)/dbus-1/system.d
	install -m 644 dbus-policy/org.dubnium.mode1.policy $(DATADIR)/polkit-1/actions
	install -m 644 README.md LICENSE docs/policy.example.toml docs/policy.schema.json dbus-policy/50-dubnium-operators.rules $(DATADIR)/doc/dubnium

# The main job on a simulated workstation: no root, nothing touched.
demo:
	@$(need) dbus-daemon:dbus-daemon
	@$(GO) run ./internal/demo/simulated

# The same on a real one, in a virtual machine.
demo-vm:
	@$(GO) run ./e2e/cmd/demo-vm

# What only computes has nothing for the race detector to find, which makes it ten
# times slower. Its properties are tried on a hundred cases, and so are the engine's
# sweeps over every point of failure; with the detector both are sampled.
PURE = ./policy ./observer ./observer/unitgraph ./observer/recording ./guards ./plans ./daemon/status ./daemon/intent ./daemon/transition ./daemon/reconcile ./internal/doctor
# Several tests at a time for each processor: many wait for what hangs on purpose.
SLOTS = $(shell expr 3 '*' $$(nproc))
# lint vets every test already.
TEST = TMPDIR=$(TESTTMP) $(GO) test -vet=off

# Tier 1: fast. The demo runs programs that were built as distributions do that harden
# them.
check: lint
	@$(need) dbus-daemon:dbus-daemon $(cc)
	$(TEST) -timeout 10m -run 'Invariants|Anywhere' ./daemon & $(TEST) -timeout 10m $(PURE); pure=$$?; wait $$! && exit $$pure
	RAPID_CHECKS=10 $(TEST) -race -p $(SLOTS) -timeout 10m $$($(GO) list ./... | grep -vxF "$$($(GO) list $(PURE))")
	$(TEST) -tags faultpoints -timeout 10m -run Crash ./daemon/... ./internal/embedded
	$(TEST) -tags faultpoints ./internal/fault
	GOFLAGS="$(GOFLAGS) -buildmode=pie" $(GO) run ./internal/demo/simulated >/dev/null

lint:
	@$(need) $(cc)
	@./internal/tools/lint.sh

fmt:
	$(GO) tool -modfile=internal/tools/go.mod gofumpt -w .

# Debian 13 has the example clients in a package of their own.
JACKTOOLS = $(shell apt-cache show jack-example-tools >/dev/null 2>&1 && echo jack-example-tools || echo jackd2)

# Tier 2: the real polkitd with our actions and the real PipeWire, on private buses. (The
# programs under test run beside the tests: the race detector would watch the tests alone.)
integration:
	@$(need) dbus-daemon:dbus-daemon /usr/lib/polkit-1/polkitd:polkitd unshare:util-linux systemd-analyze:systemd $(cc) \
		pipewire:pipewire pipewire-pulse:pipewire-pulse wireplumber:wireplumber pw-cat:pipewire-bin pw-jack:pipewire-jack \
		paplay:pulseaudio-utils jack_metro:$(JACKTOOLS)
	$(TEST) -tags integration -count=1 -parallel $(SLOTS) -timeout 10m ./internal/integration/...

# Tier 3: a real systemd, logind, greetd, compositor and polkit in a machine.
e2e:
	$(GO) test -vet=off -tags e2e -count=1 -timeout 60m ./e2e

# A machine with this build in it: `systemctl start dubniumd`, and look around.
e2e-shell:
	@tree=$$($(GO) run ./e2e/cmd/stage) && trap 'rm -rf "$$tree"' EXIT && $(GO) run ./e2e/cmd/bed shell --tree "$$tree"

test: check integration e2e

# Every fuzz target there is, as ./package:FuzzName.
FUZZ = $(shell grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sed 's|/[^/]*:func |:|')

# A fuzzer that is not ours, where it is there or a package has it.
dfuzzer = ! apt-cache show dfuzzer >/dev/null 2>&1 || $(need) dfuzzer:dfuzzer || exit 1; \
	if command -v dfuzzer >/dev/null; then \
		$(TEST) -tags integration,dfuzzer -count=1 -timeout 30m -v -run Dfuzzer ./internal/integration; \
	else echo "dfuzzer: NOT RUN, it is not installed and this system has no package of it" >&2; fi

# What takes long: ten round trips, both flavours, random unit graphs against a
# real systemd, minutes of idling, of forged signals, of random messages and of a
# hostile user, every crash, fuzzing.
soak:
	RAPID_CHECKS=1000 $(TEST) -timeout 30m ./...
	$(GO) test -tags e2e,soak -count=1 -timeout 120m ./e2e/...
	E2E_FLAVOUR=hyprland $(GO) test -tags e2e,soak -count=1 -timeout 120m ./e2e/...
	DUBNIUM_CRASHES=all $(TEST) -tags faultpoints -count=1 -timeout 120m -v -run CrashMatrix ./daemon
	$(TEST) -count=1 -timeout 60m -run Invariants ./daemon -rapid.checks=3000 -rapid.steps=40
	DUBNIUM_FUZZ=10m DUBNIUM_HOSTILE=60s $(TEST) -tags integration,soak -count=1 -timeout 60m ./internal/integration/...
	@$(dfuzzer)
	for target in $(FUZZ); do \
		$(TEST) -run '^$$' -fuzz "^$${target#*:}\$$" -fuzztime 2m -fuzzminimizetime 100x "$${target%:*}" || exit 1; \
	done

clean:
	rm -rf bin e2e/artifacts
