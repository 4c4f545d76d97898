"""The program itself in virtual time: the same engine and scheduler against the sandbox's state machine.

The scheduler and the forecast are tested by it. It must not decide anything that `engine`, `slots`
or the sandbox decide, and it knows no real time, disk or network.
"""

from simulation.batch import Simulated, simulate, usable_slots
from simulation.work import SimulatedJob, Workload

__all__ = ["Simulated", "SimulatedJob", "Workload", "simulate", "usable_slots"]
