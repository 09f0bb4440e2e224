"""What the intervals of the program cover, and what they tell apart: the simulation of `simulation.py`.

    python benchmarks/statistics.py --repeats 200 --json benchmarks/results/statistics.json

Python's own module of this name is what other scripts of this folder get when they import it.
"""

import importlib.machinery
import importlib.util
import sys
import sysconfig

if __name__ == "__main__":
    import simulation

    simulation.main()
else:
    spec = importlib.machinery.PathFinder.find_spec(__name__, [sysconfig.get_path("stdlib")])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[__name__] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[__name__])
