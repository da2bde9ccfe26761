"""The choice of precision against what the processor says of itself."""

from pathlib import Path

import pytest

from pushforward.training import fast_precision

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.is_file(), reason="only Linux lists the processor's instructions in a file")
def test_bfloat16_exactly_where_the_processor_has_it():
    native = "avx512_bf16" in CPUINFO.read_text().split()
    assert fast_precision("cpu") == ("bfloat16" if native else "float32")


def test_unknown_kinds_keep_float32():
    assert fast_precision("meta") == "float32"
