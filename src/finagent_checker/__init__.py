"""The independent checker: reads the folder of a replay and says what is wrong with it.

Standard library only. It shares no code with finagent: it knows the tables by their published names, the broker's ledger by
its own, and states the invariants again in its own words. A fault common to both would otherwise be invisible.
"""

from finagent_checker.check import check_folder

__all__ = ["check_folder"]
