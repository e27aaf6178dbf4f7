"""What is told from pixels before they are averaged: levels, noise, sources, a factor."""
