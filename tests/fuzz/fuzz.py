"""Feeds every reader with what a fuzzer makes of the corpus, for a while: `make fuzz`.

With atheris (libFuzzer) each target runs in a process of its own, at most 1 GB and 10 s of computing an input, as
docs/security.md promises; where atheris cannot be installed, hypothesis changes the seeds. Every target gets its share
of the time. What is found is kept in `fuzz-findings/`. Exit code 1: something was found.
"""
from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
FINDINGS = Path("fuzz-findings")
LONGEST = 16384  # bytes of an input
SECONDS = 10  # of the processor, that an input may take
STUCK = 120  # of the clock, after which it hangs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="all targets together (%(default)s)")
    parser.add_argument("--targets", nargs="*", help="those of tests/fuzz/fuzz_targets.py (all)")
    parser.add_argument("--seed", type=int, help="the same inputs every time, as far as they are reached (CI)")
    parser.add_argument("--runs", type=int, default=-1, help="at most so many inputs for each target (no limit)")
    options = parser.parse_args()
    if options.seed is not None and os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a path
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    end = time.monotonic() + options.seconds
    try:
        import atheris
    except ImportError:
        atheris = None
    with atheris.instrument_imports(include=["ppadapt", "yaml", "PIL"]) if atheris else contextlib.nullcontext():
        import fuzz_targets

    names = options.targets or list(fuzz_targets.TARGETS)
    FINDINGS.mkdir(exist_ok=True)
    run = functools.partial(in_a_process, atheris) if atheris else with_hypothesis
    found = total = 0
    print(f"{'atheris' if atheris else 'hypothesis'}, {len(names)} targets, {options.seconds:.0f} s", flush=True)
    for i, name in enumerate(names):
        start = time.monotonic()  # what one target leaves of its share, or takes more, is shared by the rest
        executions, bad = run(name, max(1, round((end - start) / (len(names) - i))), options.seed, options.runs)
        total, found = total + executions, found + bad
        print(f"{name:<15}{executions:>9} executions in {time.monotonic() - start:5.1f} s, "
              f"{'a finding' if bad else 'nothing found'}", flush=True)
    print(f"{len(names)} targets, {total} executions, {found} findings" + (f", in {FINDINGS}/" if found else ""))
    return 1 if found else 0


def in_a_process(atheris, name: str, seconds: int, seed: Optional[int], runs: int) -> tuple[int, int]:
    """(executions, findings) of one target; what libFuzzer says of a finding goes into a file beside its input.

    The process is a copy of this one, which has instrumented the readers already.
    """
    import fuzz_targets

    log = FINDINGS / f"{name}.log"
    with fuzz_targets.a_folder(), tempfile.TemporaryDirectory() as corpus:
        shutil.copytree(HERE / "corpus" / name, corpus, dirs_exist_ok=True)
        pid = os.fork()
        if not pid:
            said = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
            os.dup2(said, 1)
            os.dup2(said, 2)
            arguments = [sys.argv[0], corpus, f"-max_total_time={seconds}", f"-runs={runs}", f"-max_len={LONGEST}",
                         f"-timeout={STUCK}", "-rss_limit_mb=1500", "-malloc_limit_mb=1000", "-print_final_stats=1",
                         f"-artifact_prefix={FINDINGS}/{name}-", *([] if seed is None else [f"-seed={seed}"])]
            atheris.Setup(arguments, functools.partial(bounded, name))
            atheris.Fuzz()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    counts = re.findall(r"Done (\d+) runs|stat::number_of_executed_units:\s*(\d+)",
                        log.read_text(encoding="utf-8", errors="replace"))
    if not code:
        log.unlink()
    return max((int(a or b) for a, b in counts), default=0), int(code != 0)


def bounded(name: str, data: bytes) -> None:
    """One input, which has `SECONDS` of the processor: on a machine that does other work it may wait far longer."""
    import fuzz_targets

    begun = time.process_time()
    fuzz_targets.call(name, data)
    took = time.process_time() - begun
    assert took < SECONDS, f"took {took:.1f} s"


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
        bounded(name, seed)

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
