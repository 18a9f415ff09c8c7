"""How a call is timed: after one that is not counted, the best of several, wall and processor.

Processor seconds are all threads' together, and are what remains to be compared on a machine that
has other work; where threads wait for each other in a loop they count the waiting too.
"""

import json
import time


def best(call, repeats=3):
    """Seconds on the clock and of the processor, each the least of some calls."""
    call()
    wall, cpu = [], []
    for _ in range(repeats):
        begun = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - begun[0])
        cpu.append(time.process_time() - begun[1])
    return min(wall), min(cpu)


def report(call):
    """Print the seconds as the last line."""
    wall, cpu = best(call)
    print(json.dumps({"seconds": wall, "cpu_seconds": cpu}))
