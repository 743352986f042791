# The pages are registered with the addresses, and some tests list them as they are collected.
import fintech.urls  # noqa: F401
