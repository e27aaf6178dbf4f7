"""The one way from orders to products, behind every door."""
