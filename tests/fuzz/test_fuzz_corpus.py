"""The corpus of the fuzzer, file by file: seeds, and what it has found."""
import fuzz_targets
import pytest


@pytest.mark.parametrize("name", list(fuzz_targets.TARGETS))
def test_the_corpus_raises_nothing_but_what_a_user_is_told(name):
    seeds = fuzz_targets.seeds(name)
    assert len(seeds) >= 2
    for data in seeds:
        fuzz_targets.call(name, data)


def test_the_corpus_is_small():
    files = [path for path in fuzz_targets.CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert {path.parent.name for path in files} == set(fuzz_targets.TARGETS)


@pytest.mark.parametrize("name", ["pickle_paddle", "safetensors", "image", "yaml", "cifar_archive"])
def test_a_seed_is_read_to_its_end(name):
    """A target whose seeds were all refused at the first byte would test nothing."""
    reached = []
    for data in fuzz_targets.seeds(name):
        try:
            fuzz_targets.TARGETS[name](data)
            reached.append(data)
        except ValueError:
            pass
    assert reached
