"""The engine room: blocks, threads and processes. A reader of the method need not enter it.

The method uses the functions below. If several processes fit one model, its caller passes it a
``process_group.ProcessGroup``.
"""

from padim.parallel.blocks import for_each_block, grouped
from padim.parallel.threads import fork_safe, fork_safe_steps

__all__ = ["for_each_block", "fork_safe", "fork_safe_steps", "grouped"]
