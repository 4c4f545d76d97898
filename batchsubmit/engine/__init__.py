"""Many jobs: from the source, lane by lane, through slots and calls, to outcomes; what earlier runs left open first.

`loop` begins what may begin, `carrying` takes one job from hand to its outcome, `settling` deals with the jobs that an
earlier run left unknown. All three know the others' doings through `underway` alone.
"""

from batchsubmit.engine.crew import Crew, Limits
from batchsubmit.engine.loop import Engine

__all__ = ["Crew", "Engine", "Limits"]
