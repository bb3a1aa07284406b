# make demo | test | test-long | check | bench | docs: each sets itself up on a machine with Python 3.11 or newer.
# The system's Python, where it can: pyenv, for one, builds without profiles, and what it builds takes a sixth longer.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)
BIN := .venv/bin
INSTALL = $(BIN)/python tools/install.py -c constraints.txt
# what is imported is compiled beforehand, on all cores: a site's child, which may run foreign code, writes no bytecode
SELDOM := torch/(_dynamo|_export|_functorch|_inductor|_numpy|_vendor|distributed|onnx|sparse)|sympy|mpmath|networkx|fsspec
SELDOM := $(SELDOM)|mypy|mypyc|pip|setuptools|pydicom|pygments|playwright/async_api|schemathesis|graphql|werkzeug|onnxruntime
SELDOM := $(SELDOM)|skl2onnx|babel|material|markdown|jinja2|backrefs|pymdownx|sqlalchemy/orm|testing|tests?
COMPILE := $(BIN)/python -m compileall -q -j 0 -x 'lib/.*/($(SELDOM))/' .venv/lib src || true
# most tests wait for processes; those that measure time run alone
PARALLEL ?= -n 3 --dist loadfile --no-loadscope-reorder
IN = export TMPDIR=$$($(BIN)/python tests/folder.py); trap 'rm -rf "$$TMPDIR"' EXIT;
ALONE = $(shell grep -rlF mark.alone tests --include='*.py') -n 3 --dist loadgroup
unexport PYTHONDONTWRITEBYTECODE   # hundreds of processes would each compile everything

.PHONY: demo test test-long check bench bench-beside bench-dp bench-dp-accuracy bench-fhir bench-flamby bench-heart bench-heterogeneity bench-simulate docs format clean

.venv/bin/pip:
	$(PYTHON) -m venv .venv
	-$(BIN)/pip install -q --disable-pip-version-check --no-compile -c constraints.txt uv   # else pip does all of it

.venv/ready: pyproject.toml constraints.txt | .venv/bin/pip
	$(INSTALL) -e '.[postgres,demo,dp]'
	$(COMPILE)
	touch $@

.venv/ready-dev: pyproject.toml constraints.txt | .venv/bin/pip
	$(INSTALL) -e '.[test,check,docs,torch]'
	$(COMPILE)
	touch .venv/ready $@

.venv-mitmproxy/ready: tests/e2e/mitmproxy.txt | .venv/bin/pip   # the proxy of tests/e2e/test_proxy.py
	$(PYTHON) -m venv --without-pip .venv-mitmproxy
	$(BIN)/python tools/install.py --into .venv-mitmproxy/bin/python -r tests/e2e/mitmproxy.txt
	touch $@

.venv-croissant/ready: tests/unit/data/croissant.txt   # 370 MB, for one of the long tests
	$(PYTHON) -m venv .venv-croissant
	.venv-croissant/bin/pip install -q --disable-pip-version-check -r tests/unit/data/croissant.txt
	touch $@

.PHONY: environments
environments:             # both of the tests at once
	@$(MAKE) --no-print-directory -j2 .venv/ready-dev .venv-mitmproxy/ready

demo: .venv/ready          ## a federation of hospitals on this machine, on real patients
	$(BIN)/consilium demo $(ARGS)

test: environments     ## all tests that finish within 15 minutes
	$(IN) $(BIN)/pytest -m "not long and not alone" $(PARALLEL) $(ARGS)
	$(if $(ARGS),,$(BIN)/pytest -m "alone and not long" $(ALONE))

.venv/ready-ray: .venv/ready-dev   # 200 MB, for the tests of one executor
	$(INSTALL) -e '.[ray]'
	touch $@

test-long: environments .venv/ready-ray .venv-croissant/ready ## all tests
	$(BIN)/pytest -m "not alone" $(PARALLEL) $(ARGS)
	$(if $(ARGS),,$(BIN)/pytest -m alone $(ALONE))

check: .venv/ready-dev     ## format, lint, types, import contracts, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build -q --strict --site-dir site-docs

bench: .venv/ready-dev     ## performance, beside the hardware's floor; fails, after all of it, where an aim is missed
	failed=0; for one in round scale secure; do $(BIN)/python bench/$$one.py $(ARGS) || failed=1; done; exit $$failed

bench-beside: .venv/ready-dev  ## secure rounds beside Flower, which gets an environment of its own
	$(BIN)/python bench/beside.py $(ARGS)

bench-dp: .venv/ready-dev  ## training with differential privacy beside Opacus, which gets an environment of its own
	$(BIN)/python bench/dp.py $(ARGS)

bench-dp-accuracy: .venv/ready-dev  ## what an epsilon costs in accuracy
	$(BIN)/python bench/dp_accuracy.py $(ARGS)

bench-fhir: .venv/ready-dev  ## a view of FHIR resources beside sqlonfhir, which gets an environment of its own
	$(BIN)/python bench/fhir.py $(ARGS)

bench-heterogeneity: .venv/ready-dev  ## strategies over degrees of skew between hospitals
	$(BIN)/python bench/heterogeneity.py $(ARGS)

bench-flamby: .venv/ready-dev  ## FLamby's four hospitals by its recipe, beside its published figures, and exactly
	$(BIN)/python bench/flamby_heart.py $(ARGS)

bench-heart: .venv/ready   ## federated against pooled and own models on four real hospitals, over ten splits
	$(BIN)/python bench/heart.py $(ARGS)

bench-simulate: .venv/ready  ## simulated rounds of many sites beside pfl and Flower, which get environments of their own
	$(BIN)/python bench/simulate.py $(ARGS)

docs: .venv/ready-dev      ## the documentation site, on http://127.0.0.1:8000
	$(BIN)/mkdocs serve

format: .venv/ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-mitmproxy .venv-croissant .venv-opacus .venv-flower .venv-pfl .venv-sqlonfhir build dist site-docs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
