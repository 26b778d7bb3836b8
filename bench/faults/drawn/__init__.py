"""What of servers that nobody looked at? Machines, traffic and faults drawn at random from wide ranges.

    python -m bench.faults.drawn 2 4 6 --to DIR [--score]

Nobody chose a case: a seed draws the machine, the version of vLLM, the traffic, the fault and its strength, or a
healthy control. Odd seeds are part `tune`, even seeds part `score`. A fault that simulated clients did not feel is
rejected and drawn again, and so is a control that they felt.
"""
