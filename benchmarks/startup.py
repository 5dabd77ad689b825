"""How long do `import twin_dcal` and `dcal-train --help` take? CPU seconds of fresh processes, the best of several.

python benchmarks/startup.py
"""

import os
import subprocess
import sys

TARGETS = {
    "import twin_dcal": (["-c", "import twin_dcal"], 0.3),
    "dcal-train --help": (["-m", "twin_dcal.cli.train", "--help"], 1.5),
    "dcal-evaluate --help": (["-m", "twin_dcal.cli.evaluate", "--help"], 1.5),
}


def cpu_seconds(arguments):
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def main():
    for name, (arguments, target) in TARGETS.items():
        best = min(cpu_seconds(arguments) for _ in range(7))
        print(f"{name:<22} {best:5.2f} s  {'meets' if best <= target else 'MISSES'} the target of {target} s")


if __name__ == "__main__":
    main()
