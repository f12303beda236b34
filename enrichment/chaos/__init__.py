"""Crash tests of the whole installation: real processes, real kills, and both ledgers compared afterwards.

`manage.py chaos` is the door. Nothing of the product imports this package.
"""
