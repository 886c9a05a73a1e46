"""What Python objects hold: where a function finds tensors and numbers, and what was read of it.

Read `slots.py` first: a slot is one place (an attribute, an item, a variable) that can be looked at
again and assigned. `names.py`, `classes.py`, `thread_slots.py` and `inside.py` say which slots a
function, a class, a thread or a method leads to; `things.py` what kinds of objects there are, and
`sameness.py` when two values are the same.
"""
