"""Proof that nothing got stuck and that the books agree.

sweep           payments that rest in the middle are advanced, retried, compensated or escalated
verification    every payment is rebuilt from its events and compared
"""
