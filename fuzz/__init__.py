"""The attack on offsky: damaged files, made by seeds, judged by an independent reading.

``python -m fuzz --cases 2000 --seed 1``; `README.md` tells what is made and what counts as a
failure.
"""
