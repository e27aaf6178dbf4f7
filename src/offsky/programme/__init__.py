"""Whole programmes: plans of many products, and who makes them."""
