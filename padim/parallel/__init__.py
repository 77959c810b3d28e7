"""The engine room: blocks, threads and processes. A reader of the method need not enter it.

The method uses ``for_each_block`` and ``grouped`` from here, and, where several processes fit one
model, the ``process_group.ProcessGroup`` that it is handed.
"""

from padim.parallel.blocks import for_each_block, grouped

__all__ = ["for_each_block", "grouped"]
