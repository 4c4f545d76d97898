"""A local Clean Rooms ML in the service's own wire format: to rehearse, to demonstrate, to test against.

It must not know the rest of batchsubmit: it plays AWS, and a mistake shared with the client would never show.
`SandboxService` is the pure state machine; `SandboxServer` puts it on HTTP; `Faults` makes it fail.
"""

from batchsubmit.sandbox.faults import FaultPlan, Faults
from batchsubmit.sandbox.server import SandboxServer
from batchsubmit.sandbox.service import SandboxService
from batchsubmit.sandbox.settings import SandboxSettings

__all__ = ["FaultPlan", "Faults", "SandboxServer", "SandboxService", "SandboxSettings"]
