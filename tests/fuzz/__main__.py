"""`python -m fuzz`: a run, or one case again. Exit status 1 where anything failed."""

from __future__ import annotations

import argparse
import os
import secrets
import sys

from fuzz import campaign
from fuzz.cases import Case


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Damaged inputs for every reader.")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=None, help="of the inputs; else a new one, which is printed")
    parser.add_argument("--readers", default="", help="names with commas between; else all")
    parser.add_argument("--replay", metavar="CASE", help="run one case (a line of JSON) and say what came of it")
    parser.add_argument("--corpus", action="store_true", help="run what failed once")
    parser.add_argument("--keep", action="store_true", help="add failures to corpus.jsonl")
    options = parser.parse_args()
    if options.replay or options.corpus:
        cases = [Case.from_json(options.replay)] if options.replay else campaign.corpus()
        summary = campaign.replay(cases, tell)
    else:
        from fuzz.readers import readers

        seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
        names = [name for name in options.readers.split(",") if name] or sorted(readers())
        if unknown := set(names) - readers().keys():
            parser.error(f"there are no readers {', '.join(sorted(unknown))}; choose of {', '.join(sorted(readers()))}")
        print(f"seed {seed}, {options.minutes:g} minutes, {', '.join(names)}", flush=True)
        summary = campaign.fuzz(names, seed, options.minutes, tell)
    print("\n".join(summary.lines()))
    if options.replay:
        print(*summary.refusals, sep="\n")
    if options.keep:
        campaign.keep(list(summary.failures.values()))
    sys.stdout.flush()
    os._exit(bool(summary.failures))


def tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
