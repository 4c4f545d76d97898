"""The program itself in virtual time: the same engine and scheduler against the sandbox's state machine.

It is what `plan` forecasts with and what the scheduler is tested by. It must not decide anything that `engine`, `slots`
or the sandbox decide, and it knows no real time, disk or network.
"""

from batchsubmit.simulation.batch import Simulated, simulate, usable_slots
from batchsubmit.simulation.work import SimulatedJob, Workload

__all__ = ["Simulated", "SimulatedJob", "Workload", "simulate", "usable_slots"]
