"""The rule engine: a deterministic function of a feed's log. Pure Python: no Django, no I/O, no clock.

Times are integers of microseconds since 1970, prices integers of 1e-18, so every sum and comparison is exact.
"""
