# make demo   a phantom CT, segmented from one click, with mask, measurements and picture in demo/
# make test   linters, types, floors and every test
# make test-pacs   the tests against a real PACS, which they start and stop; installs it first where it may
# make test-browser   the page of `clmsda serve` in a real Chromium; installs it first where it may
# make test-ohif   what a session saves, in a real OHIF beside a real PACS; fetches both, and Chromium, where it may
# make test-monai  a bundle of `clmsda export` in a real MONAI, which it installs into .cache
# make dist   wheel and sdist in dist/, checked: the same bytes whenever and wherever they are built
# make docs   the documentation as a site in .cache/site, with every link within it checked
# make lock   constraints.txt anew, with the newest versions of everything; RENEW= keeps those that still fit
# make test-cluster   batches on a Ray cluster of two nodes, which they start and stop; installs Ray first
# make fuzz   damaged input for every reader: MINUTES=60, SEED (else a new one), READERS (names with commas; else all)
# Each sets up .venv first, from nothing but Python >= 3.11; it is renewed when its inputs change.

PYTHON ?= $(firstword $(foreach name,python3.11 python3 python3.12 python3.13,$(shell command -v $(name))))
WORKERS ?= 2
MINUTES ?= 60
OHIF ?= 3.13.2
MONAI_LABEL := 0.8.5
RENEW ?= --upgrade
BIN := .venv/bin
STAMP := .venv/.installed
VIEWER := .cache/ohif-$(OHIF)

.PHONY: demo test test-pacs test-browser test-ohif test-monai test-cluster dist docs lock chromium ohif fuzz orthanc dicom3tools monai mkdocs lint format bench clean setup

demo: $(STAMP)
	$(BIN)/clmsda demo demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --durations=10

test-pacs: $(STAMP) orthanc
	OMP_NUM_THREADS=1 $(BIN)/pytest --durations=5 tests/test_pacs*.py

test-browser: $(STAMP) chromium
	OMP_NUM_THREADS=1 $(BIN)/pytest --durations=5 tests/browser

test-ohif: $(STAMP) chromium orthanc ohif
	OHIF_VIEWER=$(VIEWER) OMP_NUM_THREADS=1 $(BIN)/pytest --durations=5 tests/ohif

test-monai: $(STAMP) monai
	OMP_NUM_THREADS=1 $(BIN)/pytest --durations=5 tests/test_bundles.py

test-cluster: $(STAMP)
	@$(BIN)/python -c 'import ray, upath' 2> /dev/null || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cluster]'
	OMP_NUM_THREADS=1 $(BIN)/pytest --durations=10 tests/cluster

chromium: $(STAMP)
	@$(BIN)/python -c 'import playwright' 2> /dev/null || $(BIN)/python -m pip install --quiet -c constraints.txt --group browser
	@test -x /usr/bin/chromium || { \
		test "$$(id -u)" = 0 && command -v apt-get > /dev/null || { echo "error: the tests of the page need Debian's chromium: install it, or run this as root"; exit 1; }; \
		apt-get -q -o DPkg::Lock::Timeout=300 update; \
		DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends chromium fonts-dejavu-core; \
	}

# The viewer as its makers build it, from npm as it is configured here; without what only other modes than ours load.
ohif: $(VIEWER)/index.html

$(VIEWER)/index.html:
	@command -v npm > /dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get > /dev/null || { echo "error: OHIF comes by npm: install it, or run this as root"; exit 1; }; \
		apt-get -q -o DPkg::Lock::Timeout=300 update; \
		DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends npm; \
	}
	@rm -rf $(VIEWER) $(VIEWER).part && mkdir -p $(VIEWER).part
	npm pack --silent --pack-destination $(VIEWER).part @ohif/app@$(OHIF) > /dev/null
	@tar -xzf $(VIEWER).part/*.tgz -C $(VIEWER).part --strip-components=2 --exclude='*/dist/ort' \
		--exclude='*/dist/dicom-microscopy-viewer' --exclude='*.map' package/dist
	@rm $(VIEWER).part/*.tgz && mv $(VIEWER).part $(VIEWER)

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONPATH=src:tests $(BIN)/python -m fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(READERS),--readers $(READERS))

# Orthanc with DICOMweb. Its GDCM plugin (orthanc-gdcm, a recommended package) crashes on frames: stay without.
orthanc:
	@test -x /usr/sbin/Orthanc -a -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so || { \
		test "$$(id -u)" = 0 && command -v apt-get > /dev/null || { echo "error: the tests against a PACS need Debian's orthanc and orthanc-dicomweb: install them, or run this as root"; exit 1; }; \
		apt-get -q -o DPkg::Lock::Timeout=300 update; \
		DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends orthanc orthanc-dicomweb; \
	}

# dciodvfy, which the tests ask about every DICOM object; without it they are skipped, and say so.
dicom3tools:
	@test -x /usr/bin/dciodvfy || { apt-get -q -o DPkg::Lock::Timeout=300 update; \
		DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends dicom3tools; }

# What is built leaves no trace of when and where: hatchling writes fixed times and modes (SOURCE_DATE_EPOCH, where it is set).
dist: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dist
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist . > /dev/null
	$(BIN)/twine check --strict dist/*
	sha256sum dist/*

# Pages link to each other as on the forge; here all lie in one folder. A page that would load something from elsewhere
# when it is looked at fails, as a link within does that leads nowhere; links to the outside are only listed.
docs: mkdocs
	rm -rf .cache/docs .cache/site && mkdir -p .cache/docs/benchmarks
	cp -r docs/images LICENSE CITATION.cff .cache/docs
	cp benchmarks/README.md .cache/docs/benchmarks
	for page in docs/*.md src/clmsda/weights/*.md CHANGELOG.md CONTRIBUTING.md README.md; do \
		sed -e 's#](docs/#](#g' -e 's#](\.\./#](#g' -e 's#](src/clmsda/weights/#](#g' -e 's#](benchmarks/)#](benchmarks/README.md)#g' \
			"$$page" > ".cache/docs/$$(basename "$$page" | sed 's/^README/index/')"; done
	$(BIN)/mkdocs build --strict
	! grep -rnoE '<(script|link|img|iframe)[^>]*(src|href)="https?:[^"]*"' .cache/site --include='*.html'
	@grep -rhoE '<a [^>]*href="https?:[^"]*"' .cache/site --include='*.html' | sed 's/.*href="//; s/"$$//' | sort -u

mkdocs: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group docs

# MONAI, for what `clmsda export --monai-bundle` writes, in an environment of its own that sees what .venv has (torch).
monai: $(STAMP)
	@$(BIN)/python -m venv .cache/monai
	@$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
		> "$$(.cache/monai/bin/python -c 'import site; print(site.getsitepackages()[0])')/clmsda_venv.pth"
	$(BIN)/python -m pip --python .cache/monai/bin/python install --quiet -c constraints.txt --group monai

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python benchmarks/click_to_mask.py

clean:
	rm -rf .venv .cache demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(STAMP)

# The build backend is pinned too, so nothing that is installed here escapes constraints.txt. MONAI Label's client, which
# tests use, comes without what it declares (it would replace torch), for Python < 3.13 (it imports cgi).
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed and no python3 is on the PATH; install it or give PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); give another with PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt pip hatchling
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))' && $(BIN)/python -m pip install --quiet --no-deps monailabel==$(MONAI_LABEL) || echo "note: no client of MONAI Label here, its tests are skipped"
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[train,pacs,serve]' --group dev
	@touch $@

# Every version that anything here installs, for every system and Python that clmsda supports; nothing is downloaded for it.
lock:
	test -x .cache/lock/bin/uv || { $(PYTHON) -m venv .cache/lock && .cache/lock/bin/python -m pip install --quiet uv; }
	.cache/lock/bin/uv pip compile pyproject.toml --all-extras --group dev --group browser --group dist --group docs --group monai \
		--universal --python-version 3.11 $(RENEW) --strip-extras --no-annotate --custom-compile-command 'make lock' \
		--quiet -o constraints.txt
