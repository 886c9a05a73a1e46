"""Guards: is the world still the one that a program was made in?

Read `guards.py` first. A guard is a `Look` (`looks.py`) at what a function read; `pins.py` says of
one slot whether it still holds what it held, and `news.py` tells cheaply that nothing happened.
"""
