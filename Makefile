# make book   the book, in _build/html       make test   bring the book up to date, then all tests
# make read   serve it on localhost           make lint   what pre-commit checks
# make quick  the tests of what changed, without the book, about a minute
# make bench  measure speed side by side      make evidence   accept the verdicts of this build
# make replicate CHAPTER="losses depth" BASES=6 BUDGET=60   other bases, for so many minutes
# make replicate-merge FILE="bases.jsonl"   take in bases that were made on other machines
# make colab  what Colab opens, each notebook in an environment like Colab's (package as committed)
# make publish  the built book, pages and notebooks, as the branch that Colab opens
# make grade FILES="..." CSV=marks.csv JOBS=2   mark submissions of the exercises

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 300
CSV ?= marks.csv
JOBS ?= 2
BASES ?= 6
BUDGET ?= inf
READY := $(VENV)/ready
COLAB := _build/colab
.DEFAULT_GOAL := book
.PHONY: book test quick read lint bench evidence replicate replicate-merge colab publish grade clean

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --disable-pip-version-check --no-deps -e .
	touch $@

book: $(READY)
	$(BIN)/python -m _ext.build

test: book
	$(BIN)/python -m pytest -n 2 --dist loadfile $(NBVAL) tests exercises/*/solution.ipynb

quick: $(READY)
	$(BIN)/python -m tests.quick

read: book
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id $(shell git ls-files 'chapters/*.ipynb' 'exercises/*/exercise_*.ipynb')

bench: $(READY)
	$(BIN)/python -m benchmarks

evidence: book
	$(BIN)/python -m _ext.verdicts accept

grade: $(READY)
	$(BIN)/python -m exercises grade $(FILES) --csv $(CSV) --jobs $(JOBS)

replicate: $(READY)
	$(BIN)/python -m _ext.replicate $(if $(CHAPTER),--chapters $(CHAPTER)) --bases $(BASES) --budget $(BUDGET)

replicate-merge: $(READY)
	$(BIN)/python -m _ext.replicate --merge $(FILE)

$(COLAB)/ready: tests/colab-requirements.txt
	rm -rf $(COLAB) && $(PYTHON) -m venv $(COLAB)/venv
	$(COLAB)/venv/bin/pip install --disable-pip-version-check -r $<
	touch $@

colab: book $(COLAB)/ready
	$(BIN)/python -m pytest -n 2 -m colab tests/test_colab.py

publish: book
	$(BIN)/python -m _ext.publish

clean:
	rm -rf _build
