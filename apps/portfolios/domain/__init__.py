"""Transactions, lots, values and performance. Pure: no Django, no clock."""
