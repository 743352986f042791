"""The domain apps, in the order in which the data passes, and the doors that time and clients enter by."""
