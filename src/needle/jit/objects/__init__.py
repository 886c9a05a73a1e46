"""What Python objects hold: where a function finds tensors and numbers, and what was read of it.

Read `slots.py` first: a slot is one place (an attribute, an item, a variable) that can be looked at
again and assigned. `containers.py`, `names.py`, `classes.py` and `thread_slots.py` say which slots
an object, a function, a class or a thread leads to; `things.py` what kinds of objects there are,
and what a method or a partial leads to; `contents.py` what they hold that has no slots, and
`sameness.py` when two values are the same.
"""
