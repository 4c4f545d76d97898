"""A local Clean Rooms ML in the service's own wire format: to rehearse, to demonstrate, to test against.

It must not know the rest of batchsubmit: it stands for AWS, and a mistake shared with the client would never
show. `SandboxService` is the pure state machine; `SandboxServer` and `serve` put it on HTTP; `Faults` spoil
it.
"""

from batchsubmit.sandbox.faults import Fault, FaultPlan, Faults, ScriptedFault
from batchsubmit.sandbox.refusals import Refusal
from batchsubmit.sandbox.server import SandboxServer, serve
from batchsubmit.sandbox.service import SandboxService
from batchsubmit.sandbox.settings import SandboxSettings

__all__ = [
    "Fault",
    "FaultPlan",
    "Faults",
    "Refusal",
    "SandboxServer",
    "SandboxService",
    "SandboxSettings",
    "ScriptedFault",
    "serve",
]
