"""Runs orch and its peers on the same work and compares what that costs."""
