"""Feeds every reader with what a fuzzer makes of the corpus, for a while: `make fuzz`.

With atheris (libFuzzer) each target runs in a process of its own, at most 1 GB and 10 s an input, as docs/security.md
promises; where atheris cannot be installed, hypothesis changes the seeds. What is found is kept in `fuzz-findings/`.
Exit code 1: something was found.
"""
from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
FINDINGS = Path("fuzz-findings")
LONGEST = 16384  # bytes of an input


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="all targets together (%(default)s)")
    parser.add_argument("--targets", nargs="*", help="those of tests/fuzz/fuzz_targets.py (all)")
    parser.add_argument("--seed", type=int, help="the same inputs every time, as far as they are reached (CI)")
    parser.add_argument("--runs", type=int, default=-1, help="at most so many inputs for each target (no limit)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        atheris = None
    if options.one:
        return with_atheris(atheris, options)
    import fuzz_targets

    names = options.targets or list(fuzz_targets.TARGETS)
    FINDINGS.mkdir(exist_ok=True)
    found = total = 0
    print(f"{'atheris' if atheris else 'hypothesis'}, {len(names)} targets, {options.seconds} s")
    for name in names:
        seconds = max(options.seconds // len(names), 1)
        start = time.monotonic()
        run = in_a_process if atheris else with_hypothesis
        executions, bad = run(name, seconds, options.seed, options.runs)
        total, found = total + executions, found + bad
        print(f"{name:<15}{executions:>9} executions in {time.monotonic() - start:5.1f} s, "
              f"{'a finding' if bad else 'nothing found'}", flush=True)
    print(f"{total} executions, {found} findings" + (f", in {FINDINGS}/" if found else ""))
    return 1 if found else 0


def in_a_process(name: str, seconds: int, seed: Optional[int], runs: int) -> tuple[int, int]:
    """(executions, findings) of one target; what libFuzzer says of a finding goes into a file beside its input."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HERE / "corpus" / name, folder, dirs_exist_ok=True)
        same = [] if seed is None else ["--seed", str(seed)]
        done = subprocess.run([sys.executable, __file__, "--one", name, "--corpus", folder, "--seconds", str(seconds),
                               "--runs", str(runs), *same], capture_output=True, text=True, errors="replace",
                              env={**os.environ, **({"PYTHONHASHSEED": "0"} if same else {})})
    counts = re.findall(r"Done (\d+) runs|stat::number_of_executed_units:\s*(\d+)", done.stderr)
    executions = max((int(a or b) for a, b in counts), default=0)
    if done.returncode:
        (FINDINGS / f"{name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    return executions, int(bool(done.returncode))


def with_atheris(atheris, options: argparse.Namespace) -> int:
    name = options.one
    with atheris.instrument_imports(include=["ppadapt", "yaml", "PIL"]):
        import fuzz_targets

    arguments = [sys.argv[0], options.corpus, f"-max_total_time={options.seconds}", f"-runs={options.runs}",
                 f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=1500", "-malloc_limit_mb=1000",
                 "-print_final_stats=1", f"-artifact_prefix={FINDINGS}/{name}-",
                 *([] if options.seed is None else [f"-seed={options.seed}"])]
    atheris.Setup(arguments, lambda data: fuzz_targets.call(name, data))
    atheris.Fuzz()
    return 0


def with_hypothesis(name: str, seconds: int, seed: Optional[int], runs: int) -> tuple[int, int]:
    import fuzz_targets
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    seeds, count, end = fuzz_targets.seeds(name), [0], time.monotonic() + seconds
    edits = st.lists(st.tuples(st.integers(0, LONGEST), st.binary(max_size=4), st.integers(0, 4)), max_size=6)

    @settings(max_examples=200, deadline=None, database=None, derandomize=seed is not None,
              suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds), edits)
    def feed(seed, changes):
        for place, piece, removed in changes:
            place %= len(seed) + 1
            seed = seed[:place] + piece + seed[place + removed:]
        count[0] += 1
        (FINDINGS / f"{name}-last").write_bytes(seed)  # stays where the process dies
        fuzz_targets.call(name, seed)

    try:
        while time.monotonic() < end and (runs < 0 or count[0] < runs) and not (seed is not None and count[0]):
            feed()
    except Exception as error:
        (FINDINGS / f"{name}.log").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        return count[0], 1
    (FINDINGS / f"{name}-last").unlink(missing_ok=True)
    return count[0], 0


if __name__ == "__main__":
    sys.exit(main())
