"""From products to pages: what is gathered, judged, rendered and written."""
