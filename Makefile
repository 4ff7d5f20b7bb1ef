# What the README promises is here; nothing needs more than Go and, for the
# tests, what integration/setup installs.

GO      ?= go
DESTDIR ?=
PREFIX  ?= /usr/local
export CGO_ENABLED = 0

units = $(shell $(GO) list ./... | grep -v /integration)

.PHONY: all test test-long test-vm test-cluster setup lint unit fuzz integration bench bench-disk bench-wan install clean

all: caravel

caravel: FORCE
	$(GO) build -trimpath -o $@ ./cmd/caravel
FORCE:

test: setup lint unit fuzz integration

# The counts that repeat (kills, faults, generated cases) at full length.
test-long: export CARAVEL_LONG = 1
test-long: setup lint unit integration

# What needs a kernel with more in it than the host's: nbd, FAT, quota projects. Once
# its packages are installed, make test runs it too.
test-vm:
	integration/vm/run --install
	$(GO) test -v -count=1 -timeout 30m -run 'InVM|^TestBoot$$' ./integration

# An image in a distributed store, one of whose servers dies. Once its packages are
# installed, make test runs it too.
test-cluster:
	integration/ceph/cluster --check || integration/ceph/cluster --install
	$(GO) test -v -count=1 -timeout 60m -run '^TestCluster$$' ./integration

setup:
	integration/setup

lint:
	@out=$$(gofmt -l .); test -z "$$out" || { echo "gofmt would change: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	for os in darwin freebsd windows; do GOOS=$$os $(GO) vet ./... || exit 1; done

# The race detector is the one thing that needs cgo, and so a C compiler. Memory is
# measured without it.
unit:
	@if command -v gcc >/dev/null; then race=-race; else echo "no gcc: the tests run without the race detector"; fi; \
	integration/unskipped env CGO_ENABLED=$${race:+1} $(GO) test $$race -v -timeout 20m $(units) && \
	if [ -n "$$race" ]; then \
		CGO_ENABLED=1 $(GO) test -race -count=1 -run TestLazyStack ./integration && \
		integration/unskipped $(GO) test -v -run TestMemory ./catar/tree; \
	fi

fuzz:
	integration/fuzz

integration:
	integration/unskipped $(GO) test -v -count=1 -timeout 60m ./integration/...

bench:
	$(GO) test -run '^$$' -bench . -benchmem $(units)
	$(GO) run ./integration/bench -only make,remake,extract,http,mount,nbd,tree

# Disks beside nbdkit, and a virtual machine that boots from one far away.
bench-disk:
	$(GO) run ./integration/bench -size 4096 -only disk,boot

# Lazy reading over a wide area, beside casync and $$DESYNC.
bench-wan:
	$(GO) run ./integration/bench -only wan

install: caravel
	install -D -m 755 caravel $(DESTDIR)$(PREFIX)/bin/caravel
	install -d $(DESTDIR)/sbin && ln -sf $(PREFIX)/bin/caravel $(DESTDIR)/sbin/mount.fuse.caravel
	for f in contrib/udev/*.rules contrib/systemd/*; do \
		case $$f in *.rules) to=udev/rules.d ;; *) to=systemd/system ;; esac; \
		to=$(DESTDIR)$(PREFIX)/lib/$$to/$${f##*/}; \
		install -D -m 644 $$f $$to && sed -i 's,/usr/local/bin,$(PREFIX)/bin,' $$to || exit 1; \
	done

clean:
	rm -f caravel
