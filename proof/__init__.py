"""Proof that a build computes what the user's file says: above compiler, simulators and models."""
