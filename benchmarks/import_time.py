"""Time of ``import pushforward`` over ``import torch``, in fresh processes.

python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys

ROUNDS = 7


def seconds(statement: str) -> float:
    """Median seconds that a fresh interpreter needs for a statement, measured inside it."""
    code = f"import time; begin = time.perf_counter(); {statement}; print(time.perf_counter() - begin)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(ROUNDS)
    ]
    return statistics.median(runs)


def main() -> None:
    seconds("import torch")  # warms the file cache
    torch = seconds("import torch")
    both = seconds("import torch, pushforward")
    alone = seconds("import pushforward")
    used = seconds("import torch, pushforward; pushforward.FlowMatching")
    print(f"import torch                              {torch * 1e3:8.0f} ms")
    print(f"import pushforward                        {alone * 1e3:8.1f} ms")
    print(f"import pushforward, over torch            {(both - torch) * 1e3:8.1f} ms")
    print(f"first use of pf.FlowMatching, over torch  {(used - torch) * 1e3:8.0f} ms")


if __name__ == "__main__":
    main()
